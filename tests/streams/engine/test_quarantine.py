"""What comes after a bad record on a money topic waits for a person, and everything a person orders can be repeated."""

from typing import Any

import msgspec
import pytest
from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS, Tally, mark
from every_event import example
from hypothesis import given
from hypothesis import strategies as st

from agents.stage import ShardState
from schemas.control import ControlCommand
from schemas.dead_letters import (
    BadRecord,
    DeadLetterReason,
    HeldAgain,
    HeldRecord,
    LetterAction,
    LetterOrder,
    LettersOrdered,
)
from schemas.decisions import Decision
from schemas.event import Event, Heartbeat, derive_id, stamp_position
from schemas.topics import CONTROL, DECISION, MARKET_MARK, Topic
from streams.engine.dead_letter import ERRORS
from streams.engine.journal import External, JournalWriter, decode_external, decode_inputs
from streams.engine.ports import Outgoing, RawRecord, StageHosting, StageKind, WorkerFailed
from streams.engine.quarantine import KEYS_MAX, LetterProgress, quarantines
from streams.engine.shard import ShardCore

BAD = "bad"
CRASH = "crash"


class Counting:
    """Counts per key in order; refuses what is called bad, and breaks on what is called crash."""

    name = "feedback"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, list[Event]]:
        """Count, and say so with a score."""
        assert isinstance(event, Decision | ControlCommand)
        name = event.decision_id if isinstance(event, Decision) else event.command_id
        if name == BAD:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, "called bad")
        if name == CRASH:
            raise ZeroDivisionError
        state[event.key] = state.get(event.key, Tally()).after(name)
        return state, [Heartbeat(key="feature.snapshot", event_time_ns=1, available_at_ns=1)]


HOSTING = StageHosting(name="feedback", topics=(DECISION, CONTROL), make_stage=Counting, kind=StageKind.OUTBOX)


def core_of() -> ShardCore:
    """Return a fresh shard."""
    return ShardCore(HOSTING, "0", 0, CODEC, PARTITIONS)


def decided(offset: int, key: str, name: str) -> RawRecord:
    """Return a decision of an account."""
    return _raw(DECISION, offset, example(Decision, key=key, decision_id=name))


def commanded(offset: int, name: str) -> RawRecord:
    """Return a command of a person; its key is its id."""
    return _raw(CONTROL, offset, example(ControlCommand, key=name, command_id=name))


def _raw(topic: Topic, offset: int, event: Event) -> RawRecord:
    event = msgspec.structs.replace(event, event_id=derive_id(topic.name, "toy", offset))
    stamp_position(event, "writer/0", 1, offset)
    return RawRecord(topic.name, 0, offset, event.key.encode(), CODEC.encode(topic.name, event), (), 5)


def letters_of(core: ShardCore) -> list[dict[str, str]]:
    """Return the facts of the dead letters made since the last call."""
    outgoing, _, _ = core.drain()
    return [_facts(record) for record in outgoing if record.topic.endswith(".dlq")]


def _facts(letter: Outgoing) -> dict[str, str]:
    return {name.removeprefix(ERRORS): value.decode() for name, value in letter.headers if name.startswith(ERRORS)}


def seen(core: ShardCore, key: str) -> int:
    """Return how many events of a key the stage has counted."""
    tally = core.state.get(key, Tally())
    return int(tally.count)


def ordered(*orders: LetterOrder) -> LettersOrdered:
    """Return orders on their way in."""
    return LettersOrdered(key="orders", event_time_ns=1, available_at_ns=1, event_id="o", orders=orders)


def again(key: str, records: list[RawRecord], since: str | int = 0, first: int = 1, ordinal: int = 1) -> HeldAgain:
    """Return held records on their way in again."""
    held = tuple(
        HeldRecord(one.topic, one.partition, one.offset, one.key, one.value, tuple(one.headers), one.timestamp_ms)
        for one in records
    )
    facts: dict[str, Any] = {"event_time_ns": 1, "available_at_ns": 1, "event_id": "h"}
    since = f"{DECISION.name}/0/{since}"
    return HeldAgain(key=key, ordinal=ordinal, since=since, first=first, records=held, **facts)


