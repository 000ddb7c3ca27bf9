"""The transition table, by every short sequence of reports, and the law that holds whatever a venue says."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_desk import ONE, PERP, Desk

from agents.execution.state import STATE_TYPES
from agents.execution.transitions import EXEC_OF_REPORT, LIVE, TERMINAL, TRANSITIONS
from agents.stage import ShardState
from schemas.dead_letters import BadRecord
from schemas.orders import (
    CancelRequested,
    ExecType,
    Fill,
    OrderEvent,
    OrderStatus,
    QueryRequested,
    ReportKind,
    SubmitRequested,
    VenueFill,
)
from schemas.reconciliation import BooksRequested
from schemas.values import Liquidity, TimeInForce

TENTH = ONE // 10


def _fill(number: int, quantity: int) -> VenueFill:
    return VenueFill(
        fill_id=f"f{number}",
        price=100 * ONE,
        quantity=quantity,
        fee=Decimal("0.04"),
        fee_currency="USD",
        liquidity=Liquidity.TAKER,
        event_time_ns=0,
    )


# One letter per thing a venue can say, with the quantities that make the corners: partial, completing, too much,
# said twice, and a status that lists what the stream has not brought yet.
WORDS: dict[str, dict[str, object]] = {
    "accepted": {"kind": ReportKind.ACCEPTED, "venue_order_id": "v1"},
    "rejected": {"kind": ReportKind.REJECTED, "reason": "no", "venue_order_id": "v1"},
    "canceled": {"kind": ReportKind.CANCELED},
    "cancel-rejected": {"kind": ReportKind.CANCEL_REJECTED},
    "expired": {"kind": ReportKind.EXPIRED, "venue_order_id": "v1"},
    "timed-out": {"kind": ReportKind.TIMED_OUT},
    "not-found": {"kind": ReportKind.NOT_FOUND},
    "not-sent": {"kind": ReportKind.NOT_SENT},
    "part": {"kind": ReportKind.TRADE, "fill": _fill(1, 4 * TENTH)},
    "rest": {"kind": ReportKind.TRADE, "fill": _fill(2, 6 * TENTH)},
    "whole": {"kind": ReportKind.TRADE, "fill": _fill(3, ONE)},
    "status-new": {"kind": ReportKind.STATUS, "status": OrderStatus.NEW, "filled_quantity": 0, "venue_order_id": "v1"},
    "status-part": {
        "kind": ReportKind.STATUS,
        "status": OrderStatus.PARTIALLY_FILLED,
        "filled_quantity": 4 * TENTH,
        "venue_order_id": "v1",
        "fills": (_fill(1, 4 * TENTH),),
    },
    "status-done": {
        "kind": ReportKind.STATUS,
        "status": OrderStatus.FILLED,
        "filled_quantity": ONE,
        "venue_order_id": "v1",
        "fills": (_fill(1, 4 * TENTH), _fill(2, 6 * TENTH)),
    },
    "status-canceled": {"kind": ReportKind.STATUS, "status": OrderStatus.CANCELED, "filled_quantity": 0},
}


def _say(desk: Desk, word: str) -> None:
    fields = dict(WORDS[word])
    fill = fields.pop("fill", None)
    if isinstance(fill, VenueFill):
        desk.trade("o1", fill.fill_id, fill.quantity, fill.price)
    else:
        kind = fields.pop("kind")
        assert isinstance(kind, ReportKind)
        desk.report("o1", kind, **fields)


def _check_laws(desk: Desk) -> None:
    """Whatever was said: quantities add up, money is booked once, and the account's lists agree with the orders."""
    order = desk.order("o1")
    said = desk.order_events("o1")
    filled = [event.filled_quantity for event in said]
    assert filled == sorted(filled), "CumQty never falls"
    for event in said:
        if not event.final:
            assert event.filled_quantity + event.leaves_quantity == event.quantity
        else:
            assert event.leaves_quantity == 0
    fills = [event for event in desk.events if isinstance(event, Fill)]
    assert len({fill.fill_id for fill in fills}) == len(fills)
    assert sum(fill.quantity for fill in fills) == order.filled_quantity
    assert desk.account.positions.get(f"alpha|{PERP}") is None or (
        desk.account.positions[f"alpha|{PERP}"].quantity == order.filled_quantity
    )
    assert ("o1" in desk.account.open_orders) == (order.status in LIVE)
    assert (order.status is OrderStatus.FILLED) == (order.filled_quantity >= order.quantity) or order.anomalies
    finals = [event.status for event in said if event.final]
    late_fills = [event for event in said if event.final and event.exec_type is ExecType.TRADE]
    anomalies = [event for event in said if (event.reason or "").startswith(("ANOMALY", "OVERFILL"))]
    assert len(finals) <= 1 + len(late_fills) + len(anomalies), "one final outcome, save late fills"
    if order.status is OrderStatus.UNKNOWN:
        assert order.timer_ns > 0, "an unknown order is asked about until the venue answers"


