"""Sizing: a target is a share of the budget in whole lots, and what works already is never ordered twice."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import ONE, instrument, limits, mark

from agents.limits.exposure import ExposureLine
from agents.risk.config import StrategyRisk
from agents.risk.sizing import limit_price, order_quantity, toward_zero, wanted_position
from schemas.values import Side, TimeInForce, notional

LOT = ONE // 1000
BUDGET = Decimal(1_000)


@pytest.mark.parametrize(
    ("target", "changes", "rate", "wanted"),
    [
        (1.0, {}, "1", 10 * ONE),
        (-0.5, {}, "1", -5 * ONE),
        (0.0, {}, "1", 0),
        (1.0, {"multiplier": Decimal(10)}, "1", ONE),
        (1.0, {"inverse": True, "multiplier": Decimal(100)}, "1", 10 * ONE),
        (1.0, {}, "2", 5 * ONE),
        (1 / 3, {"lot_size": ONE}, "1", 3 * ONE),
        (-1 / 3, {"lot_size": ONE}, "1", -3 * ONE),
    ],
)
def test_a_target_is_a_share_of_the_budget(target: float, changes: dict[str, Any], rate: str, wanted: int) -> None:
    assert wanted_position(target, BUDGET, 100 * ONE, instrument(**changes), Decimal(rate)) == wanted


@given(st.floats(-1, 1), st.integers(1, 10**14), st.integers(1, 10**9))
def test_the_wanted_position_never_exceeds_the_budget(target: float, mid: int, lot: int) -> None:
    wanted = wanted_position(target, BUDGET, mid, instrument(lot_size=lot), Decimal(1))
    assert wanted % lot == 0
    assert abs(notional(mid, wanted)) <= abs(Decimal(repr(target))) * BUDGET
    assert wanted == 0 or (wanted > 0) == (target > 0)


QUANTITIES = st.integers(0, 10**10)


@given(st.integers(-(10**10), 10**10), st.integers(-(10**10), 10**10), QUANTITIES, QUANTITIES, st.integers(1, 10**7))
def test_no_fill_of_anything_overshoots_the_wanted_position(
    wanted: int, position: int, buys: int, sells: int, lot: int
) -> None:
    line = ExposureLine(strategy="a", instrument="b", position=position, buys=buys, sells=sells)
    quantity = order_quantity(wanted, line, lot)
    assert quantity % lot == 0
    if quantity > 0:
        assert position + buys + quantity <= wanted
        assert position + buys + quantity > wanted - lot
    elif quantity < 0:
        assert position - sells + quantity >= wanted
        assert position - sells + quantity < wanted + lot


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**9))
def test_rounding_never_adds(quantity: int, lot: int) -> None:
    rounded = toward_zero(quantity, lot)
    assert rounded % lot == 0
    assert abs(rounded) <= abs(quantity) < abs(rounded) + lot


@given(
    st.sampled_from(list(Side)),
    st.integers(ONE, 10**5 * ONE),
    st.sampled_from(list(TimeInForce)),
    st.integers(0, 10**9),
    st.sampled_from([1, 7, ONE // 100]),
)
def test_a_price_fits_the_tick_and_stays_within_the_collar(
    side: Side, mid: int, time_in_force: TimeInForce, ticks: int, tick: int
) -> None:
    strategy = StrategyRisk("alpha", "main", BUDGET, time_in_force=time_in_force, aggression_ticks=ticks)
    price = limit_price(side, mark(mid=mid), instrument(tick_size=tick), strategy, limits())
    assert price is not None
    assert price % tick == 0
    if side is Side.BUY:
        assert price <= mid * Decimal("1.01")
    else:
        assert price >= mid * Decimal("0.99")


def test_a_taker_reaches_beyond_the_touch_and_a_maker_joins_it() -> None:
    taker = StrategyRisk("alpha", "main", BUDGET, aggression_ticks=5)
    maker = StrategyRisk("alpha", "main", BUDGET, time_in_force=TimeInForce.POST_ONLY)
    tick = ONE // 100
    assert limit_price(Side.BUY, mark(), instrument(), taker, limits()) == 100 * ONE + 6 * tick
    assert limit_price(Side.SELL, mark(), instrument(), taker, limits()) == 100 * ONE - 6 * tick
    assert limit_price(Side.BUY, mark(), instrument(), maker, limits()) == 100 * ONE - tick
    assert limit_price(Side.SELL, mark(), instrument(), maker, limits()) == 100 * ONE + tick
    assert limit_price(Side.BUY, mark(mid=None), instrument(), taker, limits()) is None


def test_the_collar_is_rounded_towards_the_mid_on_both_sides() -> None:
    reckless = StrategyRisk("alpha", "main", BUDGET, aggression_ticks=10**9)
    fine, odd = instrument(tick_size=1), mark(mid=ONE + 33)
    assert limit_price(Side.SELL, odd, fine, reckless, limits()) == 99_000_033
    assert limit_price(Side.BUY, odd, fine, reckless, limits()) == 101_000_033
