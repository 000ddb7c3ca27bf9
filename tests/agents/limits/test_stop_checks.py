"""The gate and stops: what the collar compares, what a stop may cost, whom it could meet, and how often it may come."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import INSTRUMENTS, ONE, PERP, T0, approved, limits, mark

from agents.limits.checks import check_order, failed
from agents.limits.exposure import ExposureLine, ExposureView, content_key
from agents.limits.working import WorkingOrder
from schemas.decisions import DenyReason, OrderApproved
from schemas.values import Leg, OrderType, Side, TimeInForce

LINE = ("alpha", PERP)
UNIT = ONE // 100


def stop(**changes: Any) -> OrderApproved:
    """Return the stop of a long position of 1 at a mid of 100: from 98, down to 97.5."""
    fields: dict[str, Any] = {
        "side": Side.SELL,
        "order_type": OrderType.STOP,
        "time_in_force": TimeInForce.GTC,
        "stop_price": 98 * ONE,
        "limit_price": round(97.5 * ONE),
        "leg": Leg.STOP_LOSS,
        "reduce_only": True,
    }
    return approved("s1", **fields | changes)


def view(position: int = ONE, working: tuple[WorkingOrder, ...] = (), **changes: Any) -> ExposureView:
    """Return a view of alpha's line with what works on it."""
    line = ExposureLine(*LINE, position)
    for order in working:
        line = line.after(order.side, order.leaves)
    fields: dict[str, Any] = {
        "instruments": INSTRUMENTS,
        "marks": {PERP: mark()},
        "lines": {LINE: line},
        "working": {order.order_id: order for order in working},
        "equity": Decimal(10_000),
        "equity_peak": Decimal(10_000),
        "day_pnl": Decimal(0),
    }
    return ExposureView(**fields | changes)


def works(order_id: str = "w1", **changes: Any) -> WorkingOrder:
    """Return a resting buy of another strategy at 99."""
    fields: dict[str, Any] = {"strategy": "beta", "instrument": PERP, "side": Side.BUY, "leaves": ONE}
    return WorkingOrder(order_id=order_id, **fields | {"limit_price": 99 * ONE, "rests": True, "seen": True} | changes)


def reasons(order: OrderApproved, seen: ExposureView, **changes: Any) -> tuple[DenyReason, ...]:
    """Return why an order may not leave."""
    return failed(check_order(order, seen, limits(**changes), T0))


def test_a_stop_two_collars_away_from_the_mid_passes() -> None:
    assert reasons(stop(), view()) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limit_price": round(97.02 * ONE)}, None),
        ({"limit_price": round(97.01 * ONE)}, DenyReason.PRICE_COLLAR),
        ({"stop_price": 100 * ONE, "limit_price": round(99.5 * ONE)}, DenyReason.PRICE_COLLAR),
        ({"stop_price": 101 * ONE, "limit_price": round(100.5 * ONE)}, DenyReason.PRICE_COLLAR),
        ({"stop_price": 98 * ONE + 1}, DenyReason.TICK_SIZE),
        ({"stop_price": None}, DenyReason.INVALID_NUMBER),
        ({"stop_price": 0}, DenyReason.INVALID_NUMBER),
        ({"order_type": OrderType.LIMIT}, DenyReason.INVALID_NUMBER),
        ({"order_type": OrderType.STOP_LIMIT}, None),
        ({"quantity": 2 * ONE}, DenyReason.REDUCE_ONLY),
    ],
)
def test_a_stop_is_held_to_its_own_prices(changes: dict[str, Any], reason: DenyReason | None) -> None:
    found = reasons(stop(**changes), view())
    assert found == () if reason is None else reason in found