def test_the_table_speaks_of_every_status_and_never_leaves_a_final_one_for_a_live_one() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)
    assert set(EXEC_OF_REPORT) == set(ReportKind) - {ReportKind.FUNDING}, "funding is about no order"
    for status in TERMINAL:
        assert set(TRANSITIONS[status].values()) <= {status}
    for status in LIVE:
        assert TRANSITIONS[status][ExecType.STATUS] is status, "what a status says is applied as what it amounts to"


@settings(max_examples=300, deadline=None)
@given(
    words=st.lists(st.sampled_from([*WORDS, "cancel", "claim", "second", "six"]), min_size=1, max_size=6),
    time_in_force=st.sampled_from([TimeInForce.IOC, TimeInForce.GTC]),
)
def test_any_interleaving_of_reports_cancels_claims_and_time_keeps_the_law(
    words: list[str], time_in_force: TimeInForce
) -> None:
    desk = Desk()
    desk.approve("o1", time_in_force=time_in_force)
    for number, word in enumerate(words):
        if word == "cancel":
            desk.approve(f"c{number}", quantity=0, cancels=("o1",))
        elif word == "claim":
            desk.claim(number + 1)
        elif word in ("second", "six"):
            desk.beat(1_000 if word == "second" else 6_000)
        else:
            _say(desk, word)
        _check_laws(desk)


@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.sampled_from([*WORDS]), min_size=1, max_size=6))
def test_a_restored_checkpoint_goes_on_to_the_byte(words: list[str]) -> None:
    """A checkpoint holds what was touched, and no more: a change that nobody marked is gone after a restart."""
    straight, broken = Desk(), Desk()
    straight.approve("o1")
    broken.approve("o1")
    kept: dict[str, bytes] = {}
    for word in words:
        for key in broken.state.touched:
            kept.pop(key, None)
            if key in broken.state:
                kept[key] = msgspec.msgpack.encode(broken.state[key])
        restored = ShardState()
        for key, value in kept.items():
            restored.restore(key, msgspec.msgpack.decode(value, type=STATE_TYPES[key.partition("/")[0]]))
        broken.state = restored
        _say(straight, word)
        _say(broken, word)
    assert msgspec.msgpack.encode(straight.events) == msgspec.msgpack.encode(broken.events)
    assert dict(straight.state) == dict(broken.state)


def test_an_intent_and_its_request_leave_together_and_a_second_approval_is_ignored() -> None:
    desk = Desk()
    intent, request = desk.approve("o1")
    assert isinstance(intent, OrderEvent)
    assert intent.status is OrderStatus.PENDING_NEW
    assert intent.working_after == ONE
    assert isinstance(request, SubmitRequested)
    assert request.not_after_ns == desk.now_ns + desk.config.submit_limit_ns
    assert desk.approve("o1") == []


def test_an_expired_approval_is_denied_and_a_foreign_strategy_is_not_permitted() -> None:
    desk = Desk()
    (late,) = desk.approve("o1", expires_at_ns=desk.now_ns - 1)
    (foreign,) = desk.approve("o2", strategy="gamma")
    assert isinstance(late, OrderEvent)
    assert isinstance(foreign, OrderEvent)
    assert (late.status, late.final, late.deny_reasons) == (OrderStatus.DENIED, True, ("DATA_STALE",))
    assert foreign.deny_reasons == ("NOT_PERMITTED",)


