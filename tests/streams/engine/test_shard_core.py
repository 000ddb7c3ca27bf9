"""A shard gives the same bytes for the same inputs, wherever it is cut off and taken up again."""

import msgspec
import pytest
from engine_runs import CODEC, trade
from engine_toys import HOSTINGS, PARTITIONS, mark
from every_event import example
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import DeadLetterReason
from schemas.decisions import Decision
from schemas.event import ORDINALS_PER_OFFSET, Event, Heartbeat, derive_id, stamp_position
from schemas.ingress import IngestTrade
from schemas.partition import partition_of
from schemas.topics import DECISION, INGEST_TRADE, MARKET_EVENT, MARKET_MARK
from streams.engine.ports import Outgoing, RawRecord, StageHosting, StageKind, WorkerFailed
from streams.engine.shard import ORIGIN_HEADER, ShardCore

OWN = [number for number in range(400) if partition_of(trade(number).key, PARTITIONS) == 0]


def raw(topic: str, offset: int, value: bytes | None, partition: int = 0, **more: object) -> RawRecord:
    """Return a record as fetched."""
    fields = {"key": b"k", "headers": (), "timestamp_ms": 1_700_000_000_000} | more
    return RawRecord(topic=topic, partition=partition, offset=offset, value=value, **fields)  # type: ignore[arg-type]


def market(offset: int) -> RawRecord:
    """Return the trade at an offset of partition 0; every fifth one names where it came from."""
    headers = ((ORIGIN_HEADER, b"1234567"),) if offset % 5 == 0 else ()
    return raw(MARKET_EVENT.name, offset, CODEC.encode(MARKET_EVENT.name, trade(OWN[offset])), headers=headers)


def core_of(stage: str = "experts", shard: str = f"{MARKET_EVENT.name}/0") -> ShardCore:
    """Return a fresh shard of a toy stage."""
    return ShardCore(HOSTINGS[stage], shard, 0, CODEC, PARTITIONS)


class Kept:
    """What a database keeps of a shard between its lives."""

    def __init__(self) -> None:
        self.progress = b""
        self.state: dict[str, bytes] = {}

    def write(self, core: ShardCore) -> None:
        """Take over a checkpoint."""
        self.progress = msgspec.msgpack.encode(core.progress)
        for key, value in core.touched_state().items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value

    def revive(self, stage: str, shard: str) -> ShardCore:
        """Return the shard as a new process takes it up."""
        core = core_of(stage, shard)
        core.restore(self.progress, dict(self.state), 1)
        return core


def as_read(sent: list[Outgoing]) -> list[Outgoing]:
    """Return what a reader takes of records that may have been sent again."""
    last: dict[tuple[str, int], int] = {}
    taken: list[Outgoing] = []
    for record in sent:
        seq = CODEC.decode(record.topic, record.value).seq
        if seq > last.get((record.topic, record.partition), -1):
            last[record.topic, record.partition] = seq
            taken.append(record)
    return taken


def by_lane(records: list[Outgoing]) -> dict[tuple[str, int], list[Outgoing]]:
    """Return records by topic partition: no reader relies on the order of two."""
    lanes: dict[tuple[str, int], list[Outgoing]] = {}
    for record in records:
        lanes.setdefault((record.topic, record.partition), []).append(record)
    return lanes


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["send", "checkpoint", "crash"])), max_size=20))
def test_a_one_topic_shard_repeats_itself_to_the_byte_after_any_crash(lives: list[tuple[int, str]]) -> None:
    count = 120
    whole = core_of()
    for offset in range(count):
        whole.take(market(offset))
    expected, _, _ = whole.drain()

    shard = f"{MARKET_EVENT.name}/0"
    kept, sent = Kept(), []
    core = kept.revive("experts", shard)
    position = 0
    for length, then in [*lives, (count, "checkpoint")]:
        for offset in range(position, min(position + length, count)):
            core.take(market(offset))
        position = core.next_offset(MARKET_EVENT.name, 0) or 0
        if then != "crash":
            sent += core.drain()[0]
        if then == "checkpoint":
            kept.write(core)
        if then == "crash":
            sent += core.drain()[0][: length // 2]  # Some of it may have arrived.
            core = kept.revive("experts", shard)
            position = core.next_offset(MARKET_EVENT.name, 0) or 0
    while position < count:
        core.take(market(position))
        position += 1
    sent += core.drain()[0]
    assert by_lane(as_read(sent)) == by_lane(expected)
    assert {key: core.state[key] for key in core.state} == {key: whole.state[key] for key in whole.state}


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), min_size=1, max_size=15))
def test_an_outbox_shard_numbers_what_it_commits_without_a_gap(batches: list[tuple[int, int, bool]]) -> None:
    """Two topics, whose interleaving the batches decide; a batch that was not committed leaves no trace."""
    kept = Kept()
    core = kept.revive("feedback", "0")
    sent: list[Outgoing] = []
    inputs: list[RawRecord] = []
    for marks, decisions, crashes in batches:
        start = [core.next_offset(topic, 0) or 0 for topic in (MARKET_MARK.name, DECISION.name)]
        batch = [_input(MARKET_MARK.name, start[0] + number) for number in range(marks)]
        batch += [_input(DECISION.name, start[1] + number) for number in range(decisions)]
        for record in batch:
            core.take(record)
        if crashes:
            core = kept.revive("feedback", "0")
        else:
            kept.write(core)
            inputs += batch
            sent += core.drain()[0]
    again = core_of("feedback", "0")
    for record in inputs:
        again.take(record)
    assert by_lane(again.drain()[0]) == by_lane(sent)
    for records in by_lane(sent).values():
        numbers = [CODEC.decode(record.topic, record.value).seq for record in records]
        assert numbers == list(range(1, len(numbers) + 1))


