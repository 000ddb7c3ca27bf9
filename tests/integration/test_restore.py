"""Postgres is set back to a backup under its stages: they stop and say so; after a restore nothing is doubled."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import engine_toys
import psycopg
import pytest
from backups import Backup, sibling
from engine_runs import CODEC, Feed, ToyRun, effects, engine_of, eventually, exit_code, fresh_topics, text_of

from infra.postgres.migrate import migrate
from infra.postgres.restores import why_no_worker_may_start
from infra.servers import ChildProcess, EmbeddedPostgres, RealKafka
from schemas.topics import DECISION
from streams.offline.log_reader import LogReader
from streams.restore import RestoreOrder, RestoreRefused, Restoring

STAGES = ("experts", "decider", "feedback")
PART = 300
DURABLE_S = 5.0
"""After so long Kafka has been told of the last checkpoints: written each second, told two after, each second."""


class Died(BaseException):
    """The command ended in the middle: nothing of it may catch this and go on."""


@pytest.fixture
def run(real_kafka: RealKafka, database: str, tmp_path: Path) -> Iterator[ToyRun]:
    """Toy workers on real Kafka with empty topics."""
    migrate(database)
    with fresh_topics(real_kafka.bootstrap):
        toys = ToyRun(real_kafka.bootstrap, database, tmp_path, {}, instances=True)
        yield toys
        toys.kill_all()


def _feed_and_stop(run: ToyRun, feed: Feed, effect: Callable[[], int], count: int) -> None:
    """Start all stages, feed, wait for every effect and until Kafka knows of it; stop in order."""
    for stage in STAGES:
        run.start(stage)
    wanted = effect() + count
    feed.trades(count)
    eventually("the effects", lambda: effect() >= wanted, run, 60)
    _wait_until_kafka_knows(run)
    assert set(run.stop_all().values()) == {0}, run.logs()


def _wait_until_kafka_knows(run: ToyRun) -> None:
    until = time.monotonic() + DURABLE_S
    eventually("group offsets", lambda: time.monotonic() > until, run)


def _effects(dsn: str) -> Counter[str]:
    return Counter({key: count for key, count in effects(dsn).items() if key.startswith("Decision:")})


def _restoring(run: ToyRun, die_after: str | None = None, **more: object) -> Restoring:
    def die() -> NoReturn:
        raise Died

    def observe(step: str) -> None:
        if step == die_after:
            die()

    hostings = [engine_toys.HOSTINGS[stage] for stage in STAGES]
    order = RestoreOrder(author="test", why="the disk broke", quiet_s=0.3, dry_run=bool(more.get("dry_run")))
    return Restoring(engine_of(run), hostings, order, observe)


def _refusals(run: ToyRun, stages: tuple[str, ...] = STAGES) -> dict[str, str]:
    """Start workers that must all end with 2 and one sentence; return what each says."""
    refused: dict[str, ChildProcess] = {stage: run.start(stage) for stage in stages}
    run.workers.clear()
    codes = {stage: exit_code(child, 60) for stage, child in refused.items()}
    assert codes == dict.fromkeys(stages, 2), run.logs()
    texts = {stage: text_of(child).strip() for stage, child in refused.items()}
    assert not any("Traceback" in text for text in texts.values()), texts
    # A broker that has just begun may make its client say so before.
    told = {stage: text.splitlines()[-1] for stage, text in texts.items()}
    assert all("tradermind restore" in sentence for sentence in told.values()), told
    return told


def _decisions(run: ToyRun) -> Counter[int]:
    """Return the number of each decision -> how often a reader takes it that drops what it has seen."""
    reader = LogReader(run.bootstrap, (DECISION.name, 0))
    newest = (0, 0)
    taken: Counter[int] = Counter()
    while (record := reader.next()) is not None:
        event = CODEC.decode(record.topic, record.value, record.headers)
        if (event.generation, event.seq) > newest:
            newest = (event.generation, event.seq)
            taken[event.mid] += 1
    reader.close()
    return taken


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.campaign
def test_a_database_that_was_set_back_stops_every_stage_until_it_is_restored(
    run: ToyRun, postgres_server: EmbeddedPostgres
) -> None:
    feed = Feed(run.bootstrap)
    _feed_and_stop(run, feed, lambda: len(_effects(run.dsn)), PART)
    backup = Backup(postgres_server.dsn, run.dsn)
    _feed_and_stop(run, feed, lambda: len(_effects(run.dsn)), PART)
    backup.put_back()
    assert len(_effects(run.dsn)) == PART, "half of what was done is forgotten"

    told = _refusals(run)
    assert all("Postgres was set back" in text for text in told.values()), told
    lost = ToyRun(run.bootstrap, sibling(postgres_server.dsn, run.dsn, "empty"), run.directory, {}, instances=True)
    migrate(lost.dsn)
    assert all("This database knows nothing of" in text for text in _refusals(lost, ("experts", "decider")).values())

    assert _restoring(run, dry_run=True).run().report["shards"] == 4
    _refusals(run, ("decider",))
    with pytest.raises(Died):
        _restoring(run, "CLAIMED").run()
    assert why_no_worker_may_start(run.dsn) is None, "nothing was written, so nothing is kept from anybody"
    with pytest.raises(Died):
        _restoring(run, "WRITTEN").run()
    assert why_no_worker_may_start(run.dsn), "until it is finished no worker may start"
    done = _restoring(run).run()
    assert why_no_worker_may_start(run.dsn) is None
    passed = done.report["passed_over"]
    assert sum(end - start for start, end in passed["decider/0"].values()) >= PART
    with psycopg.connect(run.dsn) as connection:
        audit = connection.execute("SELECT step, author, why FROM restores").fetchall()
        assert audit == [("DONE", "test", "the disk broke")]
        with pytest.raises(psycopg.errors.RaiseException, match="never changed"):
            connection.execute("DELETE FROM restores")

    _feed_and_stop(run, feed, lambda: len(_effects(run.dsn)), PART)
    expected = [*range(PART), *range(2 * PART, 3 * PART)]
    assert _effects(run.dsn) == Counter({f"Decision:{number}": 1 for number in expected}), "none twice, none again"
    assert _decisions(run) == Counter(range(3 * PART)), "whoever reads along misses nothing, and sees nothing twice"


@pytest.mark.kafka
@pytest.mark.slow
def test_a_crash_that_leaves_things_in_flight_is_no_rewind_and_nothing_is_restored_under_a_worker(run: ToyRun) -> None:
    feed = Feed(run.bootstrap)
    for life in range(3):
        for stage in STAGES:
            run.start(stage)
        done = len(_effects(run.dsn))
        feed.trades(2 * PART)
        # The last life's records are only stepped by workers that have looked, and found nothing.
        wanted = feed.sent if life == 2 else done + 1
        eventually("effects", lambda wanted=wanted: len(_effects(run.dsn)) >= wanted, run, 60)
        if life < 2:
            with pytest.raises(RestoreRefused, match="stop all workers first"):
                _restoring_at_once(run)
            run.kill_all()
    assert set(run.stop_all().values()) == {0}, run.logs()
    assert _effects(run.dsn) == Counter({f"Decision:{number}": 1 for number in range(feed.sent)})


def _restoring_at_once(run: ToyRun) -> None:
    hostings = [engine_toys.HOSTINGS[stage] for stage in STAGES]
    order = RestoreOrder(author="test", why="none", quiet_s=0.3, departure_s=0.1)
    Restoring(engine_of(run), hostings, order, lambda _: None).run()