def test_silence_makes_an_order_unknown_and_only_absence_after_the_window_closes_it() -> None:
    desk = Desk()
    desk.approve("o1")
    assert desk.beat(900) == []
    unknown, query = desk.beat(200)
    assert isinstance(unknown, OrderEvent)
    assert unknown.status is OrderStatus.UNKNOWN
    assert isinstance(query, QueryRequested)
    assert query.attempt == 1
    assert desk.report("o1", ReportKind.NOT_FOUND) == []
    (again,) = desk.beat(600)
    assert isinstance(again, QueryRequested)
    assert again.attempt == 2
    desk.beat(6_000)
    (closed,) = desk.report("o1", ReportKind.NOT_FOUND)
    assert isinstance(closed, OrderEvent)
    assert (closed.status, closed.final) == (OrderStatus.NOT_SENT, True)
    assert not any(isinstance(event, SubmitRequested) for event in desk.events[2:]), "never sent again"


def test_a_cancel_before_the_acknowledgement_waits_for_it() -> None:
    desk = Desk()
    desk.approve("o1", time_in_force=TimeInForce.GTC)
    assert desk.approve("c1", quantity=0, cancels=("o1",)) == []
    outputs = desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    assert [type(event) for event in outputs] == [OrderEvent, OrderEvent, CancelRequested]
    (rejected,) = desk.report("o1", ReportKind.CANCEL_REJECTED, reason="too late")
    assert isinstance(rejected, OrderEvent)
    assert rejected.status is OrderStatus.NEW


def test_a_cancel_that_a_take_over_made_the_venue_refuse_is_asked_for_again_and_once() -> None:
    desk = Desk()
    desk.approve("o1", time_in_force=TimeInForce.GTC)
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    desk.approve("c1", quantity=0, cancels=("o1",))
    desk.claim(2)
    fenced = desk.report("o1", ReportKind.CANCEL_REJECTED, reason="fenced: epoch 1 is below 2")
    assert any(isinstance(event, CancelRequested) for event in fenced)
    assert desk.order("o1").status is OrderStatus.PENDING_CANCEL
    refused = desk.report("o1", ReportKind.CANCEL_REJECTED, reason="no")
    assert not any(isinstance(event, CancelRequested) for event in refused)
    assert desk.order("o1").status is OrderStatus.NEW


def test_a_take_over_asks_about_everything_open() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.approve("o2", time_in_force=TimeInForce.GTC)
    desk.report("o2", ReportKind.ACCEPTED, venue_order_id="v2")
    (asked,) = (event for event in desk.claim(2) if isinstance(event, BooksRequested))
    assert asked.client_ids == (desk.order("o1").client_order_id, desk.order("o2").client_order_id)
    by_name = [event.order_id for event in desk.beat(3_600) if isinstance(event, QueryRequested)]
    assert by_name == ["o1", "o2"], "without an answer for a while each is asked about by its name"
    assert desk.order("o1").status is OrderStatus.UNKNOWN
    assert desk.order("o2").status is OrderStatus.NEW


def test_an_order_that_was_given_up_and_turns_out_alive_is_booked_and_cancelled() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.report("o1", ReportKind.NOT_SENT)
    outputs = desk.trade("o1", "f1", TENTH)
    assert any(isinstance(event, Fill) for event in outputs)
    assert any(isinstance(event, CancelRequested) for event in outputs)
    assert desk.account.positions[f"alpha|{PERP}"].quantity == TENTH


