"""The sums behind the exposure limits are those that adding up line by line gives, to the last digit."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from money_events import ONE, PERP, SPOT, approved, instrument, limits, mark, order_event

from agents.limits.exposure import AccountExposure, ExposureLine, ExposureView
from agents.limits.totals import totals_of
from agents.limits.valuation import quote_value
from schemas.market import InstrumentDefined
from schemas.orders import OrderStatus
from schemas.values import ZERO, Side, TimeInForce

THIRD = "SIM:FACE"
DEFINED = {
    PERP: instrument(PERP, multiplier=Decimal("0.1")),
    SPOT: instrument(SPOT, quote_currency="EUR"),
    THIRD: instrument(THIRD, inverse=True, multiplier=Decimal(100)),
}
RATES = {"EUR": Decimal("1.0837")}
LINES = st.lists(
    st.builds(
        ExposureLine,
        strategy=st.sampled_from(["alpha", "beta"]),
        instrument=st.sampled_from(list(DEFINED)),
        position=st.integers(-(2**62), 2**62),
        buys=st.integers(0, 2**62),
        sells=st.integers(0, 2**62),
    ),
    max_size=6,
    unique_by=lambda line: (line.strategy, line.instrument),
)


def view(mids: dict[str, int | None], defined: dict[str, InstrumentDefined] = DEFINED) -> ExposureView:
    """Return a view with these mids."""
    marks = {name: mark(name, mid=mid) for name, mid in mids.items()}
    return ExposureView(defined, marks, {}, {}, ZERO, ZERO, ZERO)


def worth(name: str, mid: int, quantity: int) -> Fraction:
    """Return what a quantity is worth in the account's currency, exactly."""
    definition = DEFINED[name]
    return Fraction(quote_value(definition, mid, quantity)) * Fraction(RATES.get(definition.quote_currency, Decimal(1)))


@given(LINES, st.fixed_dictionaries({name: st.integers(1, 2**62) for name in DEFINED}))
def test_the_sums_are_those_of_the_lines(lines: list[ExposureLine], mids: dict[str, int]) -> None:
    found = totals_of(lines, "alpha", view({**mids}), limits(conversion_rates=RATES))
    ends = {
        "gross": [worth(line.instrument, mids[line.instrument], line.worst) for line in lines],
        "highest": [worth(line.instrument, mids[line.instrument], line.highest) for line in lines],
        "lowest": [worth(line.instrument, mids[line.instrument], line.lowest) for line in lines],
        "own": [
            worth(line.instrument, mids[line.instrument], line.worst) for line in lines if line.strategy == "alpha"
        ],
    }
    for name, values in ends.items():
        total = getattr(found, name)
        assert total is not None
        assert Fraction(total) == sum(values), name
    for name in DEFINED:
        assert found.quantities.get(name, 0) == sum(line.worst for line in lines if line.instrument == name)


def test_what_cannot_be_valued_makes_the_sums_unknown_and_a_strategys_own_only_if_it_is_its_own() -> None:
    lines = [ExposureLine("alpha", PERP, ONE), ExposureLine("beta", SPOT, ONE), ExposureLine("beta", THIRD)]
    rules = limits(conversion_rates=RATES)
    blind = totals_of(lines, "alpha", view({PERP: ONE, SPOT: None}), rules)
    assert (blind.gross, blind.highest, blind.lowest, blind.own) == (None, None, None, Decimal("0.1"))
    assert totals_of(lines, "beta", view({PERP: ONE, SPOT: None}), rules).own is None
    assert totals_of(lines, "beta", view({PERP: ONE, SPOT: ONE}), limits()).own is None, "nor without a rate"
    assert totals_of(lines, "beta", view({PERP: ONE, SPOT: ONE}), rules).gross == Decimal("1.1837")


@given(
    st.lists(
        st.tuples(st.sampled_from(["alpha", "beta"]), st.sampled_from([PERP, SPOT]), st.sampled_from(list(Side))),
        max_size=12,
    ),
    st.dictionaries(st.sampled_from(["alpha", "beta"]), st.integers(-9, 9), max_size=2),
)
def test_a_line_is_its_position_and_every_order_that_works_on_it(
    orders: list[tuple[str, str, Side]], held: dict[str, int]
) -> None:
    exposure = AccountExposure.opened_with(Decimal(1))
    for number, (strategy, name, side) in enumerate(orders):
        order = approved(f"o{number}", strategy=strategy, instrument=name, side=side, quantity=number + 1)
        exposure.apply_order_event(
            order_event(order, OrderStatus.NEW, time_in_force=TimeInForce.GTC, position_after=held.get(strategy, 0))
        )
    found = exposure.lines()
    expected: dict[tuple[str, str], ExposureLine] = {}
    for strategy, name, _ in orders:
        expected[strategy, name] = ExposureLine(strategy, name, held.get(strategy, 0))
    for number, (strategy, name, side) in enumerate(orders):
        expected[strategy, name] = expected[strategy, name].after(side, number + 1)
    assert found == expected
    for strategy, name in [*expected, ("gamma", PERP)]:
        assert exposure.line(strategy, name) == expected.get((strategy, name), ExposureLine(strategy, name))
