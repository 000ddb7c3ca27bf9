"""Changing an order that rests: an intent of its own, sent once, asked about, and never worth less than it may fill."""

from dataclasses import replace
from typing import Any

import pytest
from trading_desk import CONFIG, ONE, PERP, Desk, wide_limits

from agents.execution.exposure import view_for, working_order
from agents.execution.turn import Turn
from agents.limits.amendment import amendable
from schemas.event import Event, Heartbeat
from schemas.orders import (
    AmendRequested,
    CancelRequested,
    ExecType,
    OrderEvent,
    OrderStatus,
    QueryRequested,
    ReportKind,
    SubmitRequested,
)
from schemas.values import Side, TimeInForce

TENTH = ONE // 10
DOWN: dict[str, Any] = {"quantity": 7 * TENTH, "limit_price": 99 * ONE}
UP: dict[str, Any] = {"quantity": 15 * TENTH, "limit_price": 101 * ONE}


def _resting(desk: Desk, **changes: Any) -> None:
    desk.approve("o1", time_in_force=TimeInForce.GTC, **changes)
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    desk.beat(5)


def _amend(desk: Desk, amend_id: str = "a1", **terms: Any) -> list[Event]:
    return list(desk.approve(amend_id, amends="o1", time_in_force=TimeInForce.GTC, **terms))


def _replaced(desk: Desk, amend_id: str | None = "a1", **terms: Any) -> list[Event]:
    return list(desk.report("o1", ReportKind.REPLACED, amend_id=amend_id, **terms))


def _status(desk: Desk, status: OrderStatus = OrderStatus.NEW, **fields: Any) -> list[Event]:
    terms = {"quantity": ONE, "limit_price": 100 * ONE, "filled_quantity": 0}
    return list(desk.report("o1", ReportKind.STATUS, status=status, **terms | fields))


def _orders(events: list[Event]) -> list[OrderEvent]:
    return [event for event in events if isinstance(event, OrderEvent)]


def test_an_amend_is_written_and_requested_in_one_step_and_a_second_time_ignored() -> None:
    desk = Desk()
    _resting(desk)
    intent, request = _amend(desk, **DOWN)
    assert isinstance(intent, OrderEvent)
    assert (intent.status, intent.exec_type) == (OrderStatus.PENDING_REPLACE, ExecType.PENDING_REPLACE)
    assert (intent.amend_id, intent.quantity, intent.pending_quantity) == ("a1", ONE, 7 * TENTH)
    assert isinstance(request, AmendRequested)
    assert (request.amend_id, request.quantity, request.former_quantity) == ("a1", 7 * TENTH, ONE)
    assert request.not_after_ns == desk.now_ns + desk.config.submit_limit_ns
    assert _amend(desk, **DOWN) == []
    (done,) = _orders(_replaced(desk, **DOWN))
    assert (done.status, done.exec_type, done.amend_id) == (OrderStatus.NEW, ExecType.REPLACED, "a1")
    assert (done.quantity, done.limit_price, done.leaves_quantity) == (7 * TENTH, 99 * ONE, 7 * TENTH)
    assert _replaced(desk, **DOWN) == [], "said twice"
    assert _amend(desk, **DOWN) == [], "approved twice"
    assert desk.order("o1").anomalies == 0


@pytest.mark.parametrize("terms", [DOWN, UP])
def test_while_an_amend_is_under_way_the_order_counts_with_the_worse_of_both_terms(terms: dict[str, Any]) -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **terms)
    works = working_order(desk.order("o1"))
    assert works.leaves == max(ONE, terms["quantity"])
    assert works.limit_price == max(100 * ONE, terms["limit_price"])
    _replaced(desk, **terms)
    works = working_order(desk.order("o1"))
    assert (works.leaves, works.limit_price) == (terms["quantity"], terms["limit_price"])


def test_an_amend_upwards_is_checked_on_the_difference_and_counts_as_a_message() -> None:
    """160 of position value is allowed: 100 work, so 50 more may, and 70 more may not."""
    limits = wide_limits("alpha", "beta", position_value_max=160, messages_max=3, message_window_ms=60_000)
    desk = Desk(replace(CONFIG, limits={"main": limits}))
    _resting(desk)
    (denied,) = _orders(_amend(desk, "big", quantity=17 * TENTH))
    assert (denied.status, denied.exec_type) == (OrderStatus.NEW, ExecType.REPLACE_REJECTED)
    assert denied.deny_reasons == ("POSITION_LIMIT",)
    assert denied.amend_id == "big"
    assert any(isinstance(event, AmendRequested) for event in _amend(desk, quantity=15 * TENTH))
    _replaced(desk, quantity=15 * TENTH, limit_price=100 * ONE)
    desk.beat(5)
    assert any(isinstance(event, AmendRequested) for event in _amend(desk, "a2", quantity=14 * TENTH))
    _replaced(desk, "a2", quantity=14 * TENTH, limit_price=100 * ONE)
    desk.beat(5)
    (denied,) = _orders(_amend(desk, "a3", quantity=13 * TENTH))
    assert denied.deny_reasons == ("MSG_RATE",), "the order and two amends are three messages"