def test_a_report_on_an_unknown_order_is_refused_and_finished_orders_are_forgotten() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.trade("o1", "f1", ONE)
    with pytest.raises(BadRecord):
        desk.report("nobody", ReportKind.ACCEPTED)
    with pytest.raises(BadRecord):
        desk.report("o1", ReportKind.TRADE, fill_id="f2")
    assert "order/o1" in desk.state
    desk.beat(desk.config.retention_ns // 1_000_000 + 121_000)
    assert not [key for key in desk.state if key.startswith(("order/", "finished/"))]


def _canceled(desk: Desk) -> None:
    desk.approve("o1", time_in_force=TimeInForce.GTC)
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    desk.report("o1", ReportKind.CANCELED)


def test_a_fill_after_the_cancel_is_legal_and_a_completing_one_makes_it_filled() -> None:
    desk = Desk()
    _canceled(desk)
    late = desk.trade("o1", "f1", 4 * TENTH)[0]
    assert isinstance(late, OrderEvent)
    assert (late.status, late.final, late.reason) == (OrderStatus.CANCELED, True, None)
    full = desk.trade("o1", "f2", 6 * TENTH)[0]
    assert isinstance(full, OrderEvent)
    assert (full.status, full.reason, full.position_after) == (OrderStatus.FILLED, None, ONE)
    assert desk.order("o1").anomalies == 0


def test_too_much_is_booked_and_recorded() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.trade("o1", "f1", ONE)
    over = desk.trade("o1", "f2", TENTH)[0]
    assert isinstance(over, OrderEvent)
    assert (over.status, over.reason, over.filled_quantity) == (OrderStatus.FILLED, "OVERFILL", ONE + TENTH)
    assert over.position_after == ONE + TENTH
    assert desk.order("o1").anomalies == 1


def test_a_cancel_without_an_answer_is_asked_about_and_sent_again_when_the_order_still_works() -> None:
    desk = Desk()
    desk.approve("o1", time_in_force=TimeInForce.GTC)
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    desk.approve("c1", quantity=0, cancels=("o1",))
    doubt, query = desk.beat(1_100)
    assert isinstance(doubt, OrderEvent)
    assert doubt.status is OrderStatus.UNKNOWN
    assert isinstance(query, QueryRequested)
    outputs = desk.report("o1", ReportKind.STATUS, status=OrderStatus.NEW, filled_quantity=0, venue_order_id="v1")
    assert [event.status for event in outputs if isinstance(event, OrderEvent)] == ["NEW", "PENDING_CANCEL"]
    assert isinstance(outputs[-1], CancelRequested)


def test_a_status_brings_the_fills_that_were_missed() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.beat(1_100)
    outputs = desk.report("o1", ReportKind.STATUS, **{k: v for k, v in WORDS["status-done"].items() if k != "kind"})
    assert [event.fill_id for event in outputs if isinstance(event, Fill)] == ["f1", "f2"]
    assert desk.order("o1").status is OrderStatus.FILLED
    assert desk.beat(60_000) == [], "nothing more is asked"


def test_a_taking_order_that_stays_open_is_asked_about() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    (query,) = desk.beat(1_100)
    assert isinstance(query, QueryRequested)
    assert desk.order("o1").status is OrderStatus.NEW


def test_a_question_stays_open_whatever_else_is_heard_until_it_is_answered() -> None:
    """A fill that came while nobody listened is known by the answer alone."""
    desk = Desk()
    desk.approve("o1", time_in_force=TimeInForce.GTC)
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    desk.claim(2)  # It asks, and is not answered.
    desk.approve("c1", quantity=0, cancels=("o1",))
    desk.report("o1", ReportKind.CANCEL_REJECTED, reason="too late: FILLED")
    assert any(isinstance(event, QueryRequested) for event in desk.beat(6_000))
    fills = (_fill(1, ONE),)
    desk.report("o1", ReportKind.STATUS, status=OrderStatus.FILLED, filled_quantity=ONE, fills=fills)
    assert desk.order("o1").status is OrderStatus.FILLED
    assert not any(isinstance(event, QueryRequested) for event in desk.beat(60_000))


def test_an_end_that_counts_a_fill_which_has_not_come_is_asked_about() -> None:
    desk = Desk()
    desk.approve("o1", time_in_force=TimeInForce.GTC)
    desk.report("o1", ReportKind.ACCEPTED, venue_order_id="v1")
    outputs = desk.report("o1", ReportKind.CANCELED, filled_quantity=TENTH)
    assert [type(event) for event in outputs] == [QueryRequested]
    assert not desk.order("o1").final
    fills = (_fill(1, TENTH),)
    desk.report("o1", ReportKind.STATUS, status=OrderStatus.CANCELED, filled_quantity=TENTH, fills=fills)
    assert (desk.order("o1").status, desk.order("o1").filled_quantity) == (OrderStatus.CANCELED, TENTH)
