"""The parts of a shortfall sum to the whole, exactly, whatever happened; and each part is what its name says."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.costs.shortfall import PARTS, MeasuredFill, MeasuredOrder, shortfall, total_of
from schemas.values import Side

ONE = 100_000_000
_PRICES = st.integers(1, 10**14)
_MULTIPLIERS = st.sampled_from([Decimal(1), Decimal("0.001"), Decimal("0.000000003"), Decimal(100)])


@st.composite
def orders(draw: st.DrawFn) -> MeasuredOrder:
    fills = draw(
        st.lists(
            st.builds(
                MeasuredFill,
                price=_PRICES,
                quantity=st.integers(1, 10**12),
                fee=st.decimals(-100, 100, places=18),
                mid=_PRICES,
                mid_after=_PRICES,
            ),
            max_size=6,
        )
    )
    rest = draw(st.integers(0, 10**12))
    return MeasuredOrder(
        side=draw(st.sampled_from(list(Side))),
        quantity=sum(fill.quantity for fill in fills) + rest,
        multiplier=draw(_MULTIPLIERS),
        decision_mid=draw(_PRICES),
        arrival_mid=draw(_PRICES),
        mid_after=draw(_PRICES),
        fills=tuple(fills),
    )


@given(orders())
def test_the_parts_sum_to_the_total_exactly(order: MeasuredOrder) -> None:
    cost = shortfall(order)
    assert sum(Fraction(getattr(cost, name)) for name in PARTS) == Fraction(cost.total)


@given(orders())
def test_the_total_is_the_paper_profit_less_what_was_had(order: MeasuredOrder) -> None:
    """Worked out another way: a paper portfolio bought whole at the decision's mid, both valued at the horizon."""
    sign, scale = order.side.sign, Fraction(order.multiplier) / 10**16
    paper = sign * order.quantity * (order.mid_after - order.decision_mid) * scale
    had = sum(sign * fill.quantity * (order.mid_after - fill.price) * scale for fill in order.fills)
    fees = sum(Fraction(fill.fee) for fill in order.fills)
    assert Fraction(shortfall(order).total) == paper - (had - fees)


@given(st.lists(orders(), max_size=5))
def test_sums_of_several_keep_the_identity(several: list[MeasuredOrder]) -> None:
    total = total_of(shortfall(order) for order in several)
    assert sum(Fraction(getattr(total, name)) for name in PARTS) == Fraction(total.total)


def _order(side: Side, **changes: Any) -> MeasuredOrder:
    fill = {"price": 101 * ONE, "quantity": ONE, "fee": Decimal(0), "mid": 101 * ONE, "mid_after": 101 * ONE}
    fields = {"arrival_mid": 101 * ONE, "mid_after": 101 * ONE, "quantity": ONE}
    for name, value in changes.items():
        (fields if name in fields and name != "mid_after" else fill)[name] = value
    if "missed" in fill:
        fields["quantity"] += int(fill.pop("missed")) * ONE
        fields["mid_after"] = fill["mid_after"]
    fills = (MeasuredFill(**fill),) if fill["quantity"] else ()
    return MeasuredOrder(side=side, multiplier=Decimal(1), decision_mid=100 * ONE, fills=fills, **fields)


def _parts(order: MeasuredOrder) -> dict[str, Decimal]:
    return {name: getattr(shortfall(order), name) for name in PARTS if getattr(shortfall(order), name)}


def test_each_part_alone() -> None:
    assert _parts(_order(Side.BUY)) == {"delay": 1}
    assert _parts(_order(Side.SELL)) == {"delay": -1}, "a seller gains by a mid that rose before he arrived"
    assert _parts(_order(Side.BUY, arrival_mid=100 * ONE)) == {"drift": 1}
    assert _parts(_order(Side.BUY, price=103 * ONE)) == {"delay": 1, "spread": 2}
    assert _parts(_order(Side.BUY, price=100 * ONE)) == {"delay": 1, "spread": -1}, "a maker earns it"
    # Paid 2 beyond the mid, of which the mid went 2 the order's way: it was all impact.
    assert _parts(_order(Side.BUY, price=103 * ONE, mid_after=103 * ONE)) == {"delay": 1, "impact": 2}
    assert _parts(_order(Side.BUY, fee=Decimal("0.04"))) == {"delay": 1, "fees": Decimal("0.04")}
    assert _parts(_order(Side.BUY, missed=3, mid_after=102 * ONE)) == {
        "delay": 1,
        "spread": -1,
        "impact": 1,
        "opportunity": 6,
    }