def test_what_cannot_be_amended_is_denied_and_never_becomes_an_order() -> None:
    desk = Desk()
    _resting(desk)
    same = {"quantity": ONE, "limit_price": 100 * ONE}
    for number, terms in enumerate((same, {"side": Side.SELL}, {"strategy": "beta"}, {"instrument": "SIM:ETHUSD"})):
        desk.beat(5)
        (denied,) = _orders(_amend(desk, f"x{number}", **terms))
        assert "NOT_AMENDABLE" in denied.deny_reasons, terms
        assert denied.order_id == "o1"
    desk.trade("o1", "f1", 8 * TENTH)
    (denied,) = _orders(_amend(desk, "less", quantity=8 * TENTH))
    assert denied.deny_reasons == ("NOT_AMENDABLE",)
    (unknown,) = _orders(list(desk.approve("y1", amends="nobody", time_in_force=TimeInForce.GTC)))
    assert (unknown.order_id, unknown.status) == ("y1", OrderStatus.DENIED)
    assert "NOT_AMENDABLE" in unknown.deny_reasons
    sent = [event for event in desk.events if isinstance(event, SubmitRequested | AmendRequested)]
    assert [event.order_id for event in sent] == ["o1"]


def test_an_order_that_takes_cannot_be_amended() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    desk.beat(5)
    (denied,) = _orders(list(desk.approve("a1", amends="o1", quantity=7 * TENTH)))
    assert denied.deny_reasons == ("NOT_AMENDABLE",)


def test_an_amend_of_a_filled_or_cancelled_order_is_denied() -> None:
    for end in ("filled", "cancelled"):
        desk = Desk()
        _resting(desk)
        if end == "filled":
            desk.trade("o1", "f1", ONE)
        else:
            desk.report("o1", ReportKind.CANCELED)
        (denied,) = _orders(_amend(desk, **DOWN))
        assert "NOT_AMENDABLE" in denied.deny_reasons
        assert denied.final


def test_a_fill_that_races_an_amend_upwards_completes_the_order_only_by_both_terms() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **UP)
    first = _orders(list(desk.trade("o1", "f1", ONE)))[0]
    assert (first.status, first.final) == (OrderStatus.PENDING_REPLACE, False), "it may have become larger by now"
    assert working_order(desk.order("o1")).leaves == 5 * TENTH
    (replaced,) = _orders(_replaced(desk, **UP))
    assert (replaced.status, replaced.leaves_quantity) == (OrderStatus.PARTIALLY_FILLED, 5 * TENTH)


def test_a_fill_that_beats_an_amend_makes_it_too_late() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **UP)
    desk.trade("o1", "f1", ONE)
    (filled,) = _orders(list(desk.report("o1", ReportKind.REPLACE_REJECTED, amend_id="a1", reason="too late: FILLED")))
    assert (filled.status, filled.final) == (OrderStatus.FILLED, True)
    assert "o1" not in desk.account.open_orders


def test_an_amend_down_to_what_is_filled_by_then_completes_the_order() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    desk.trade("o1", "f1", 7 * TENTH)
    assert desk.order("o1").status is OrderStatus.PENDING_REPLACE
    (filled,) = _orders(_replaced(desk, **DOWN))
    assert (filled.status, filled.quantity, filled.reason) == (OrderStatus.FILLED, 7 * TENTH, None)


def test_more_filled_than_the_new_terms_allow_is_an_overfill() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    desk.trade("o1", "f1", 8 * TENTH)
    (told,) = _orders(_replaced(desk, **DOWN))
    assert (told.status, told.reason) == (OrderStatus.FILLED, "OVERFILL")
    assert desk.order("o1").anomalies == 1


