"""The trainer as people run it: a worker on the embedded broker and Postgres, killed in the middle of a training.

Experiences are written as feedback writes them. What the worker makes of them is read where others read it: candidates
on ``model.release``, artefacts in the store, the buffer's snapshot on disk, the checkpoint in Postgres.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest
from confluent_kafka import Producer
from demo_process import changed_settings, descendants_of
from model_artefacts import KEY, KEYS, small_spec, small_weights
from trainer_experiences import experience

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.trainer.state import STATE_KEY, TrainerState
from infra.artefacts import read_artefact, write_artefact
from infra.kafka import client_settings
from infra.servers import ChildProcess, EmbeddedBroker
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.codec import Codec
from schemas.feedback import ModelRelease, ReleaseStage
from schemas.schema_table import SchemaTable
from schemas.topics import MODEL_RELEASE, RL_EXPERIENCE
from streams.composition import Run, compose
from streams.demo.servers import write_overrides
from streams.offline.log_reader import LogReader
from streams.offline.question import Question
from streams.offline.verify import verify_run
from streams.processes import start_worker
from streams.trainer import online_terms
from streams.training.replay import Frozen, Replay
from streams.training.replay_file import find_snapshot

pytestmark = pytest.mark.train

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "tradermind.toml"
CODEC = Codec(SchemaTable.committed())
FIRST, EVERY = 120, 100
LIMIT_S = 180.0


def champion(store: Path) -> str:
    """Write a champion of random weights for the real features; return its address."""
    weights = small_weights(len(VOTE_FEATURES), len(CONTEXT_FEATURES), width=8)
    spec = msgspec.structs.replace(small_spec(VOTE_FEATURES, CONTEXT_FEATURES, name="first"), schema=SCHEMA)
    return write_artefact(store, weights, spec, KEY)


class TrainerRun:
    """One run with nothing but a trainer in it."""

    def __init__(self, directory: Path, bootstrap: str, dsn: str, **changes: Any) -> None:
        self.directory, self.bootstrap, self.dsn = directory, bootstrap, dsn
        self.store = directory / "models"
        overrides = {
            "run.directory": str(directory),
            "kafka.bootstrap": bootstrap,
            "postgres.dsn": dsn,
            "models.directory": str(self.store),
            "models.champion": champion(self.store),
            "trainer.enabled": True,
            "trainer.first_experiences": FIRST,
            "trainer.every_experiences": EVERY,
            "trainer.interval_ms": 1,
            "trainer.snapshot_every": 20,
            "trainer.fewest_transitions": 100,
            **changes,
        }
        self.run: Run = compose(load_settings(SETTINGS, overrides))
        self.run_file = write_overrides(directory, overrides, [["trainer"]])
        described = json.loads(self.run_file.read_text()) | {"embedded": True}
        self.run_file.write_text(json.dumps(described))
        self._producer = Producer({**client_settings(bootstrap), "linger.ms": 1})

    def start(self) -> ChildProcess:
        """Start the worker."""
        return start_worker(["trainer"], self.run_file, SETTINGS, self.directory)

    def write(self, numbers: range) -> None:
        """Write experiences as feedback does, the last of them twice, as after a crash of feedback."""
        for number in (*numbers, numbers[-1]):
            value = CODEC.encode(RL_EXPERIENCE.name, experience(number))
            self._producer.produce(RL_EXPERIENCE.name, value, key=b"main", partition=0)
        assert self._producer.flush(30) == 0

    def releases(self) -> list[ModelRelease]:
        """Return what lies on ``model.release``."""
        reader = LogReader(self.bootstrap, (MODEL_RELEASE.name, 0))
        found = []
        while (record := reader.next()) is not None:
            event = CODEC.decode(record.topic, record.value, record.headers)
            assert isinstance(event, ModelRelease)
            found.append(event)
        reader.close()
        return found

    def known(self) -> TrainerState:
        """Return the stage's counts in the newest checkpoint."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(
                "SELECT value FROM shard_state WHERE stage = 'trainer' AND key = %s", (STATE_KEY,)
            ).fetchone()
        return TrainerState() if row is None else msgspec.msgpack.decode(bytes(row[0]), type=TrainerState)

    def snapshot(self) -> Frozen:
        """Return the newest snapshot on disk."""
        terms = online_terms(self.run)
        found = find_snapshot(terms.directory, terms.transitions.identity)
        assert found.refusals == ()
        assert found.frozen is not None
        return found.frozen

    def expected(self, last: int) -> Frozen:
        """Return the buffer that experiences 1 to ``last`` make, each taken once."""
        replay = Replay(self.run.settings.trainer.capacity, online_terms(self.run).transitions)
        for number in range(1, last + 1):
            replay.take(experience(1).event_id, number, experience(number))
        return replay.frozen()

    def in_training(self) -> bool:
        """Whether a training has begun and is not done."""
        return any(
            (folder / "training.log").exists() and not (folder / "outcome.json").exists()
            for folder in (self.directory / "trainer" / "jobs").glob("*")
        )


