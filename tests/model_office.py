"""A running platform as far as releases of models go: the control worker's desk and stage, and sinks, on real rows."""

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psycopg
from model_artefacts import small_spec
from money_events import decision
from set_policies import weights
from typer.testing import CliRunner, Result

from agents.control.stage import Control
from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.stage import ShardState, run_step
from infra.artefacts import write_artefact
from infra.examination import examine
from infra.models.keys import development_key
from infra.models.spec import ArtefactSpec
from infra.models.store import store_of
from infra.people import PersonalKey, development_people, reader_of
from infra.postgres.commands import read_commands
from infra.postgres.projections import Projections
from infra.settings import load_settings
from schemas.decisions import Decision
from schemas.event import Event, Heartbeat
from schemas.feedback import ModelRelease
from schemas.orders import Claimed
from schemas.values import NS_PER_S
from streams.cli import app
from streams.composition import build_stage, compose
from streams.model_alarm import alarm_of
from streams.release_desk import ReleaseDesk

RUNNER = CliRunner()
TRIAL = {
    "account": "main",
    "policy": "canary",
    "horizon_s": 10,
    "instruments": ["SIM:BTCUSD"],
    "share": "0.1",
    "risk_budget": "0.2",
}
SEEN = {"spread_relative": 0.0002, "cost.excess": 0.0, "cost.fee": 0.0001}


def policy_spec(name: str) -> ArtefactSpec:
    """Return the spec of a model that reads what the decider gives."""
    return msgspec.structs.replace(small_spec(VOTE_FEATURES, CONTEXT_FEATURES, name), schema=SCHEMA)


def policy_artefact(store: Path, name: str, seed: int = 1, key: PersonalKey | None = None) -> str:
    """Write a model with random weights that reads what the decider gives, and return its address."""
    return write_artefact(store, weights(seed), policy_spec(name), key or development_key())


class ModelOffice:
    """A database, a store, two people, and a thread that stands for the control worker and the sinks."""

    def __init__(self, dsn: str, folder: Path, **more: Any) -> None:
        self.dsn, self.folder, self.store = dsn, folder, folder / "models"
        self.champion = policy_artefact(self.store, "old", seed=9)
        self.overrides: dict[str, Any] = {
            "postgres.dsn": dsn,
            "run.directory": str(folder),
            "models.directory": str(self.store),
            "models.champion": self.champion,
            "models.gate_decisions_min": 200,
            "strategies.committee.policy": "champion",
            "strategies.pulse.share": "0.1",
            "strategies.trial": TRIAL,
            **development_people(folder),
            **more,
        }
        (folder / "run.json").write_text(json.dumps({"overrides": self.overrides}))
        self.settings = load_settings(None, self.overrides)
        self.desk = ReleaseDesk(dsn, self.settings, store_of(self.settings, alarm_of(dsn, "control")))
        self.people = reader_of(self.settings.people.allow_list_file)
        self._numbers = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "ModelOffice":
        self._thread.start()
        return self

    def __exit__(self, *of: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _run(self) -> None:
        stage, state = Control(), ShardState()
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            newest = 0
            while not self._ended.is_set():
                for row in await read_commands(connection, newest):
                    newest = row.ordinal
                    event = await self.desk.examined(examine(self.people, row.event))
                    _, outputs = run_step(stage, state, event)
                    await Projections(connection).write(list(outputs))
                await asyncio.sleep(0.02)

    def write(self, events: list[Event]) -> None:
        """Keep events as the sinks do."""

        async def run() -> None:
            async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
                await Projections(connection).write(events)

        asyncio.run(run())

    def begin_execution(self) -> None:
        """Let execution begin, without which nothing can be approved."""
        stage, state = build_stage(compose(self.settings), "execution"), ShardState()
        now_ns = time.time_ns()
        run_step(stage, state, Heartbeat(key="h", event_time_ns=now_ns, available_at_ns=now_ns, event_id="beat"))
        run_step(stage, state, Claimed(key="x", event_time_ns=0, available_at_ns=0, event_id="claimed", epoch=1))
        with psycopg.connect(self.dsn) as connection:
            for key in ("limits", "desk"):
                connection.execute(
                    "INSERT INTO shard_state (stage, shard, key, value) VALUES ('execution', '0', %s, %s)",
                    (key, msgspec.msgpack.encode(state[key])),
                )

    def released(self, event: ModelRelease) -> None:
        """Keep a release that did not come from a person."""
        self._numbers += 1
        self.write([msgspec.structs.replace(event, event_id=f"release-{self._numbers}")])

    def decide(self, model: str, stage: str, advantage: float, count: int = 400) -> None:
        """Let a model and the champion decide at the same tallies, the champion wanting nothing.

        The mid moves by a tenth of a per cent each second, up with the probability (1 + advantage) / 2; the model is
        long for 40 of each 100 seconds.
        """
        draws = np.random.default_rng(1)
        moves = np.where(draws.random(count) < (1 + advantage) / 2, 1.001, 1 / 1.001)
        mids = 100.0 * np.concatenate(([1.0], np.cumprod(moves[:-1])))
        begin_ns = time.time_ns()
        strategy = "committee" if stage == "SHADOW" else "trial"
        events: list[Event] = []
        for number, mid in enumerate(mids):
            at_ns = begin_ns + number * NS_PER_S
            common = {
                "at_ns": at_ns,
                "mid": int(mid * 10**8),
                "tally_id": f"tally-{stage}-{number}",
                "observation": SEEN,
            }
            named: tuple[tuple[str, str, str, float], ...] = (
                ("baseline", "CHAMPION", "committee", 0.0),
                (model, stage, strategy, 1.0 if number % 100 < 40 else 0.0),
            )
            for policy, policy_stage, whose, target in named:
                name = f"{policy}-{stage}-{number}"
                ids = {"event_id": name, "decision_id": name}
                made: Decision = decision(
                    target, number, policy=policy, policy_stage=policy_stage, strategy=whose, **ids, **common
                )
                events.append(made)
        self.write(events)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the record."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def say(self, *arguments: str) -> Result:
        """Run a command on this run."""
        return RUNNER.invoke(app, [*arguments, "--run", str(self.folder)], env={"COLUMNS": "250"})

    def told(self, *arguments: str) -> Any:
        """Run a command that must succeed and return what it tells programs."""
        result = self.say(*arguments, "--json")
        assert result.exit_code == 0, result.output + result.stderr
        return json.loads(result.stdout)
