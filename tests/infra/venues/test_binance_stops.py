"""Stops at Binance: said in its words, held against its rules, and told when they are reached, once."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.venues.binance.filters import refusal, rules_of
from infra.venues.binance.orders import KnownOrders, NotSupported, parameters_of
from infra.venues.binance.reports import KnownOrder, of_event, of_status
from infra.venues.binance.wire import OrderFound, SymbolFound, UserEvent
from schemas.orders import OrderStatus, ReportKind, SubmitRequested
from schemas.values import OrderType, Side, TimeInForce, units

NOW = 1_700_000_000_000_000_000
SYMBOL = "BTCUSDT"


def _submit(order_id: str = "s1", **changes: Any) -> SubmitRequested:
    fields: dict[str, Any] = {
        "key": "main",
        "event_time_ns": NOW,
        "available_at_ns": NOW,
        "order_id": order_id,
        "instrument": f"BINANCE:{SYMBOL}",
        "side": Side.SELL,
        "order_type": OrderType.STOP,
        "time_in_force": TimeInForce.GTC,
        "limit_price": units("57000"),
        "stop_price": units("58000.5"),
        "quantity": units("0.001"),
        "not_after_ns": NOW,
    }
    return SubmitRequested(**fields | changes)


def test_a_stop_has_no_price_and_a_stop_limit_has_one() -> None:
    shared = {
        "symbol": SYMBOL,
        "side": "SELL",
        "quantity": "0.001",
        "stopPrice": "58000.5",
        "newClientOrderId": "s1",
        "newOrderRespType": "FULL",
    }
    assert parameters_of(_submit()) == shared | {"type": "STOP_LOSS"}
    limited = parameters_of(_submit(order_type=OrderType.STOP_LIMIT))
    assert limited == shared | {"type": "STOP_LOSS_LIMIT", "price": "57000", "timeInForce": "GTC"}


@pytest.mark.parametrize(
    "changes",
    [
        {"stop_price": None},
        {"time_in_force": TimeInForce.POST_ONLY},
        {"order_type": OrderType.STOP_LIMIT, "limit_price": None},
    ],
)
def test_what_is_no_stop_is_not_supported(changes: dict[str, Any]) -> None:
    with pytest.raises(NotSupported):
        parameters_of(_submit(**changes))


def _rules(*types: str) -> Any:
    filters: dict[str, dict[str, Any]] = {
        "PRICE_FILTER": {"minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
        "LOT_SIZE": {"minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
        "NOTIONAL": {"minNotional": "5.00000000", "maxNotional": "9000000.00000000"},
        "MAX_NUM_ORDERS": {"maxNumOrders": 200},
        "MAX_NUM_ALGO_ORDERS": {"maxNumAlgoOrders": 5},
    }
    named = [{"filterType": name, **values} for name, values in filters.items()]
    return rules_of(SymbolFound(SYMBOL, "TRADING", "BTC", "USDT", list(types), named))


@pytest.mark.parametrize(
    ("changes", "stops", "reason"),
    [
        ({}, 4, None),
        ({}, 5, "MAX_NUM_ALGO_ORDERS: 5 stops wait already"),
        ({"stop_price": units("58000.005")}, 0, "PRICE_FILTER: the stop price is not a multiple of the increment"),
        ({"limit_price": units("57000.005")}, 0, None),
        ({"quantity": 1}, 0, "LOT_SIZE: the quantity is too small"),
    ],
)
def test_a_stop_is_held_against_the_filters(changes: dict[str, Any], stops: int, reason: str | None) -> None:
    assert refusal(_submit(**changes), "STOP_LOSS", _rules("STOP_LOSS"), 0, stops) == reason


def test_the_limit_of_a_stop_limit_is_held_against_them_too() -> None:
    wrong = _submit(order_type=OrderType.STOP_LIMIT, limit_price=units("57000.005"))
    rules = _rules("STOP_LOSS_LIMIT")
    assert refusal(wrong, "STOP_LOSS_LIMIT", rules, 0) == "PRICE_FILTER: the price is not a multiple of the increment"
    assert refusal(_submit(), "STOP_LOSS", rules, 0) == "STOP_LOSS orders are not taken for the symbol"


def test_only_stops_that_still_wait_are_counted() -> None:
    orders = KnownOrders()
    for order_id, order_type in (("s1", OrderType.STOP), ("s2", OrderType.STOP_LIMIT), ("o1", OrderType.LIMIT)):
        stop_price = units("58000") if order_type.waits else None
        orders.know(_submit(order_id, order_type=order_type, stop_price=stop_price)).sent = True
    assert (orders.waiting(SYMBOL), orders.working(SYMBOL)) == (2, 3)
    known = orders.get("s1")
    assert known is not None
    known.triggered = True
    assert orders.waiting(SYMBOL) == 1


def _known() -> KnownOrder:
    return KnownOrder(order_id="s1", account="main", instrument=f"BINANCE:{SYMBOL}", symbol=SYMBOL, waits=True)


def _event(*, working: bool) -> UserEvent:
    return UserEvent(e="executionReport", E=1, s=SYMBOL, c="s1", x="NEW", X="NEW", i=7, T=NOW // 1_000_000, w=working)


@given(st.lists(st.booleans(), max_size=6))
def test_a_stop_is_accepted_once_and_reached_once(working: list[bool]) -> None:
    order = _known()
    told = [report.kind for flag in working for report in of_event(order, _event(working=flag))]
    assert told.count(ReportKind.ACCEPTED) == (1 if working else 0)
    assert told.count(ReportKind.TRIGGERED) == (1 if any(working) else 0)
    if ReportKind.TRIGGERED in told:
        assert told.index(ReportKind.ACCEPTED) < told.index(ReportKind.TRIGGERED)


@pytest.mark.parametrize(
    ("kind", "working", "triggered"), [("STOP_LOSS", False, False), ("STOP_LOSS_LIMIT", True, True)]
)
def test_a_status_says_whether_a_stop_has_been_reached(kind: str, working: bool, triggered: bool) -> None:
    found = OrderFound(SYMBOL, 7, "s1", "0.001", "0", "NEW", "SELL", 1, 1, type=kind, isWorking=working)
    # Of an order of a former life nobody remembers what it was before the venue has said it.
    order = msgspec.structs.replace(_known(), waits=False)
    report = of_status(order, found, [], NOW, "e")
    assert report is not None
    assert (report.status, report.triggered, order.waits) == (OrderStatus.NEW, triggered, True)