def _input(topic: str, offset: int) -> RawRecord:
    key = f"TOY:I{offset % 7}"
    event: Event
    if topic == MARKET_MARK.name:
        event = mark(key, offset, offset, offset)
    else:
        event = example(Decision, key="toy", instrument=key, mid=offset, decision_id=str(offset))
    event = msgspec.structs.replace(event, event_id=derive_id(topic, "toy", offset))
    stamp_position(event, "writer/0", 1, offset)
    return raw(topic, offset, CODEC.encode(topic, event))


def test_numbers_of_a_one_topic_shard_say_which_record_they_come_from() -> None:
    core = core_of()
    for offset in range(30):
        core.take(market(offset))
    for record in core.drain()[0]:
        event = CODEC.decode(record.topic, record.value)
        offset, ordinal = divmod(event.seq, ORDINALS_PER_OFFSET)
        assert event.cause_id == trade(OWN[offset]).event_id
        assert event.event_id == derive_id(event.cause_id, "experts", ordinal)
        assert record.headers == (((ORIGIN_HEADER, b"1234567"),) if offset % 5 == 0 else ())


def test_a_record_below_the_checkpoint_or_seen_before_does_nothing() -> None:
    core = core_of()
    core.take(market(0))
    core.drain()
    core.take(market(0))
    assert core.drain() == ([], [], [])
    assert core.counters.records == 1
    again = raw(MARKET_EVENT.name, 1, market(0).value)
    core.take(again)
    assert core.drain() == ([], [], [])
    assert core.counters.duplicates == 1


def test_a_hole_in_a_log_of_our_own_stops_the_line() -> None:
    core = core_of()
    core.take(market(0))
    with pytest.raises(WorkerFailed, match=r"Records 1 to 4 .* are gone"):
        core.take(market(5))


def test_a_key_on_a_wrong_partition_is_a_dead_letter_with_its_own_bytes_and_headers() -> None:
    core = core_of()
    foreign = next(number for number in range(50) if partition_of(trade(number).key, PARTITIONS) == 1)
    value = CODEC.encode(MARKET_EVENT.name, trade(foreign))
    core.take(raw(MARKET_EVENT.name, 0, value, headers=(("trace", b"1"),)))
    (letter,), _, _ = core.drain()
    headers = dict(letter.headers)
    assert (letter.topic, letter.partition, letter.key, letter.value) == (MARKET_EVENT.dead_letters, 0, b"k", value)
    assert headers["trace"] == b"1"
    assert headers["__tradermind.errors.reason"] == DeadLetterReason.WRONG_PARTITION.encode()
    assert headers["__tradermind.errors.stage"] == b"experts"
    assert headers["__tradermind.errors.offset"] == b"0"
    assert not core.state
    assert core.next_offset(MARKET_EVENT.name, 0) == 1


def test_a_header_without_a_value_harms_nobody() -> None:
    core = core_of()
    core.take(raw(MARKET_EVENT.name, 0, market(0).value, headers=((ORIGIN_HEADER, None), ("trace", None))))
    core.take(raw(MARKET_EVENT.name, 1, b"garbage", headers=((ORIGIN_HEADER, None), ("trace", None))))
    assert (core.counters.records, core.counters.dead_letters) == (2, 1)


def test_a_refused_record_from_outside_may_come_again() -> None:
    core = ShardCore(HOSTINGS["ingress.trade"], f"{INGEST_TRADE.name}/0", 0, CODEC, PARTITIONS)
    closed = _ingested(0, "early", "TOY:CLOSED")
    for record in (closed, msgspec.structs.replace(closed, offset=1), _ingested(2, "opens", "TOY:OPEN")):
        core.take(record)
    assert (core.counters.dead_letters, core.counters.duplicates) == (2, 0)
    core.take(msgspec.structs.replace(closed, offset=3))
    core.take(msgspec.structs.replace(closed, offset=4))
    assert (core.counters.dead_letters, core.counters.duplicates, core.counters.events_out) == (2, 1, 2)


