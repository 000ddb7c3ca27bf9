"""Any stretch of a run, recomputed from the snapshot before it; the first difference is found and shown."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import engine_toys
import psycopg
import pytest
from changed_stage import changed, flip_lowest_bit, one_bit
from engine_runs import CODEC, trade
from memory_log import MemoryLog
from msgspec.structs import replace as replaced

from infra.postgres.checkpoints import ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.patient_store import RunFacts, ShardName
from infra.servers import EmbeddedPostgres
from schemas.event import Event
from schemas.market import Trade
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark
from schemas.partition import partition_of
from schemas.topics import DECISION, EXPERT_ALERT, MARKET_EVENT, MARKET_MARK
from streams.engine.lane import lane_of
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings, StageHosting
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.engine.snapshots import SnapshotPlan
from streams.offline.log_reader import RecomputeImpossible
from streams.offline.question import WHOLE, Question, Stretch, time_ns
from streams.offline.recompute import Recomputed, recompute_shard_over

TRADES = 300
CHUNK = 20
EXPERTS = engine_toys.HOSTINGS["experts"]
DECIDER = replace(engine_toys.HOSTINGS["decider"], wall_clock=False)
"""The run's clock is the trades' number."""
LANE = (MARKET_EVENT.name, 0)
MARKS = (MARKET_MARK.name, 0)
FIRST = RunFacts("cluster", "1", "toy")
SECOND = RunFacts("cluster", "2", "toy")
MIDDLE = Question(Stretch(120, 180))


@dataclass
class ToyLine:
    """Two toy stages over a log in memory and checkpoints in Postgres; a snapshot after every commit."""

    dsn: str
    log: MemoryLog = field(default_factory=MemoryLog)

    def feed(self, numbers: range) -> None:
        """Write trades."""
        for number in numbers:
            event = trade(number)
            lane = (MARKET_EVENT.name, partition_of(event.key, engine_toys.PARTITIONS))
            self.log.append(lane, event.key.encode(), CODEC.encode(MARKET_EVENT.name, event))

    async def experts(self, hosting: StageHosting, facts: RunFacts, records: range) -> None:
        """Step records of the first partition, as a worker does."""
        core = ShardCore(hosting, lane_of(*LANE), 0, CODEC, engine_toys.PARTITIONS)
        store = ShardStore(self.dsn, ShardName("experts", core.shard, "test"), durable=False)
        shard = OneTopicShard(core, store, facts, Sender(SimpleNamespace(producer=self.log)), 3600.0)
        shard.snapshots = SnapshotPlan(1e-9, 72)
        await shard.take_up(await store.claim(facts))
        for first in range(records.start, records.stop, CHUNK):
            await shard.offer(self.log.lanes[LANE][first : min(first + CHUNK, records.stop)])
            await shard.checkpoint()
        await shard.close()

    async def decider(self, hosting: StageHosting, facts: RunFacts, records: range) -> None:
        """Step marks, and then the alerts up to the same time, as a worker does."""
        core = ShardCore(hosting, "0", 0, CODEC, engine_toys.PARTITIONS)
        store = ShardStore(self.dsn, ShardName("decider", "0", "test"), durable=False)
        shard = OutboxShard(core, store, facts, Sender(SimpleNamespace(producer=self.log)), 100)
        shard.snapshots = SnapshotPlan(1e-9, 72)
        await shard.take_up(await store.claim(facts))
        running = asyncio.ensure_future(shard.run())
        async with asyncio.timeout(20):
            for first in range(records.start, records.stop, CHUNK):
                end = min(first + CHUNK, records.stop)
                await shard.offer(self.log.lanes[MARKS][first:end])
                while shard.committed_offsets.get(lane_of(*MARKS), 0) < end:
                    await asyncio.sleep(0.001)
                    if running.done():
                        running.result()  # A shard that ended by itself says why.
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def recompute(self, hosting: StageHosting, ask: Question = WHOLE, code: str = "1") -> Recomputed:
        """Recompute the stage's shard."""
        facts: dict[str, Any] = {"instrument_partitions": engine_toys.PARTITIONS, "settings_hash": "toy"}
        engine = EngineSettings(bootstrap="none", dsn=self.dsn, code_version=code, codec=CODEC, **facts)
        return recompute_shard_over(
            engine, hosting, "0" if hosting.name == "decider" else lane_of(*LANE), ask, self.log
        )

    def inputs(self) -> list[Trade]:
        """Return what the experts' shard reads."""
        return [CODEC.decode(MARKET_EVENT.name, record.value) for record in self.log.lanes[LANE]]

    def with_log(self) -> "ToyLine":
        """Return the same over a log of its own, to be spoilt."""
        return ToyLine(self.dsn, MemoryLog({lane: list(kept) for lane, kept in self.log.lanes.items()}))


