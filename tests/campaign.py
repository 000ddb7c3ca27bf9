"""The whole platform as processes of their own on real servers, to be killed and started again.

Every worker is one process with a stable name in its consumer group, as it would run in production. The exchange
is a process, too, and keeps its own record: what it says is what happened.
"""

import json
import logging
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from patience import PATIENCE

from agents.sim.engine import VenueOrder
from agents.sim.venue_state import VenueAccount
from infra.audit_keys import development_overrides
from infra.kafka import log_ends
from infra.kafka_remake import delete_topics
from infra.kafka_topics import mend_topics
from infra.people import development_people
from infra.postgres.commands import Command, insert_command
from infra.postgres.migrate import migrate
from infra.servers.process import ChildProcess
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.control import ControlAction
from schemas.topics import TOPICS
from streams.composition import Run, compose
from streams.demo.servers import start_exchange, write_overrides
from streams.launch import WORKERS
from streams.processes import start_worker

SETTINGS = Path(__file__).resolve().parents[1] / "tradermind.toml"
LOG = logging.getLogger("campaign")
PROBE: dict[str, Any] = {"policy": "probe", "horizon_s": 1, "parameters": {"every": 2, "size": 0.5}}
SIMULATED: dict[str, Any] = {
    "run.seed": 11,
    "feed.kind": "simulated",
    "grid.step_ms": 200,
    "grid.horizons_s": [1],
    "strategies.committee": {**PROBE, "risk_budget": "0.01"},
    # Resting orders: some are filled while nobody of ours is alive to hear of it, or remembers them.
    "strategies.pulse": {**PROBE, "risk_budget": "0.02", "time_in_force": "GTC"},
    # What is proved here must not hang on how busy the machine is.
    "staleness": {"mark_ms": 30_000, "market_ms": 30_000, "decision_ms": 30_000},
    # Funding is charged at marks, of which the exchange has its own.
    "instruments": {"SIM:BTCUSD": {"funding_rate": 0}},
}
"""A simulated market in which two probes trade all the time."""
_POLL_S = 0.1
_STOP_S = 60.0