def test_a_heartbeat_may_lie_on_any_partition() -> None:
    core = core_of()
    beat = Heartbeat(key="feed", event_time_ns=1, available_at_ns=1, event_id="x", source="feed/0", generation=1, seq=1)
    for partition in range(PARTITIONS):
        core.take(raw(MARKET_EVENT.name, 0, CODEC.encode(MARKET_EVENT.name, beat), partition))
    assert core.counters.dead_letters == 0


@given(st.binary(max_size=60) | st.none())
def test_no_bytes_whatever_break_a_shard(value: bytes | None) -> None:
    core = core_of()
    core.take(raw(MARKET_EVENT.name, 0, value))
    (letter,), _, _ = core.drain()
    assert letter.value == value
    assert core.counters.dead_letters == 1


def test_twenty_bad_records_in_a_row_stop_a_line_of_our_own_but_not_public_ingress() -> None:
    core = core_of()
    for offset in range(19):
        core.take(raw(MARKET_EVENT.name, offset, b"garbage"))
    with pytest.raises(WorkerFailed, match="Too many bad records"):
        core.take(raw(MARKET_EVENT.name, 19, b"garbage"))
    public = ShardCore(_ingress(), f"{INGEST_TRADE.name}/0", 0, CODEC, PARTITIONS)
    for offset in range(500):
        public.take(raw(INGEST_TRADE.name, offset, b"garbage"))
    assert public.counters.dead_letters == 500


def test_a_good_record_between_them_lets_the_line_go_on() -> None:
    core = core_of()
    for offset in range(60):
        core.take(market(offset) if offset % 15 == 14 else raw(MARKET_EVENT.name, offset, b"garbage"))
    assert core.counters.dead_letters == 56


def test_one_bad_in_eight_over_a_thousand_records_stops_the_line() -> None:
    core = core_of()
    with pytest.raises(WorkerFailed, match="Too many bad records"):
        for offset in range(3000):
            bad = offset % 8 == 0
            core.take(raw(MARKET_EVENT.name, offset, b"bad" if bad else _good(offset)))
    assert 1000 <= core.counters.records <= 1008


def _good(offset: int) -> bytes:
    event = msgspec.structs.replace(trade(OWN[offset % len(OWN)]), seq=offset)
    return CODEC.encode(MARKET_EVENT.name, event)


def test_a_type_that_is_not_known_stops_a_money_topic_and_is_skipped_elsewhere() -> None:
    score = CODEC.encode(MARKET_EVENT.name, trade(OWN[0]))
    money = core_of("feedback", "0")
    with pytest.raises(WorkerFailed, match="money topics skip nothing"):
        money.take(raw(DECISION.name, 0, score))
    skipping = core_of("decider", "0")
    skipping.take(raw(MARKET_MARK.name, 0, score))
    assert skipping.counters.skipped == 1
    assert skipping.drain() == ([], [], [])


class Passed:
    """Passes on what comes by ingress."""

    name = "ingress.trade"

    def state_type(self, key: str) -> type:
        """Keep nothing."""
        raise AssertionError(key)

    def step(self, state: object, event: Event) -> tuple[object, list[Event]]:
        """Emit a Heartbeat for each."""
        return state, [Heartbeat(key=event.key, event_time_ns=0, available_at_ns=event.available_at_ns)]


def _wrapped(record: RawRecord, decoded: IngestTrade) -> Event:
    return Heartbeat(key="in", event_time_ns=0, available_at_ns=record.timestamp_ms, event_id=decoded.event_id)


def _ingress() -> StageHosting:
    return StageHosting(
        name="ingress.trade",
        topics=(INGEST_TRADE,),
        make_stage=Passed,  # type: ignore[arg-type]
        kind=StageKind.ONE_TOPIC,
        wrap=_wrapped,
    )


def test_what_comes_by_ingress_counts_once_per_id_even_over_a_restart() -> None:
    core = ShardCore(_ingress(), f"{INGEST_TRADE.name}/0", 0, CODEC, PARTITIONS)
    records = [_ingested(offset, f"id{offset % 3}") for offset in range(9)]
    for record in records[:5]:
        core.take(record)
    assert len(core.drain()[0]) == 3
    later = ShardCore(_ingress(), f"{INGEST_TRADE.name}/0", 0, CODEC, PARTITIONS)
    later.restore(msgspec.msgpack.encode(core.progress), {}, 1)
    for record in records:
        later.take(record)
    assert later.drain()[0] == []
    assert later.counters.duplicates == 4


def _ingested(offset: int, event_id: str, instrument: str = "TOY:I1") -> RawRecord:
    trade_seen = IngestTrade(event_id=event_id, instrument=instrument, event_time_ns=1, trade_id="t", price=1)
    return raw(INGEST_TRADE.name, offset, CODEC.encode(INGEST_TRADE.name, trade_seen))