def test_a_buy_stop_is_worth_what_it_may_come_to_cost() -> None:
    short = stop(side=Side.BUY, stop_price=102 * ONE, limit_price=103 * ONE)
    assert reasons(short, view(-ONE)) == ()
    assert reasons(short, view(-ONE), order_value_max=Decimal("102.9")) == (DenyReason.ORDER_VALUE_MAX,)
    long = stop(limit_price=round(97.5 * ONE))
    assert reasons(long, view(), order_value_max=Decimal("99.9")) == (DenyReason.ORDER_VALUE_MAX,)


def test_a_second_leg_beyond_the_position_is_never_let_through() -> None:
    standing = works("l1", strategy="alpha", side=Side.SELL, limit_price=97 * ONE, stop_price=98 * ONE)
    assert DenyReason.REDUCE_ONLY in reasons(stop(), view(ONE, (standing,)))
    assert DenyReason.REDUCE_ONLY in reasons(stop(), view(0))
    assert DenyReason.REDUCE_ONLY in reasons(stop(), view(-ONE))


@pytest.mark.parametrize(
    ("price", "meets"), [(99.0, False), (98.01, False), (98.0, True), (97.5, True), (97.49, False)]
)
def test_a_stop_fears_the_buys_that_it_would_reach_once_it_acts(price: float, meets: bool) -> None:
    found = reasons(stop(), view(ONE, (works(limit_price=round(price * ONE)),)))
    assert (DenyReason.SELF_TRADE in found) is meets


@pytest.mark.parametrize(
    ("price", "time_in_force", "meets"),
    [
        (100.1, TimeInForce.IOC, False),
        (97.8, TimeInForce.GTC, True),
        (99.9, TimeInForce.GTC, False),
        (99.9, TimeInForce.POST_ONLY, False),
    ],
)
def test_a_waiting_stop_is_no_reason_against_buys_that_it_would_not_reach(
    price: float, time_in_force: TimeInForce, meets: bool
) -> None:
    leg = works("l1", strategy="alpha", side=Side.SELL, limit_price=round(97.5 * ONE), stop_price=98 * ONE)
    buy = approved("b1", limit_price=round(price * ONE), time_in_force=time_in_force)
    found = reasons(buy, view(ONE, (leg,)), price_collar="0.05")
    assert (DenyReason.SELF_TRADE in found) is meets


def test_a_stop_limit_that_has_been_reached_rests_like_any_other() -> None:
    reached = works("l1", strategy="alpha", side=Side.SELL, limit_price=round(99.8 * ONE), stop_price=None)
    buy = approved("b1", limit_price=round(99.9 * ONE))
    assert DenyReason.SELF_TRADE in reasons(buy, view(ONE, (reached,)))


def test_legs_that_are_alike_are_no_duplicates_of_each_other_but_targets_are() -> None:
    first, second = stop(), approved("s2", **{name: getattr(stop(), name) for name in _CONTENT})
    assert content_key(first) != content_key(second)
    assert reasons(second, view(2 * ONE, contents_ns={content_key(first): T0})) == ()
    one, other = approved("o1"), approved("o2")
    assert DenyReason.DUPLICATE_ORDER in reasons(other, view(0, contents_ns={content_key(one): T0}))


_CONTENT = ("side", "order_type", "time_in_force", "stop_price", "limit_price", "leg", "reduce_only")


@given(
    stop_price=st.integers(9_000, 11_000),
    worst=st.integers(8_000, 12_000),
    side=st.sampled_from(Side),
    position=st.integers(-3, 3),
    quantity=st.integers(1, 3),
)
def test_a_stop_that_passes_lies_beyond_the_mid_within_its_collar_and_only_reduces(
    stop_price: int, worst: int, side: Side, position: int, quantity: int
) -> None:
    order = stop(side=side, stop_price=stop_price * UNIT, limit_price=worst * UNIT, quantity=quantity * ONE)
    if reasons(order, view(position * ONE)) == ():
        assert side.sign * (stop_price - 10_000) > 0
        assert abs(worst - stop_price) <= stop_price * Decimal("0.01")
        assert -side.sign * position >= quantity
