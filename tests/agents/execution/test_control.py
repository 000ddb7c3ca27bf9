"""The last gate and changes: who can write rows or records, but has no two people's keys, raises nothing."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from proposed_changes import TWO, command_of, examined, level_change, limits_change, plain_level
from trading_desk import CONFIG, ONE, PERP, T0, Desk, wide_limits

from agents.limits.book import LimitBook
from agents.stage import ShardState
from schemas.changes import ChangeRefusal, ControlOutcome, Examined, OutcomeKind
from schemas.codec import Codec
from schemas.control import Approval, ControlAction, ScopeKind
from schemas.decisions import DenyReason
from schemas.event import Event, stamp_position
from schemas.orders import OrderEvent, ReportKind, SubmitRequested
from schemas.schema_table import SchemaTable
from schemas.topics import ACCOUNT_EVENT, ROUTES, TOPICS
from schemas.values import NS_PER_S, Level

R = ChangeRefusal
HOUR_MS = 3_600_000


def desk(**limits: Any) -> Desk:
    """Return a desk whose largest order is worth 150."""
    return Desk(replace(CONFIG, limits={"main": wide_limits("alpha", "beta", **{"order_value_max": 150} | limits)}))


def book(on: Desk) -> LimitBook:
    """Return the limits in force."""
    return on.stage.limits(on.state)


def told(events: Any) -> ControlOutcome:
    """Return the one word about a change among events."""
    (found,) = [event for event in events if isinstance(event, ControlOutcome)]
    return found


def leaves(on: Desk, order_id: str, **changes: Any) -> bool:
    """Return whether an order leaves."""
    return any(isinstance(event, SubmitRequested) for event in on.approve(order_id, **changes))


def raise_to(on: Desk, value: str = "1000", **changes: Any) -> Any:
    return limits_change(book(on).version, **{"values": {"order_value_max": value}} | changes)


def test_a_raise_by_two_people_is_in_force_from_then_on_and_told_with_all_sets() -> None:
    on = desk()
    assert not leaves(on, "a", quantity=2 * ONE)
    before = book(on).version
    said = told(on.give(examined(raise_to(on), ordinal=1)))
    assert (said.outcome, said.approved_by, said.loosens) == (OutcomeKind.APPLIED, TWO, ("main.order_value_max",))
    assert (said.base, said.version, said.sets) == (before, book(on).version, book(on).sets)
    assert said.values == {"order_value_max": "1000"}
    assert leaves(on, "b", quantity=2 * ONE)


def test_a_forged_record_on_the_topic_raises_nothing_whatever_it_says() -> None:
    on = desk()
    change = raise_to(on)
    signed = tuple(Approval(person=name, signature="ab" * 64) for name in TWO)
    before = msgspec.msgpack.encode(book(on))
    for forged in (
        command_of(change, ordinal=1, approvals=signed),
        command_of(change, ordinal=2, approvals=signed, action=ControlAction.SET_LEVEL, level=Level.ACTIVE),
        command_of(change, ordinal=3, change=""),
    ):
        assert on.give(forged) == []
    assert msgspec.msgpack.encode(book(on)) == before
    assert not leaves(on, "a", quantity=2 * ONE)
    assert told(on.give(examined(change, ordinal=1))).outcome is OutcomeKind.APPLIED, "nor keeps it the real one out"


def test_nobody_can_write_what_the_shell_has_examined_on_a_topic() -> None:
    assert Examined not in ROUTES
    assert all(Examined not in topic.records for topic in TOPICS.values())


def test_a_refusal_changes_nothing_and_is_told_with_its_reason() -> None:
    on = desk()
    for number, (refusal, approved_by) in enumerate(((R.BAD_SIGNATURE, ()), (None, ("ann",)), (None, ()))):
        said = told(on.give(examined(raise_to(on), approved_by, ordinal=number + 1, refusal=refusal)))
        assert (said.outcome, said.refusal) == (OutcomeKind.REFUSED, refusal or R.NEEDS_TWO_PEOPLE)
        assert (said.sets, said.version) == ({}, book(on).version)
    malformed = told(on.give(examined(raise_to(on), ordinal=9, refusal=R.MALFORMED)))
    assert malformed.refusal is R.MALFORMED
    assert not leaves(on, "a", quantity=2 * ONE)


def test_each_row_is_decided_once() -> None:
    on = desk()
    change = raise_to(on)
    assert told(on.give(examined(change, ordinal=4))).outcome is OutcomeKind.APPLIED
    assert on.give(examined(change, ordinal=4)) == [], "a worker that starts reads all rows again"
    assert told(on.give(examined(change, ordinal=5))).refusal is R.ALREADY_APPLIED
    assert on.give(examined(raise_to(on, "9999", nonce="2"), ordinal=3)) == []


def test_lowering_is_one_persons_and_holds_at_once() -> None:
    on = desk()
    assert leaves(on, "a")
    assert told(on.give(examined(raise_to(on, "50"), ()))).outcome is OutcomeKind.APPLIED
    assert not leaves(on, "b")


def test_an_override_lapses_by_the_clock_and_takes_what_was_approved_under_it_with_it() -> None:
    on = desk()
    said = told(on.give(examined(raise_to(on, until_ns=T0 + 60 * NS_PER_S))))
    under = said.version
    assert leaves(on, "a", quantity=2 * ONE, limits_version=under)
    on.report("a", ReportKind.REJECTED)
    lapsed = told(on.beat(60_000))
    assert (lapsed.outcome, lapsed.version) == (OutcomeKind.LAPSED, book(on).version)
    assert lapsed.overrides == ()
    late = _denied(on.approve("b", quantity=2 * ONE, limits_version=under))
    assert {DenyReason.ORDER_VALUE_MAX, DenyReason.OVERRIDE_EXPIRED} <= set(late)
    small = _denied(on.approve("c", limits_version=under))
    assert small == (DenyReason.OVERRIDE_EXPIRED,), "whoever approved it had other limits before their eyes"
    assert leaves(on, "d", limits_version=book(on).version)
    assert on.beat(1) == []


def test_an_override_is_over_for_an_order_that_comes_before_the_next_heartbeat() -> None:
    on = desk()
    on.give(examined(raise_to(on, until_ns=T0 + 60 * NS_PER_S)))
    version = book(on).version
    on.mark(PERP, 100 * ONE, on_grid=False)
    at_ns = T0 + 60 * NS_PER_S
    order = on.approval("a", quantity=2 * ONE, available_at_ns=at_ns, expires_at_ns=at_ns + NS_PER_S)
    denied = _denied(on.give(msgspec.structs.replace(order, limits_version=version)))
    assert DenyReason.ORDER_VALUE_MAX in denied


def test_a_kill_ends_at_the_word_of_two_who_have_seen_it() -> None:
    on = desk()
    halted = plain_level(Level.HALTED, 5)
    on.give(halted)
    assert not leaves(on, "a")
    alone = plain_level(Level.ACTIVE, 6)
    said = told(on.give(alone))
    assert (said.outcome, said.refusal, said.level) == (OutcomeKind.REFUSED, R.NEEDS_TWO_PEOPLE, Level.ACTIVE)
    assert told(on.give(examined(level_change(seen=4), ordinal=7))).refusal is R.STALE_BASE
    assert told(on.give(examined(level_change(seen=6), ("ann",), ordinal=8))).refusal is R.NEEDS_TWO_PEOPLE
    assert not leaves(on, "b")
    good = told(on.give(examined(level_change(seen=6, nonce="2"), ordinal=9)))
    assert (good.outcome, good.level, good.seen_through) == (OutcomeKind.APPLIED, Level.ACTIVE, 6)
    assert leaves(on, "c")


def test_a_reset_that_was_signed_before_a_new_kill_does_not_lift_it() -> None:
    on = desk()
    on.give(plain_level(Level.HALTED, 1))
    on.give(plain_level(Level.HALTED, 3))
    assert told(on.give(examined(level_change(seen=1), ordinal=4))).refusal is R.STALE_BASE
    assert not leaves(on, "a")


def test_a_kill_that_comes_by_kafka_before_an_older_reset_by_the_rows_holds() -> None:
    on = desk()
    on.give(plain_level(Level.HALTED, 1))
    on.give(plain_level(Level.HALTED, 3))
    assert told(on.give(examined(level_change(seen=1), ordinal=2))).refusal is R.STALE_BASE
    assert not leaves(on, "a")


@pytest.mark.parametrize("level", [Level.REDUCING, Level.HALTED])
def test_what_makes_stricter_needs_one_author_and_no_key(level: Level) -> None:
    on = desk()
    assert on.give(plain_level(level, 1)) == []
    assert not leaves(on, "a")
    scope = f"{ScopeKind.GLOBAL}|*"
    assert on.state["desk"].levels[scope] is level


def test_the_first_claim_puts_the_settings_in_force_and_later_settings_change_nothing() -> None:
    on = desk()
    on.claim(1)
    first = book(on)
    again = Desk(replace(CONFIG, limits={"main": wide_limits("alpha", "beta", order_value_max=10_000_000)}))
    again.state = ShardState()
    for key, value in on.state.items():
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=on.stage.state_type(key))
        again.state.restore(key, kept)
    said = told(again.claim(2))
    assert (said.outcome, said.version, said.sets) == (OutcomeKind.IN_FORCE, first.version, first.sets)
    denied = _denied(again.approve("a", quantity=2 * ONE))
    assert DenyReason.ORDER_VALUE_MAX in denied


def test_a_canary_is_held_by_execution_too_and_its_orders_are_counted() -> None:
    on = desk(canaries={"alpha": {"orders_per_day_max": 2}}, order_value_max=1_000_000)
    assert leaves(on, "a")
    on.beat(10)
    assert leaves(on, "b", limit_price=99 * ONE)
    on.beat(10)
    assert _denied(on.approve("c")) == (DenyReason.CANARY_CAP,)
    assert leaves(on, "d", strategy="beta", limit_price=98 * ONE)


def _denied(events: Any) -> tuple[DenyReason, ...]:
    (found,) = [event for event in events if isinstance(event, OrderEvent) and event.deny_reasons]
    assert not any(isinstance(event, SubmitRequested) for event in events)
    return tuple(found.deny_reasons)


def test_every_word_is_an_event_that_the_topic_can_hold() -> None:
    on = desk()
    codec = Codec(SchemaTable.committed())
    on.claim(1)
    on.give(examined(raise_to(on, until_ns=T0 + 60 * NS_PER_S)))
    on.beat(HOUR_MS)
    words: list[Event] = [event for event in on.events if isinstance(event, ControlOutcome)]
    assert [event.outcome for event in words] == [OutcomeKind.IN_FORCE, OutcomeKind.APPLIED, OutcomeKind.LAPSED]
    for number, event in enumerate(words):
        stamp_position(event, "execution/0", 1, number + 1)
        assert codec.decode(ACCOUNT_EVENT.name, codec.encode(ACCOUNT_EVENT.name, event)) == event
