"""A stretch of a real run on real Kafka, from a kept snapshot: equal to the byte, and one changed bit is located."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import engine_toys
import msgspec
import psycopg
import pytest
from changed_stage import changed, flip_lowest_bit, one_bit
from engine_runs import Feed, ToyRun, engine_of, eventually, fresh_topics, unsent_batches

from infra.postgres.migrate import migrate
from infra.servers import RealKafka
from schemas.decisions import Decision
from schemas.market import Trade
from schemas.opinions import MarketMark
from schemas.topics import DECISION, MARKET_EVENT, MARKET_MARK
from streams.engine.lane import lane_of
from streams.engine.ports import StageHosting
from streams.engine.shard import Progress
from streams.offline.log_reader import RecomputeImpossible
from streams.offline.question import Question, Stretch
from streams.offline.recompute import Recomputed, recompute_shard

pytestmark = pytest.mark.kafka
_PORTION = 200
EXPERTS, DECIDER = engine_toys.HOSTINGS["experts"], engine_toys.HOSTINGS["decider"]
SHARD = lane_of(MARKET_EVENT.name, 0)


@pytest.fixture
def run(real_kafka: RealKafka, tmp_path: Path, database: str) -> Iterator[ToyRun]:
    """Two stages on real Kafka whose shards are kept whole every second."""
    migrate(database)
    with fresh_topics(real_kafka.bootstrap):
        toys = ToyRun(real_kafka.bootstrap, database, tmp_path, {"snapshot_interval_s": 1.0}, instances=True)
        yield toys
        toys.kill_all()


def _is_kept(run: ToyRun, marks: int) -> bool:
    """Tell whether the decider was kept whole after so many marks."""
    with psycopg.connect(run.dsn) as connection:
        row = connection.execute(
            "SELECT progress FROM shard_snapshot WHERE stage = 'decider' ORDER BY batch DESC LIMIT 1"
        ).fetchone()
    if row is None:
        return False
    progress = msgspec.msgpack.decode(bytes(row[0]), type=Progress)
    return progress.next_offsets.get(lane_of(MARKET_MARK.name, 0), 0) == marks


def _feed_until_experts_are_kept(run: ToyRun, feed: Feed) -> None:
    """Write trades one by one until the experts were kept whole: they are only when something new is committed."""

    def kept() -> bool:
        feed.trades(1)
        with psycopg.connect(run.dsn) as connection:
            row = connection.execute(
                "SELECT 1 FROM shard_snapshot WHERE stage = 'experts' AND shard = %s", (SHARD,)
            ).fetchone()
        return row is not None

    eventually("a snapshot of the experts", kept, run)


def _feed(run: ToyRun, feed: Feed) -> int:
    """Write a portion of trades, wait until the decider was kept whole behind them, and return the time."""
    feed.trades(_PORTION)
    eventually("a snapshot", lambda: _is_kept(run, feed.sent), run)
    now_ns = time.time_ns()
    time.sleep(0.3)  # A batch taken 100 ms after a Heartbeat begins with another, so what follows lies behind this.
    return now_ns


def test_a_stretch_of_a_run_with_a_kill_is_replayed_and_a_changed_bit_is_located(run: ToyRun) -> None:
    feed = Feed(run.bootstrap)
    for name in ("experts", "decider"):
        run.start(name)
    _feed_until_experts_are_kept(run, feed)
    begin_ns = _feed(run, feed)
    before = feed.sent  # The stretch begins when so many marks were decided on.
    run.workers["decider"].kill()
    run.start("decider")
    end_ns = _feed(run, feed)
    _feed(run, feed)
    eventually("an empty outbox", lambda: unsent_batches(run.dsn) == 0, run)
    assert run.stop_all() == {"experts": 0, "decider": 0}, run.logs()

    def replay(hosting: StageHosting, ask: Question, code: str = "1") -> Recomputed:
        engine = replace(engine_of(run), code_version=code)
        return asyncio.run(recompute_shard(engine, hosting, SHARD if hosting.name == "experts" else "0", ask))

    # The deciders' clock is the wall's, the experts' is the number of the trade.
    for hosting, ask in (
        (DECIDER, Question(Stretch(begin_ns, end_ns))),
        (EXPERTS, Question(Stretch(before, before + _PORTION - 1))),
    ):
        stretch = replay(hosting, ask)
        assert stretch.first_difference is None
        assert stretch.since_batch > 0
        assert 0 < stretch.matched == stretch.outputs
    decider = replay(DECIDER, Question(Stretch(begin_ns, end_ns)))
    assert decider.matched == _PORTION
    assert decider.inputs > _PORTION, "time itself is an input that came another way"

    marks = replay(changed(EXPERTS, Trade, 77, one_bit), Question()).first_difference
    assert marks is not None
    assert (marks.cause.lane, marks.cause.offset, marks.topic) == (SHARD, 76, MARKET_MARK.name)
    assert [field.path for field in marks.fields] == ["mid"]
    bit = changed(DECIDER, MarketMark, 31, one_bit)
    decision = replay(bit, Question(Stretch(begin_ns, end_ns))).first_difference
    assert decision is not None
    assert (decision.topic, decision.number) == (DECISION.name, before + 31)
    assert (decision.cause.lane, decision.cause.offset) == (lane_of(MARKET_MARK.name, 0), before + 30)
    assert isinstance(decision.logged, Decision)
    assert [(f.path, f.recomputed, f.logged) for f in decision.fields] == [
        ("target", repr(flip_lowest_bit(0.5)), "0.5")
    ]
    with pytest.raises(RecomputeImpossible, match="made by code 1 with settings toy, but this is code 2"):
        replay(DECIDER, Question(Stretch(begin_ns, end_ns)), code="2")