def test_a_cancel_does_not_wait_for_an_amend_and_the_late_answer_changes_the_terms_alone() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    outputs = desk.approve("c1", quantity=0, cancels=("o1",))
    assert [event.status for event in _orders(list(outputs))] == [OrderStatus.PENDING_CANCEL]
    assert any(isinstance(event, CancelRequested) for event in outputs)
    (late,) = _orders(_replaced(desk, **DOWN))
    assert (late.status, late.quantity) == (OrderStatus.PENDING_CANCEL, 7 * TENTH)
    (over,) = _orders(list(desk.report("o1", ReportKind.CANCELED)))
    assert over.status is OrderStatus.CANCELED


def test_a_kill_reaches_an_order_that_is_being_amended_and_cannot_be_undone_by_its_answer() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **UP)
    desk.approve("c1", quantity=0, cancels=("o1",))
    desk.report("o1", ReportKind.CANCELED)
    (told,) = _orders(_replaced(desk, **UP))
    assert (told.status, told.final, told.leaves_quantity) == (OrderStatus.CANCELED, True, 0)
    assert working_order(desk.order("o1")).leaves == 0


def test_no_answer_to_an_amend_is_asked_about_and_it_is_never_sent_again() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    unknown, query = desk.beat(1_100)
    assert isinstance(unknown, OrderEvent)
    assert unknown.status is OrderStatus.UNKNOWN
    assert isinstance(query, QueryRequested)
    (still,) = _orders(_status(desk))
    assert still.status is OrderStatus.PENDING_REPLACE, "the request may still arrive"
    assert any(isinstance(event, QueryRequested) for event in desk.beat(2_100))
    desk.beat(6_000)
    told = _orders(_status(desk))
    assert [event.exec_type for event in told] == [ExecType.REPLACE_REJECTED, ExecType.STATUS]
    assert (told[-1].status, told[-1].quantity) == (OrderStatus.NEW, ONE)
    assert len([event for event in desk.events if isinstance(event, AmendRequested)]) == 1
    assert not any(isinstance(event, QueryRequested) for event in desk.beat(60_000))


def test_a_status_with_the_new_terms_is_the_answer() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    desk.beat(1_100)
    told = _orders(_status(desk, **DOWN))
    assert (told[-1].status, told[-1].quantity, told[-1].limit_price) == (OrderStatus.NEW, 7 * TENTH, 99 * ONE)
    assert desk.order("o1").amend is None
    assert not any(isinstance(event, QueryRequested) for event in desk.beat(60_000))


def test_a_status_that_the_order_is_filled_ends_the_amend_at_once() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **UP)
    desk.trade("o1", "f1", ONE)
    told = _orders(_status(desk, OrderStatus.FILLED, filled_quantity=ONE))
    assert (told[-1].status, told[-1].final, told[-1].quantity) == (OrderStatus.FILLED, True, ONE)


def test_an_old_status_says_nothing_of_an_amend() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    _replaced(desk, **DOWN)
    desk.beat(5)
    _amend(desk, "a2", quantity=ONE, limit_price=100 * ONE)
    _status(desk, event_time_ns=desk.now_ns - 1_000_000_000)
    assert desk.order("o1").amend is not None, "it tells the terms of before the first"


def test_a_take_over_asks_and_sends_no_amend_again() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    outputs = [*desk.claim(2), *desk.beat(1_100), *desk.beat(6_000)]
    assert not any(isinstance(event, AmendRequested | SubmitRequested) for event in outputs)
    assert any(isinstance(event, QueryRequested) for event in outputs)
    _status(desk, **DOWN)
    assert desk.order("o1").quantity == 7 * TENTH


def test_the_contrary_of_what_was_heard_of_an_amend_is_asked_about_and_believed() -> None:
    desk = Desk()
    _resting(desk)
    _amend(desk, **DOWN)
    desk.report("o1", ReportKind.REPLACE_REJECTED, amend_id="a1")
    outputs = _replaced(desk, **DOWN)
    assert any("ANOMALY" in (event.reason or "") for event in _orders(outputs))
    assert any(isinstance(event, QueryRequested) for event in outputs)
    _status(desk, **DOWN)
    assert desk.order("o1").quantity == 7 * TENTH


def test_the_gate_takes_only_what_works_for_amendable() -> None:
    desk = Desk()
    _resting(desk)
    turn = Turn(desk.config, desk.state, Heartbeat(key="", event_time_ns=0, available_at_ns=desk.now_ns))
    for target, passed in (("o1", True), ("nobody", False)):
        approval = desk.approval("a1", amends=target, instrument=PERP)
        assert amendable(approval, view_for(turn, approval)).passed is passed