def eventually(holds: Callable[[], Any], run: TrainerRun, worker: ChildProcess) -> None:
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert worker.alive(), worker.last_lines(20)
        assert time.monotonic() < limit, f"{run.known()} {run.releases()} {worker.last_lines(20)}"
        time.sleep(0.1)


@contextlib.contextmanager
def ended(worker: ChildProcess) -> Iterator[ChildProcess]:
    try:
        yield worker
        worker.send(15)
        assert worker.popen.wait(30) == 0, worker.last_lines(20)
    finally:
        worker.kill()


@pytest.mark.embedded
@pytest.mark.slow(seconds=60)
def test_killed_in_the_middle_of_a_training_it_goes_on_and_its_candidates_prove_themselves(
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker], database: str, tmp_path: Path
) -> None:
    settings = load_settings(SETTINGS, {})
    broker = embedded_broker({spec.name: spec.partitions for spec in topic_specs(settings)})
    run = TrainerRun(tmp_path, broker.bootstrap, database, **{"trainer.gradient_steps": 60, "trainer.nice": 0})
    worker = run.start()
    try:
        run.write(range(1, FIRST + 31))
        eventually(lambda: run.known().asked is not None and run.in_training(), run, worker)
        children = descendants_of(worker.pid)
        assert children, "the training is a process of its own"
        worker.send(9)
    finally:
        assert worker.kill() == -9
    assert run.releases() == [], "it was killed before the first candidate"
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "a training must not outlive its worker"
        time.sleep(0.05)
    # Time is the wall's, and these come at once: the first request is made a heartbeat after the last of them.
    last = FIRST + 30 + EVERY + 10
    run.write(range(FIRST + 31, last + 1))
    with ended(run.start()) as worker:
        eventually(lambda: len(run.releases()) >= 2, run, worker)
    _holds_each_experience_once(run, last)
    _candidates_prove_themselves(run)
    _a_recomputation_gives_the_same(run)


def _holds_each_experience_once(run: TrainerRun, last: int) -> None:
    known = run.known()
    assert (known.taken, known.lineage) == (last, experience(1).event_id)
    frozen = run.snapshot()
    assert frozen.position == known.saved
    expected = run.expected(frozen.position)
    assert all(np.array_equal(frozen.arrays[name], expected.arrays[name]) for name in expected.arrays)
    with psycopg.connect(run.dsn) as connection:
        rows = connection.execute(
            "SELECT key FROM shard_state WHERE stage = 'trainer' AND key LIKE 'tail/%'"
        ).fetchall()
    assert {key for (key,) in rows} == {f"tail/{number}" for number in range(known.saved + 1, last + 1)}


def _candidates_prove_themselves(run: TrainerRun) -> None:
    releases = run.releases()
    assert {release.release_stage for release in releases} == {ReleaseStage.CANDIDATE}
    assert len({release.sha256 for release in releases}) == len(releases) == 2
    for release in releases:
        artefact = read_artefact(run.store, release.sha256, KEYS)
        artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
        assert artefact.name == release.model
        assert artefact.spec.parent == run.run.settings.models.champion


def _a_recomputation_gives_the_same(run: TrainerRun) -> None:
    import asyncio

    (verdict,) = asyncio.run(verify_run(run.run, ask=Question(stages=("trainer",), any_version=True)))
    assert verdict.first_difference is None
    assert verdict.outputs == verdict.matched == 2


@pytest.mark.embedded
@pytest.mark.campaign
def test_a_demo_with_a_trainer_has_candidates_to_show(tmp_path: Path) -> None:
    store = tmp_path / "models"
    changes = (
        ('# directory = ".tradermind/models"', f'directory = "{store}"'),
        ("# champion = ", f'champion = "{champion(store)}"'),
    )
    (tmp_path / "tradermind.toml").write_text(changed_settings(changes))
    command = [sys.executable, "-m", "streams.cli", "demo", "--trainer", "--duration", "75", "--json"]
    command += ["--settings", str(tmp_path / "tradermind.toml"), "--directory", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert summary["dead_letters"] == {}
    assert summary["events_per_topic"][MODEL_RELEASE.name] >= 1
    made = [path.name for path in store.iterdir() if len(path.name) == 64]
    assert len(made) >= 1 + summary["events_per_topic"][MODEL_RELEASE.name]
    for sha256 in made:
        read_artefact(store, sha256, KEYS)