class Platform:
    """A run. ``start`` starts its workers; ``kill`` and ``restart`` are what the campaign is about."""

    def __init__(self, directory: Path, bootstrap: str, dsn: str, changes: Mapping[str, Any]) -> None:
        self.directory, self.bootstrap, self.dsn = directory, bootstrap, dsn
        self.workers: dict[str, ChildProcess] = {}
        self._stack = ExitStack()
        overrides = {
            "run.directory": str(directory),
            "kafka.bootstrap": bootstrap,
            "postgres.dsn": dsn,
            "influx.directory": str(directory / "influx"),
            **development_overrides(directory),
            **development_people(directory),
            **changes,
        }
        directory.mkdir(parents=True, exist_ok=True)
        self.run: Run = compose(load_settings(SETTINGS, overrides))
        migrate(dsn)
        mend_topics(bootstrap, topic_specs(self.run.settings))
        self.venue, self.exchange = start_exchange(self._stack, self.run, directory)
        self.run_file = write_overrides(directory, {**overrides, "venue.url": self.venue}, [[w] for w in WORKERS])
        self._database = psycopg.connect(dsn, autocommit=True)

    def start(self, name: str) -> None:
        """Start one worker, under the name that it keeps for ever."""
        assert name not in self.workers
        self.workers[name] = start_worker([name], self.run_file, SETTINGS, self.directory, instance=f"campaign-{name}")

    def start_all(self) -> None:
        """Start every worker."""
        for name in WORKERS:
            self.start(name)

    def kill(self, *names: str) -> None:
        """``kill -9`` workers, all of them before any is waited for."""
        doomed = [self.workers.pop(name) for name in names]
        for worker in doomed:
            worker.send(9)
        for worker in doomed:
            assert worker.kill() == -9, f"{worker.name} had ended before: {worker.last_lines(20)}"

    def stop(self, *names: str) -> None:
        """Ask workers to end, and see that each ends in order."""
        ending = {name: self.workers.pop(name) for name in names}
        for worker in ending.values():
            worker.send(15)
        for name, worker in ending.items():
            began = time.monotonic()
            code = worker.popen.wait(_STOP_S)
            LOG.info("%s ended with %d after %.1f s", name, code, time.monotonic() - began)
            assert code == 0, f"{name} ended with {code}: {worker.last_lines(20)}"

    def close(self) -> None:
        """End whatever still runs."""
        for worker in self.workers.values():
            worker.kill()
        self._database.close()
        self._stack.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what Postgres answers."""
        return self._database.execute(query.encode()).fetchall()

    def count(self, what: str) -> int:
        """Return a count, such as ``orders WHERE NOT final``."""
        return int(self.rows(f"SELECT count(*) FROM {what}")[0][0])

    def venue_says(self, path: str) -> bytes:
        """Return what the exchange says of itself."""
        with urllib.request.urlopen(f"{self.venue}/v1/{path}", timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def venue_orders(self) -> list[VenueOrder]:
        """Return every order that ever reached the exchange."""
        return msgspec.json.decode(self.venue_says("orders"), type=list[VenueOrder])

    def venue_accounts(self) -> dict[str, VenueAccount]:
        """Return the exchange's own record of the accounts."""
        return msgspec.json.decode(self.venue_says("account"), type=dict[str, VenueAccount])

    def until(self, what: str, holds: Callable[[], bool], limit_s: float = 90.0) -> None:
        """Wait until it holds; a worker that ends by itself fails at once, and so does a limit that is passed."""
        began = time.monotonic()
        limit = began + limit_s * PATIENCE
        while not holds():
            for name, worker in self.workers.items():
                assert worker.alive(), f"{name} ended with {worker.exit_code()}: {worker.last_lines(20)}"
            assert time.monotonic() < limit, f"{what} did not come within {limit_s * PATIENCE:g} s; {self.standing()}"
            time.sleep(_POLL_S)
        LOG.info("%s after %.1f s", what, time.monotonic() - began)

    def standing(self) -> str:
        """Return how far every worker is and what has become of orders, for a failure's message."""
        questions = (
            "SELECT stage, sum((counters->>'records')::int)::int, max(updated_at)::text FROM worker_status GROUP BY 1",
            "SELECT outcome, reason, count(*) FROM decisions GROUP BY 1, 2",
            "SELECT reasons::text, count(*), max(available_at_ns) FROM order_verdicts GROUP BY 1",
            "SELECT status, reason, count(*) FROM orders GROUP BY 1, 2",
            "SELECT level, kind, count(*) FROM alerts GROUP BY 1, 2",
        )
        logs = {name: worker.last_lines(2) for name, worker in self.workers.items()}
        return "\n".join([*(json.dumps(self.rows(question)) for question in questions), f"logs: {logs}"])

    def log_ends(self) -> dict[tuple[str, int], int]:
        """Return how far each topic partition of the platform goes."""
        partitions = self.run.settings.kafka.instrument_partitions
        names = [(topic.name, part) for topic in TOPICS.values() for part in range(topic.partitions(partitions))]
        return log_ends(self.bootstrap, names)

    def come_to_rest(self, still_s: float = 3.0) -> None:
        """Wait until nothing is written any more and the sinks have caught up."""
        last: Any = None
        since = time.monotonic()

        def still() -> bool:
            nonlocal last, since
            now = (self.log_ends(), self.count("order_events"), self.count("votes"), self.count("market_data"))
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since >= still_s

        self.until("rest", still, 120.0)

    def cancel_everything(self) -> None:
        """Order, as a person would, that all open orders be cancelled."""
        insert_command(self.dsn, Command("campaign", "the end of the campaign", ControlAction.CANCEL))


@contextmanager
def platform_on_fresh_topics(
    directory: Path, bootstrap: str, dsn: str, changes: Mapping[str, Any]
) -> Iterator[Platform]:
    """Give a run on a broker that other tests use, too: its topics are made afresh, and taken away at the end."""
    topics = [spec.name for spec in topic_specs(load_settings(SETTINGS, {}))]
    delete_topics(bootstrap, topics)
    made = Platform(directory, bootstrap, dsn, changes)
    try:
        yield made
    finally:
        made.close()
        delete_topics(bootstrap, topics)