def test_after_a_bad_record_its_key_waits_and_others_go_on() -> None:
    core = core_of()
    for offset, (key, name) in enumerate([("a", "1"), ("a", BAD), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")]):
        core.take(decided(offset, key, name))
    assert (seen(core, "a"), seen(core, "b")) == (1, 2)
    bad, *held = letters_of(core)
    assert bad["reason"] == "INVALID_VALUE"
    assert [(one["reason"], one["offset"], one["held.number"]) for one in held] == [
        ("QUARANTINED", "3", "1"),
        ("QUARANTINED", "4", "2"),
    ]
    assert {one["held.since"] for one in held} == {f"{DECISION.name}/0/1"}
    assert core.counters.quarantined_keys == 1
    assert core.counters.by_reason == {"INVALID_VALUE": 1, "QUARANTINED": 2}


def test_bytes_that_nobody_can_read_hold_back_the_key_beside_them() -> None:
    core = core_of()
    core.take(msgspec.structs.replace(decided(0, "a", "1"), value=b"garbage"))
    core.take(msgspec.structs.replace(decided(1, "a", "1"), value=b"garbage", key=None))
    core.take(msgspec.structs.replace(decided(2, "a", "1"), value=b"garbage", key=b"k" * 257))
    core.take(decided(3, "a", "2"))
    assert [one["reason"] for one in letters_of(core)] == ["MALFORMED"] * 3 + ["QUARANTINED"]
    assert list(core.progress.letters.held) == ["a"]


def test_a_record_of_a_held_key_that_comes_twice_is_held_once() -> None:
    core = core_of()
    core.take(decided(0, "a", BAD))
    core.take(decided(1, "a", "1"))
    core.take(msgspec.structs.replace(decided(1, "a", "1"), offset=2))
    assert core.counters.duplicates == 1
    assert core.progress.letters.held["a"].held == 1


def test_a_command_always_gets_through() -> None:
    core = core_of()
    core.take(commanded(0, BAD))
    core.take(msgspec.structs.replace(commanded(1, "kill"), key=b"bad"))
    core.take(decided(0, "a", BAD))
    core.take(commanded(2, "a"))
    assert (seen(core, "kill"), seen(core, "a")) == (1, 1)
    assert list(core.progress.letters.held) == ["a"]
    assert not quarantines(CONTROL)


def test_no_other_topic_has_a_quarantine() -> None:
    core = ShardCore(HOSTINGS["decider"], "0", 0, CODEC, PARTITIONS)
    core.take(RawRecord(MARKET_MARK.name, 0, 0, b"SIM:A", b"garbage", (), 1))
    core.take(_raw(MARKET_MARK, 1, mark("SIM:A", 1, 1, 1)))
    assert core.counters.dead_letters == 1
    assert core.counters.events_out == 1


def test_what_is_held_does_not_stop_the_line_but_bad_records_do() -> None:
    core = core_of()
    core.take(decided(0, "a", BAD))
    for offset in range(1, 3000):
        core.take(decided(offset, "a", "1"))
    with pytest.raises(WorkerFailed, match="Too many bad records"):
        for offset in range(3000, 3020):
            core.take(msgspec.structs.replace(decided(offset, "b", "1"), value=b"garbage"))


def test_too_many_keys_stop_the_line() -> None:
    letters = LetterProgress()
    refusal = BadRecord(DeadLetterReason.MALFORMED, "m")
    for number in range(KEYS_MAX):
        letters.begin(str(number), decided(0, "a", "1"), refusal)
    letters.begin("0", decided(0, "a", "1"), refusal)
    with pytest.raises(WorkerFailed, match="keys are in quarantine"):
        letters.begin("more", decided(0, "a", "1"), refusal)


def test_a_release_lets_the_key_go_on_from_there() -> None:
    core = core_of()
    core.take(decided(0, "a", BAD))
    core.take(decided(1, "a", "1"))
    release = LetterOrder(7, LetterAction.RELEASE, key="a")
    core.take_event(ordered(release))
    core.take(decided(2, "a", "2"))
    assert seen(core, "a") == 1
    assert core.counters.quarantined_keys == 0
    core.take(decided(3, "a", BAD))
    core.take_event(ordered(release))
    assert "a" in core.progress.letters.held, "an order is carried out once"


def test_what_was_held_is_stepped_in_order_and_then_the_key_is_free() -> None:
    core = core_of()
    records = [decided(offset, "a", str(offset)) for offset in range(1, 6)]
    core.take(decided(0, "a", BAD))
    for record in records[:4]:
        core.take(record)
    core.take_event(again("a", records[:3]))
    core.take(records[4])
    assert seen(core, "a") == 3
    assert core.progress.letters.stepped_orders == 0
    core.take_event(again("a", records[:3]))
    assert seen(core, "a") == 3, "what comes twice is stepped once"
    core.take_event(again("a", records[3:], first=4))
    assert core.progress.letters.stepped_orders == 1
    core.take(decided(6, "a", "6"))
    expected = Tally()
    for name in range(1, 7):
        expected = expected.after(str(name))
    assert core.state["a"] == expected


def test_a_bad_one_among_what_was_held_holds_back_the_rest() -> None:
    core = core_of()
    records = [decided(offset, "a", BAD if offset == 2 else str(offset)) for offset in range(1, 5)]
    core.take(decided(0, "a", "bad"))
    for record in records:
        core.take(record)
    letters_of(core)
    core.take_event(again("a", records, ordinal=3))
    assert seen(core, "a") == 1
    assert [one["offset"] for one in letters_of(core)] == ["2"]
    assert core.progress.letters.stepped_orders == 3
    core.take_event(again("a", records[2:], first=3, ordinal=4))
    assert seen(core, "a") == 3
    assert not core.progress.letters.held


def test_exactly_the_record_that_is_taken_is_passed_over() -> None:
    core = core_of()
    core.take(decided(0, "a", "1"))
    with pytest.raises(ZeroDivisionError) as broken:
        core.take(decided(1, "a", CRASH))
    assert f"dlq take {DECISION.name} 0 1 --reason" in broken.value.__notes__[0]
    revived = core_of()
    revived.take(decided(0, "a", "1"))
    revived.take_event(ordered(LetterOrder(1, LetterAction.TAKE, DECISION.name, 0, 1, 1)))
    revived.take(decided(1, "a", CRASH))
    revived.take(decided(2, "a", "2"))
    assert seen(revived, "a") == 2
    assert [one["reason"] for one in letters_of(revived)] == ["TAKEN"]
    with pytest.raises(ZeroDivisionError):
        revived.take(decided(3, "a", CRASH))


def test_a_record_that_was_passed_is_not_taken_any_more() -> None:
    letters = LetterProgress()
    lane = f"{DECISION.name}/0"
    letters.obey(LetterOrder(1, LetterAction.TAKE, DECISION.name, 0, 4, 9), {lane: 7})
    letters.obey(LetterOrder(2, LetterAction.TAKE, DECISION.name, 0, 1, 6), {lane: 7})
    assert letters.taken == {lane: [(7, 9)]}
    assert letters.orders == 2


def test_an_order_for_what_is_not_held_is_over_and_touches_no_later_quarantine() -> None:
    core = core_of()
    core.take_event(again("a", [], since=99, ordinal=5))
    assert core.progress.letters.stepped_orders == 5
    core.take(decided(0, "a", BAD))
    core.take(decided(1, "a", "1"))
    core.take_event(again("a", [decided(1, "a", "1")], since=99, ordinal=6))
    assert (seen(core, "a"), list(core.progress.letters.held)) == (0, ["a"])


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["ok", "ok", "ok", BAD, "release", "again", "take"])), max_size=60
)