def _line(database: str, experts: StageHosting = EXPERTS, decider: StageHosting = DECIDER) -> ToyLine:
    migrate(database)
    line = ToyLine(database)
    line.feed(range(TRADES))
    asyncio.run(line.experts(experts, FIRST, range(len(line.log.lanes[LANE]))))
    asyncio.run(line.decider(decider, FIRST, range(len(line.log.lanes[MARKS]))))
    return line


@pytest.fixture(scope="module")
def honest(postgres_server: EmbeddedPostgres) -> Iterator[ToyLine]:
    """A line whose stages are what they say. It is only read; a test that spoils the log takes it ``with_log``."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE stretches")
    yield _line(postgres_server.dsn_of("stretches"))
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE stretches WITH (FORCE)")


def _extra(outputs: Sequence[Event]) -> Sequence[Event]:
    facts: dict[str, Any] = {"level": AlertLevel.HIGH, "kind": "toy", "score": 1.0, "detail": "extra"}
    return [*outputs, AnomalyAlert(key="TOY:I0", event_time_ns=1, available_at_ns=1, **facts)]


def test_a_whole_run_and_any_stretch_of_it_are_equal_to_the_byte(honest: ToyLine) -> None:
    line = honest
    times = [event.available_at_ns for event in line.inputs()]
    marks = len(line.log.lanes[MARKS])
    assert len(times) == marks > 100
    for hosting in (EXPERTS, DECIDER):
        whole = line.recompute(hosting)
        assert (whole.first_difference, whole.inputs, whole.lead_in, whole.since_batch) == (None, marks, 0, 0)
        assert whole.matched == whole.outputs >= marks
        middle = line.recompute(hosting, MIDDLE)
        assert middle.first_difference is None
        assert middle.inputs == sum(120 <= time <= 180 for time in times)
        assert 0 < middle.matched == middle.outputs < whole.outputs
        assert middle.since_batch > 0
        assert middle.lead_in < CHUNK
        assert [made.version for made in middle.made_by] == [("1", "toy")]
        begun = line.recompute(hosting, Question(Stretch(None, 180)))
        ended = line.recompute(hosting, Question(Stretch(181, None)))
        assert begun.outputs + ended.outputs == begun.matched + ended.matched == whole.outputs
        assert begun.inputs + ended.inputs == whole.inputs
        assert (begun.first_difference, ended.first_difference) == (None, None)


def test_a_stretch_needs_the_log_from_its_snapshot_on_and_no_more(honest: ToyLine) -> None:
    line = honest.with_log()
    for lane in (LANE, MARKS, (DECISION.name, 0)):
        line.log.starts[lane] = 2 * CHUNK
    for hosting in (EXPERTS, DECIDER):
        with pytest.raises(RecomputeImpossible, match="only kept from offset 40 on"):
            line.recompute(hosting)
        middle = line.recompute(hosting, MIDDLE)
        assert middle.first_difference is None
        assert middle.matched == middle.outputs > 0
        with pytest.raises(RecomputeImpossible, match="only kept from offset 40 on"):
            line.recompute(hosting, Question(Stretch(30, 180)))


def test_outputs_that_are_not_kept_are_no_difference(honest: ToyLine) -> None:
    line = honest.with_log()
    line.log.starts[MARKS] = 2 * CHUNK
    with pytest.raises(RecomputeImpossible, match=r"market\.mark\.v1/0 is only kept from offset 40 on"):
        line.recompute(EXPERTS)


def test_one_bit_in_a_one_topic_stage_is_caught_and_located(honest: ToyLine) -> None:
    line = honest
    inputs = line.inputs()
    found = line.recompute(changed(EXPERTS, Trade, 47, one_bit)).first_difference
    assert found is not None
    assert (found.source, found.topic, found.partition) == (f"experts/{lane_of(*LANE)}", *MARKS)
    assert (found.cause.lane, found.cause.offset) == (lane_of(*LANE), 46)
    assert (found.cause.kind, found.cause.event_id) == ("Trade", inputs[46].event_id)
    assert (found.number, found.offset) == (46 * 65_536, 46)
    price = inputs[46].price
    assert [(one.path, one.recomputed, one.logged) for one in found.fields] == [("mid", str(price ^ 1), str(price))]
    assert isinstance(found.recomputed, MarketMark)
    assert isinstance(found.logged, MarketMark)
    assert str(found) == (
        f"output {46 * 65_536} on tradermind.market.mark.v1/0 differs in mid; it came of Trade at offset 46 of"
        " tradermind.market.event.v1/0."
    )


def test_one_bit_in_an_outbox_stage_is_caught_and_located_from_a_snapshot(honest: ToyLine) -> None:
    line = honest
    first = next(number for number, event in enumerate(line.inputs()) if event.available_at_ns >= 120)
    begin = line.recompute(DECIDER, MIDDLE).lead_in
    found = line.recompute(changed(DECIDER, MarketMark, begin + 5, one_bit), MIDDLE).first_difference
    assert found is not None
    assert (found.source, found.topic, found.number) == ("decider/0", DECISION.name, first + 5)
    assert (found.cause.kind, found.cause.lane, found.cause.offset) == ("MarketMark", lane_of(*MARKS), first + 4)
    assert found.cause.batch is not None
    sides = [(one.path, one.recomputed, one.logged) for one in found.fields]
    assert sides == [("target", repr(flip_lowest_bit(0.5)), "0.5")]
    assert found.as_json()["fields"] == [{"path": "target", "recomputed": sides[0][1], "logged": "0.5"}]
    assert found.as_json()["recomputed"]["type"] == "Decision"


@pytest.mark.parametrize("ask", [WHOLE, MIDDLE, Question(Stretch(120, None))])
def test_an_output_too_many_is_found_wherever_it_lies(database: str, ask: Question) -> None:
    """On its topic nothing else was to come in the stretch, so only what it says of its cause gives it away."""
    line = _line(database, experts=changed(EXPERTS, Trade, 70, lambda outputs: _extra(outputs)))
    assert 120 < line.inputs()[69].available_at_ns < 180
    found = line.recompute(EXPERTS, ask).first_difference
    assert found is not None
    assert (found.topic, found.recomputed, found.cause.offset) == (EXPERT_ALERT.name, None, 69)
    assert isinstance(found.logged, AnomalyAlert)
    assert "does not follow from the inputs" in str(found)


def test_a_decision_too_many_at_the_end_of_a_stretch_is_found_by_its_cause(database: str) -> None:
    def twice(outputs: Sequence[Event]) -> Sequence[Event]:
        return [*outputs, *(replaced(output, instrument="twice") for output in outputs)]  # type: ignore[call-arg]

    last = 60
    line = _line(database, decider=changed(DECIDER, MarketMark, last, twice))
    end_ns = line.inputs()[last - 1].available_at_ns
    found = line.recompute(DECIDER, Question(Stretch(end_ns - 20, end_ns))).first_difference
    assert found is not None
    assert (found.number, found.recomputed, found.cause.event_id) == (last + 1, None, found.logged.cause_id)
    before = line.recompute(DECIDER, Question(Stretch(end_ns - 20, end_ns - 1)))
    assert before.first_difference is None, "it is no part of what came before"


def test_an_output_that_was_lost_is_found(honest: ToyLine) -> None:
    line = honest.with_log()
    del line.log.lanes[DECISION.name, 0][80]
    found = line.recompute(DECIDER).first_difference
    assert found is not None
    assert (found.number, found.logged, found.cause.offset) == (81, None, 80)
    assert "is not in the log" in str(found)


def test_a_stretch_of_another_version_is_refused_and_the_rest_is_not(database: str) -> None:
    """The second version begins with what the first has not checkpointed, says other things, and keeps silent there."""
    migrate(database)
    line = ToyLine(database)
    line.feed(range(TRADES))
    half, end = 60, len(line.log.lanes[LANE])
    newer = changed(EXPERTS, Trade, 1, one_bit)
    asyncio.run(line.experts(EXPERTS, FIRST, range(half)))
    asyncio.run(line.experts(newer, SECOND, range(half, end)))
    change_ns = line.inputs()[half - 1].available_at_ns
    with pytest.raises(RecomputeImpossible, match=r"batches 4 to \d+ were made by code 2 with settings toy") as refused:
        line.recompute(EXPERTS)
    assert "--any-version" in str(refused.value)
    first = line.recompute(EXPERTS, Question(Stretch(None, change_ns - 1)))
    assert (first.first_difference, first.inputs) == (None, half - 1)
    second = line.recompute(newer, Question(Stretch(change_ns + 1, None)), code="2")
    assert (second.first_difference, second.inputs, second.since_batch) == (None, end - half, 3)
    found = line.recompute(EXPERTS, Question(any_version=True))
    assert found.first_difference is not None
    assert found.first_difference.cause.offset == half
    assert [made.code_version for made in found.made_by] == ["1", "2"]


def test_a_shard_that_was_given_its_state_begins_there(honest: ToyLine) -> None:
    """What a rescale leaves behind: a snapshot, and nobody who held the shard before."""
    with psycopg.connect(honest.dsn) as connection:
        (kept_ns,) = connection.execute(
            "SELECT reached_ns FROM shard_snapshot WHERE stage = 'decider' AND batch = 3"
        ).fetchone() or (0,)
        connection.execute("UPDATE shard_version SET after_batch = 3 WHERE stage = 'decider'")
    try:
        whole = honest.recompute(DECIDER)
        assert (whole.first_difference, whole.since_batch) == (None, 3)
        assert whole.matched == whole.outputs > 0
        assert honest.recompute(DECIDER, MIDDLE).first_difference is None
        with pytest.raises(RecomputeImpossible, match=f"begins with what a rescale gave it, at {kept_ns} ns"):
            honest.recompute(DECIDER, Question(Stretch(1, 180)))
    finally:
        with psycopg.connect(honest.dsn) as connection:
            connection.execute("UPDATE shard_version SET after_batch = 0 WHERE stage = 'decider'")


def test_batches_that_nobody_wrote_down_are_refused(database: str) -> None:
    line = _line(database)
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM shard_version")
    with pytest.raises(RecomputeImpossible, match="a version that nobody wrote down"):
        line.recompute(DECIDER)
    assert line.recompute(DECIDER, Question(any_version=True)).first_difference is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1790000000123456789", 1_790_000_000_123_456_789),
        ("2026-11-21T15:00:00", 1_795_273_200_000_000_000),
        ("2026-11-21T16:00:00.000001+01:00", 1_795_273_200_000_001_000),
        ("2026-11-21", 1_795_219_200_000_000_000),
    ],
)
def test_times_are_taken_to_the_nanosecond(given: str, expected: int) -> None:
    assert time_ns(given) == expected


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="'noon' is no time"):
        time_ns("noon")
