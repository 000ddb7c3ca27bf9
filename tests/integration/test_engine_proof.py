"""Exactly one effect of every input, through three stages that are killed again and again, on real servers.

Workers are operating system processes, killed by SIGKILL at random moments, one by one and all at once. Afterwards
every input has taken effect once, every number a stage gave is there once, and a recomputation from the inputs
gives every output again, byte for byte.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import engine_toys
import pytest
from engine_runs import (
    SHARDS,
    Feed,
    ToyRun,
    effect_count,
    effects,
    engine_of,
    eventually,
    feed_slowly,
    fresh_topics,
    sequences,
    unsent_batches,
)

from infra.postgres.migrate import migrate
from infra.servers import EmbeddedBroker, RealKafka, start_postgres
from schemas.topics import DECISION, FEATURE_SNAPSHOT, FEEDBACK_SCORE, MARKET_MARK
from streams.offline.recompute import Recomputed, recompute_shard


@pytest.fixture
def runs(tmp_path: Path, database: str) -> Iterator[Callable[..., ToyRun]]:
    """A function that makes a run on a broker; whatever still lives at the end is killed."""
    migrate(database)
    made: list[ToyRun] = []

    def make(bootstrap: str, **settings: object) -> ToyRun:
        instances = bool(settings.pop("instances", False))
        made.append(ToyRun(bootstrap, database, tmp_path, dict(settings), instances))
        return made[-1]

    yield make
    for run in made:
        run.kill_all()


@pytest.fixture
def kafka(real_kafka: RealKafka) -> Iterator[RealKafka]:
    """Real Kafka with the platform's topics, empty."""
    with fresh_topics(real_kafka.bootstrap):
        yield real_kafka


def recompute(run: ToyRun, stage: str, shard: str) -> Recomputed:
    """Compare a shard's outputs with a recomputation."""
    hosting = engine_toys.HOSTINGS[stage]
    return asyncio.run(recompute_shard(engine_of(run), hosting, shard))


def kill_at_random(run: ToyRun, rounds: int, pause_s: tuple[float, float], seed: int) -> int:
    """Kill one worker, or all of them, and start them again, ``rounds`` times; return how many died."""
    choice = random.Random(seed)
    died = 0
    for number in range(rounds):
        time.sleep(choice.uniform(*pause_s))
        names = list(run.workers)
        doomed = names if number % 4 == 3 else [choice.choice(names)]
        for name in doomed:
            run.workers[name].send(9)
        for name in doomed:
            assert run.workers[name].kill() == -9, f"{name} had ended by itself\n{run.logs()}"
            run.start(name)
        died += len(doomed)
    return died


def assert_exactly_once(run: ToyRun, count: int) -> None:
    """Every input has taken effect once; every number is there; everything follows from the inputs."""
    found = effects(run.dsn)
    order = found.pop("order")
    expected = {f"{kind}:{number}" for kind in ("Decision", "MarketMark") for number in range(count)}
    assert found.keys() == expected, "0 lost, nothing invented"
    assert set(found.values()) == {1}, "0 doubled"
    assert order == 2 * count
    assert sequences(run.bootstrap, DECISION.name, 0) == {"decider/0": list(range(1, count + 1))}
    scores = [sequences(run.bootstrap, FEEDBACK_SCORE.name, number) for number in range(engine_toys.PARTITIONS)]
    assert sum(len(numbers["feedback/0"]) for numbers in scores) == count
    assert all(numbers["feedback/0"] == list(range(1, len(numbers["feedback/0"]) + 1)) for numbers in scores)
    marks = sequences(run.bootstrap, MARKET_MARK.name, 0)
    assert sum(map(len, marks.values())) == count
    assert all(after > before for numbers in marks.values() for before, after in pairwise(numbers))
    for stage, shard in SHARDS:
        result = recompute(run, stage, shard)
        assert result.first_difference is None, f"{stage}/{shard}: {result.first_difference}"
        assert result.matched == result.outputs > 0
    assert any(sequences(run.bootstrap, FEATURE_SNAPSHOT.name, 0))


@pytest.mark.kafka
def test_kills_lose_nothing_and_double_nothing_on_kafka(
    kafka: RealKafka, runs: Callable[..., ToyRun], record_property: Callable[[str, object], None]
) -> None:
    run = runs(kafka.bootstrap, instances=True)
    for name in ("experts", "decider", "feedback"):
        run.start(name)
    feed = Feed(kafka.bootstrap)
    count = 4000
    feeding = feed_slowly(feed, count, 300)
    eventually("first effect", lambda: effect_count(run.dsn) > 0, run)
    died = kill_at_random(run, 10, (0.2, 2.0), seed=3)
    feeding.join(60)
    recovery_s = eventually("last effect", lambda: effect_count(run.dsn) >= count, run)
    eventually("empty outbox", lambda: unsent_batches(run.dsn) == 0, run)
    record_property("kills", died)
    record_property("recovery_s", round(recovery_s, 2))
    assert run.stop_all() == {"experts": 0, "decider": 0, "feedback": 0}, run.logs()
    assert_exactly_once(run, count)


@pytest.mark.embedded
def test_kills_lose_nothing_and_double_nothing_on_the_embedded_broker(
    embedded_broker: Callable[..., EmbeddedBroker], runs: Callable[..., ToyRun]
) -> None:
    """Two stages on one topic in one process, here: each begins where it stands, not where its neighbour does."""
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True)
    for name in ("experts", "decider+feedback"):
        run.start(name)
    feed = Feed(broker.bootstrap)
    count = 1500
    feeding = feed_slowly(feed, count, 200)
    eventually("first effect", lambda: effect_count(run.dsn) > 0, run)
    kill_at_random(run, 2, (0.2, 1.5), seed=5)
    run.kill_all()
    for name in ("experts", "decider+feedback"):
        run.start(name)
    feeding.join(60)
    eventually("last effect", lambda: effect_count(run.dsn) >= count, run)
    eventually("empty outbox", lambda: unsent_batches(run.dsn) == 0, run)
    assert set(run.stop_all().values()) == {0}, run.logs()
    assert_exactly_once(run, count)


@pytest.mark.embedded
def test_a_database_that_is_killed_and_comes_back_costs_nothing(
    embedded_broker: Callable[..., EmbeddedBroker], tmp_path: Path
) -> None:
    """The power cut comes while batches are committed; the workers wait, find out what had arrived, and go on."""
    broker = embedded_broker(engine_toys.topic_partitions())
    server = start_postgres(tmp_path / "own")
    try:
        migrate(server.dsn)
        run = ToyRun(broker.bootstrap, server.dsn, tmp_path, {"embedded": True})
        for name in ("experts", "decider+feedback"):
            run.start(name)
        feed = Feed(broker.bootstrap)
        count = 1200
        feeding = feed_slowly(feed, count, 150)
        eventually("first effect", lambda: effect_count(run.dsn) > 0, run)
        for _ in range(2):
            time.sleep(1.0)
            server.kill()
            time.sleep(1.0)
            server.restart()
        feeding.join(60)
        eventually("last effect", lambda: effect_count(run.dsn) >= count, run)
        eventually("empty outbox", lambda: unsent_batches(run.dsn) == 0, run)
        assert set(run.stop_all().values()) == {0}, run.logs()
        assert run.lives == 2, "no worker was started again"
        assert_exactly_once(run, count)
        run.kill_all()
    finally:
        server.stop()