@given(STEPS)
def test_the_journal_gives_the_same_state_outputs_and_quarantine(story: list[tuple[str, str]]) -> None:
    """Orders among records, one life after another; what the journal holds, stepped anew, is the same to the byte."""
    core = core_of()
    inputs: list[RawRecord | bytes] = []
    held: dict[str, list[RawRecord]] = {}
    offset = 0
    for ordinal, (key, what) in enumerate(story, start=1):
        event: Event | None = None
        if what == "release":
            event = ordered(LetterOrder(ordinal, LetterAction.RELEASE, key=key))
            held.pop(key, None)
        elif what == "take":
            event = ordered(LetterOrder(ordinal, LetterAction.TAKE, DECISION.name, 0, offset, offset))
        elif what == "again" and key in core.progress.letters.held:
            place = core.progress.letters.held[key].stepped
            since = core.progress.letters.held[key].since.rpartition("/")[2]
            event = again(key, held[key][place:], since, place + 1, ordinal)
        if event is not None:
            journal = JournalWriter()
            journal.external(event, 0)
            inputs.append(journal.encoded() or b"")
            core.take_event(event)
        elif what in ("ok", BAD):
            record = decided(offset, key, what)
            offset += 1
            inputs.append(record)
            was_held = key in core.progress.letters.held
            before = core.counters.by_reason.get("QUARANTINED", 0)
            core.take(record)
            if not was_held:
                held[key] = []
            if core.counters.by_reason.get("QUARANTINED", 0) > before:
                held[key].append(record)
        revived = core_of()
        revived.restore(msgspec.msgpack.encode(core.progress), core_state(core), 1)
        revived.outgoing, revived.counters = core.outgoing, core.counters
        revived.limit = core.limit
        core = revived
    repeated = core_of()
    for item in inputs:
        if isinstance(item, RawRecord):
            repeated.take(item)
            continue
        (external,) = decode_inputs(item)
        assert isinstance(external, External)
        repeated.take_event(decode_external(external, ()))
    assert repeated.outgoing == core.outgoing
    assert repeated.progress == core.progress
    assert dict(repeated.state) == dict(core.state)


def core_state(core: ShardCore) -> dict[str, bytes]:
    """Return the state as a checkpoint keeps it."""
    return {key: msgspec.msgpack.encode(value) for key, value in core.state.items()}
