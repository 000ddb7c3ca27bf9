"""Fills that a venue takes back: afterwards the books are those of a run in which they never happened."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_desk import ONE, PERP, SPOT, Desk

from agents.execution.ledger import imbalance
from agents.execution.positions import PositionState
from schemas.dead_letters import BadRecord
from schemas.event import Event
from schemas.orders import (
    CancelRequested,
    ExecType,
    Fill,
    OrderEvent,
    OrderStatus,
    Position,
    QueryRequested,
    ReportKind,
    VenueFill,
)
from schemas.values import Liquidity, Side, TimeInForce

TENTH = ONE // 10


def _bust(desk: Desk, fill_id: str, order_id: str = "o1", **changes: Any) -> list[Event]:
    return list(desk.report(order_id, ReportKind.TRADE_CANCEL, refers_to=fill_id, **changes))


def _resting(desk: Desk, order_id: str = "o1", **changes: Any) -> None:
    desk.approve(order_id, time_in_force=TimeInForce.GTC, **changes)
    desk.report(order_id, ReportKind.ACCEPTED, venue_order_id="v1")


def _books(desk: Desk) -> tuple[dict[str, Decimal], dict[str, PositionState]]:
    """Return balances that are not 0, and the positions without how many fills they took."""
    if "account/main" not in desk.state:
        return {}, {}
    balances = {key: amount for key, amount in desk.account.balances.items() if amount}
    positions = {}
    for key, position in desk.account.positions.items():
        position.fills = 0
        if position != PositionState():
            positions[key] = position
    return balances, positions


_STEPS = st.lists(
    st.tuples(
        st.sampled_from([PERP, SPOT]),
        st.sampled_from(list(Side)),
        st.integers(1, 5 * ONE),
        st.integers(ONE, 60_000 * ONE),
        st.decimals(-5, 50, places=8),
        st.sampled_from(["USD", "", "base", "BNB"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def _play(steps: list[Any], *, without: bool) -> Desk:
    desk = Desk()
    for number, (key, side, quantity, price, fee, coin, busted) in enumerate(steps):
        desk.beat(2)  # The same order twice in one moment is denied.
        name, currency = f"o{number}", key[4:7] if coin == "base" else coin
        desk.approve(name, instrument=key, side=side, quantity=quantity, decision_mid=price, limit_price=price)
        if not (without and busted):
            desk.trade(name, f"f{number}", quantity, price, instrument=key, fee=fee, fee_currency=currency)
    return desk


@settings(max_examples=80, deadline=None)
@given(steps=_STEPS, draw=st.randoms(use_true_random=False))
def test_after_a_bust_the_books_are_as_if_the_fill_had_never_been(steps: list[Any], draw: Any) -> None:
    desk = _play(steps, without=False)
    busted = [f"o{number}" for number, step in enumerate(steps) if step[-1]]
    draw.shuffle(busted)
    for name in busted + busted:
        for event in _bust(desk, f"f{name[1:]}", name):
            if isinstance(event, Fill):
                assert not any(imbalance(event.postings).values())
    assert _books(desk) == _books(_play(steps, without=True))


def test_a_bust_is_told_with_what_it_undoes_and_a_second_one_changes_nothing() -> None:
    desk = Desk()
    _resting(desk)
    (_, fill, _) = desk.trade("o1", "f1", 4 * TENTH, 99 * ONE)
    assert isinstance(fill, Fill)
    told, reversal, position, query = _bust(desk, "f1", reason="clearly erroneous")
    assert isinstance(told, OrderEvent)
    assert (told.status, told.exec_type, told.filled_quantity) == (OrderStatus.NEW, ExecType.TRADE_CANCEL, 0)
    assert told.reason == "fill f1 taken back: clearly erroneous"
    assert (told.position_after, told.leaves_quantity) == (0, ONE)
    assert isinstance(reversal, Fill)
    assert (reversal.fill_id, reversal.reverses, reversal.side) == ("f1/bust", "f1", Side.SELL)
    assert (reversal.quantity, reversal.price, reversal.fee) == (4 * TENTH, 99 * ONE, Decimal("-0.04"))
    assert (reversal.slippage, reversal.realised_pnl) == (-fill.slippage, 0)
    both = [*fill.postings, *reversal.postings]
    for name in {(line.ledger_account, line.asset) for line in both}:
        assert sum(line.amount for line in both if (line.ledger_account, line.asset) == name) == 0
    assert isinstance(position, Position)
    assert (position.quantity, position.average_price, position.fees) == (0, None, 0)
    assert isinstance(query, QueryRequested), "only the venue knows whether what was filled works again"
    assert _bust(desk, "f1") == []
    assert desk.trade("o1", "f1", 4 * TENTH, 99 * ONE) == [], "nor does the fill come back"


def test_the_result_of_later_fills_is_worked_out_anew() -> None:
    """Bought at 100 and at 200, one sold at 300: 150 earned. Without the first it was bought at 200: 100 earned."""
    desk = Desk()
    for name, side, price in (("o1", Side.BUY, 100), ("o2", Side.BUY, 200), ("o3", Side.SELL, 300)):
        desk.approve(name, side=side, limit_price=price * ONE, decision_mid=price * ONE)
        desk.trade(name, f"f-{name}", ONE, price * ONE, fee=Decimal(0))
    position = desk.account.positions[f"alpha|{PERP}"]
    assert (position.quantity, position.realised_pnl) == (ONE, 150)
    reversal = next(event for event in _bust(desk, "f-o1") if isinstance(event, Fill))
    assert reversal.realised_pnl == -50
    assert (position.quantity, position.cost, position.realised_pnl) == (0, 0, 100)
    assert desk.account.balances["cash|USD"] == 100_100


def test_a_filled_order_whose_fill_is_busted_stays_filled_and_must_not_go_on_working() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.trade("o1", "f1", ONE)
    outputs = _bust(desk, "f1")
    told = outputs[0]
    assert isinstance(told, OrderEvent)
    assert (told.status, told.final, told.filled_quantity) == (OrderStatus.FILLED, True, 0)
    assert isinstance(outputs[-1], CancelRequested)
    assert "o1" not in desk.account.open_orders


def test_a_correction_replaces_the_fill_and_comes_once() -> None:
    desk = Desk()
    _resting(desk)
    desk.trade("o1", "f1", 4 * TENTH, 99 * ONE)
    facts = {"fill_id": "f9", "last_price": 98 * ONE, "last_quantity": 3 * TENTH, "fee": Decimal("0.03")}
    outputs = desk.report("o1", ReportKind.TRADE_CORRECT, refers_to="f1", fee_currency="USD", **facts)
    fills = [event for event in outputs if isinstance(event, Fill)]
    assert [(fill.fill_id, fill.reverses) for fill in fills] == [("f1/bust", "f1"), ("f9", None)]
    said = [event.exec_type for event in outputs if isinstance(event, OrderEvent)]
    assert said == [ExecType.TRADE_CORRECT, ExecType.TRADE]
    order = desk.order("o1")
    assert (order.filled_quantity, order.average_price) == (3 * TENTH, 98 * ONE)
    assert desk.account.positions[f"alpha|{PERP}"].quantity == 3 * TENTH
    again = desk.report("o1", ReportKind.TRADE_CORRECT, refers_to="f1", fee_currency="USD", **facts)
    assert not any(isinstance(event, Fill | OrderEvent) for event in again)


def test_a_bust_before_its_fill_is_an_anomaly_and_the_fill_is_not_booked_when_it_comes() -> None:
    desk = Desk()
    _resting(desk)
    told, query = _bust(desk, "f1")
    assert isinstance(told, OrderEvent)
    assert told.reason == "ANOMALY TRADE_CANCEL in NEW: of fill f1, which is not known here"
    assert isinstance(query, QueryRequested)
    assert not any(isinstance(event, Fill) for event in desk.trade("o1", "f1", 4 * TENTH))
    assert desk.order("o1").filled_quantity == 0


def test_a_bust_of_nothing_or_of_an_order_that_nobody_knows_is_a_dead_letter() -> None:
    desk = Desk()
    _resting(desk)
    with pytest.raises(BadRecord, match="which is not known here"):
        _bust(desk, "f1", "nobody")
    with pytest.raises(BadRecord, match="needs the fill that it refers to"):
        desk.report("o1", ReportKind.TRADE_CANCEL)
    with pytest.raises(BadRecord, match="TRADE_CORRECT report needs fill_id"):
        desk.report("o1", ReportKind.TRADE_CORRECT, refers_to="f1")


@pytest.mark.parametrize("known", [True, False])
def test_a_status_tells_of_a_bust_that_was_missed(known: bool) -> None:
    desk = Desk()
    _resting(desk)
    if known:
        desk.trade("o1", "f1", 4 * TENTH)
    fill = VenueFill(
        fill_id="f1",
        price=100 * ONE,
        quantity=4 * TENTH,
        fee=Decimal("0.04"),
        fee_currency="USD",
        liquidity=Liquidity.MAKER,
        event_time_ns=0,
        busted=True,
    )
    fields: dict[str, Any] = {"status": OrderStatus.NEW, "filled_quantity": 0, "fills": (fill,)}
    desk.report("o1", ReportKind.STATUS, **fields)
    desk.trade("o1", "f1", 4 * TENTH)
    order = desk.order("o1")
    assert (order.status, order.filled_quantity, order.anomalies) == (OrderStatus.NEW, 0, 0)
    assert _books(desk)[1] == {}


def test_without_a_later_fill_that_was_forgotten_the_sums_still_hold_and_it_is_said() -> None:
    desk = Desk()
    _resting(desk)
    desk.trade("o1", "f1", 4 * TENTH, 100 * ONE, fee=Decimal(0))
    desk.approve("o2", side=Side.SELL, quantity=4 * TENTH, limit_price=110 * ONE, decision_mid=110 * ONE)
    desk.trade("o2", "f2", 4 * TENTH, 110 * ONE, fee=Decimal(0))
    desk.beat(desk.config.retention_ns // 1_000_000 + 121_000)
    assert "order/o2" not in desk.state
    outputs = _bust(desk, "f1")
    told = next(event for event in outputs if isinstance(event, OrderEvent))
    assert (told.reason or "").endswith("(at average cost, for later fills are forgotten)")
    position = desk.account.positions[f"alpha|{PERP}"]
    assert position.quantity == -4 * TENTH
    assert position.realised_pnl - position.cost == 44, "what came in for what was sold"
    assert _bust(desk, "f1") == []


def test_a_late_status_from_before_a_bust_is_no_anomaly() -> None:
    desk = Desk()
    _resting(desk)
    desk.trade("o1", "f1", 4 * TENTH)
    _bust(desk, "f1")
    before = desk.order("o1").anomalies
    listed = VenueFill(
        fill_id="f1",
        price=100 * ONE,
        quantity=4 * TENTH,
        fee=Decimal("0.04"),
        fee_currency="USD",
        liquidity=Liquidity.MAKER,
        event_time_ns=0,
    )
    fields: dict[str, Any] = {"status": OrderStatus.PARTIALLY_FILLED, "filled_quantity": 4 * TENTH, "fills": (listed,)}
    desk.report("o1", ReportKind.STATUS, **fields)
    assert desk.order("o1").filled_quantity == 0
    assert desk.order("o1").anomalies == before
