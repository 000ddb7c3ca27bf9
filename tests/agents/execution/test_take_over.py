"""One intent, one id at the venue, one outcome: whoever holds the shard, and whoever is still stalled with it."""

from itertools import count
from typing import Any

import pytest
from trading_desk import ONE, Desk

from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.decisions import DenyReason
from schemas.event import Event
from schemas.orders import CancelRequested, OrderEvent, OrderStatus, QueryRequested, ReportKind, SubmitRequested
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.values import NS_PER_MS, Level, TimeInForce


def _hold(desk: Desk, epoch: int) -> None:
    """Claim the shard; the venues have nothing of us."""
    for asked in desk.claim(epoch):
        if isinstance(asked, BooksRequested):
            fields: dict[str, Any] = {
                "key": asked.key,
                "venue": asked.venue,
                "epoch": asked.epoch,
                "attempt": asked.attempt,
            }
            desk.give(VenueBooks(event_time_ns=desk.now_ns, available_at_ns=desk.now_ns, orders=(), **fields))


def _asked(desk: Desk, milliseconds: int) -> list[QueryRequested]:
    found: list[Event] = []
    for _ in range(milliseconds // 100):
        found += desk.beat(100)
    return [event for event in found if isinstance(event, QueryRequested)]


def _finals(desk: Desk, order_id: str) -> list[OrderStatus]:
    return [event.status for event in desk.order_events(order_id) if event.final]


def _command(desk: Desk, ordinal: int, action: ControlAction, **changes: Any) -> list[Event]:
    fields: dict[str, Any] = {
        "key": f"c{ordinal}",
        "event_time_ns": desk.now_ns,
        "available_at_ns": desk.now_ns,
        "command_id": f"c{ordinal}",
        "author": "ann",
        "reason": "drill",
        "action": action,
        "scope": ScopeKind.GLOBAL,
        "target": "*",
        "ordinal": ordinal,
    }
    return list(desk.give(ControlCommand(**fields | changes)))


def test_the_intent_fixes_the_id_and_every_later_holder_uses_it() -> None:
    desk = Desk()
    _hold(desk, 3)
    outputs = desk.approve("o1", time_in_force=TimeInForce.GTC)
    (submit,) = (event for event in outputs if isinstance(event, SubmitRequested))
    (intent,) = (event for event in outputs if isinstance(event, OrderEvent))
    assert submit.client_order_id == intent.client_order_id == "o1-3"
    assert (submit.strategy, submit.commands_through) == ("alpha", 0)
    desk.claim(4)
    asked = _asked(desk, 6_000)
    assert asked
    assert {(event.client_order_id, event.epoch) for event in asked} == {("o1-3", 4)}
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    (cancel,) = (event for event in _command(desk, 1, ControlAction.CANCEL) if isinstance(event, CancelRequested))
    assert cancel.client_order_id == "o1-3"


def test_a_denied_order_has_no_id_at_any_venue() -> None:
    desk = Desk()
    (denied,) = desk.approve("o1", limit_price=1000 * ONE)
    assert isinstance(denied, OrderEvent)
    assert (denied.status, denied.client_order_id) == (OrderStatus.DENIED, None)


def test_an_absent_order_is_given_up_only_when_no_stalled_request_can_be_taken_any_more() -> None:
    desk = Desk()
    desk.approve("o1")
    closes_ns = desk.order("o1").not_after_ns + desk.config.takeover_wait_ns
    desk.claim(2)
    while desk.now_ns + 100 * NS_PER_MS < closes_ns:
        desk.beat(100)
        desk.report("o1", ReportKind.NOT_FOUND)
        assert desk.order("o1").status is OrderStatus.UNKNOWN
    desk.beat(100)
    desk.report("o1", ReportKind.NOT_FOUND)
    assert _finals(desk, "o1") == [OrderStatus.NOT_SENT]


@pytest.mark.parametrize("seen_first", [True, False])
def test_the_venue_s_refusal_of_a_stalled_request_makes_no_second_outcome(seen_first: bool) -> None:
    """It is refused for its age, before or after the successor has given the order up."""
    desk = Desk()
    desk.approve("o1")
    desk.claim(2)
    reports = [(ReportKind.REJECTED, "outside the receive window"), (ReportKind.NOT_FOUND, None)]
    for kind, reason in reports if seen_first else reversed(reports):
        desk.beat(6_000)
        desk.report("o1", kind, reason=reason)
    assert _finals(desk, "o1") == [OrderStatus.REJECTED if seen_first else OrderStatus.NOT_SENT]
    assert desk.order("o1").anomalies == 0


@pytest.mark.parametrize(
    ("told", "expected"), [(None, DenyReason.NOT_SENT_IN_TIME), (DenyReason.KILLED, DenyReason.KILLED)]
)
def test_what_the_sender_kept_back_ends_with_its_reason(told: DenyReason | None, expected: DenyReason) -> None:
    desk = Desk()
    desk.approve("o1")
    desk.report("o1", ReportKind.NOT_SENT, reason="HALTED by command 1", deny_reason=told)
    last = desk.order_events("o1")[-1]
    assert (last.status, last.final, last.deny_reasons) == (OrderStatus.NOT_SENT, True, (expected,))


def test_what_was_decided_says_which_commands_it_was_decided_after() -> None:
    desk = Desk()
    numbers = count(1)
    for expected in (1, 2):
        _command(
            desk, next(numbers), ControlAction.SET_LEVEL, scope=ScopeKind.ACCOUNT, target="other", level=Level.HALTED
        )
        desk.beat(10)
        outputs = desk.approve(f"o{expected}", limit_price=(90 + expected) * ONE)
        (submit,) = (event for event in outputs if isinstance(event, SubmitRequested))
        assert submit.commands_through == expected


def test_flatten_cancels_what_was_there_at_once_and_spares_what_closes() -> None:
    desk = Desk()
    for order_id, price in (("old", 90), ("young", 91)):
        desk.approve(order_id, time_in_force=TimeInForce.GTC, limit_price=price * ONE)
        desk.report(order_id, ReportKind.ACCEPTED, venue_order_id=order_id)
        desk.beat(100)
    ordered_ns = desk.order("old").created_at_ns
    outputs = _command(desk, 1, ControlAction.FLATTEN, event_time_ns=ordered_ns)
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == ["old"]
