"""Which way a change goes: every limit has a direction, and what has none counts as raised."""

from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import PERP, SPOT, limits

from agents.limits.canary_caps import CanaryCaps
from agents.limits.limit_set import LimitSet
from agents.limits.strictness import CAPS_BY_NAME, HIGHER_IS_STRICTER, LOWER_IS_STRICTER, THRESHOLDS, loosened

RICH: dict[str, Any] = {
    "order_quantity_max": {PERP: 2},
    "position_value_max_of": {PERP: 500},
    "conversion_rates": {"EUR": "1.1"},
    "restricted": [SPOT],
    "strategy_loss_max": {"alpha": 100, "*": 50},
    "strategy_exposure_max": {"alpha": 1000},
    "canaries": {"alpha": {"instruments": [PERP], "order_value_max": 100, "orders_per_day_max": 5}},
}
ONE = limits(**RICH)


def raised(**changes: Any) -> tuple[str, ...]:
    """Return what these other limits loosen."""
    return loosened({"main": ONE}, {"main": limits(**RICH | changes)})


def test_every_number_of_a_limit_set_has_a_direction() -> None:
    numbers = {item.name for item in fields(LimitSet) if item.type in (int, Decimal)} - {"capital"}
    assert numbers == LOWER_IS_STRICTER | HIGHER_IS_STRICTER
    mappings = {"conversion_rates", "permissions", "canaries", "restricted"} | CAPS_BY_NAME | THRESHOLDS
    assert {item.name for item in fields(LimitSet)} == numbers | mappings | {"currency", "capital"}


@pytest.mark.parametrize("name", sorted(LOWER_IS_STRICTER | HIGHER_IS_STRICTER))
def test_one_step_of_any_number_is_a_raise_one_way_and_none_the_other(name: str) -> None:
    value = getattr(ONE, name)
    step = 1 if isinstance(value, int) else Decimal("0.001")
    more, less = (loosened({"main": ONE}, {"main": replace(ONE, **{name: value + way})}) for way in (step, -step))
    looser, stricter = (more, less) if name in LOWER_IS_STRICTER else (less, more)
    assert looser == (f"main.{name}",)
    assert stricter == ()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"order_quantity_max": {}}, ("order_quantity_max.SIM:BTCUSD",)),
        ({"order_quantity_max": {PERP: 2, SPOT: 1}}, ()),
        ({"position_value_max_of": {PERP: 501}}, ("position_value_max_of.SIM:BTCUSD",)),
        ({"conversion_rates": {}}, ()),
        ({"conversion_rates": {"EUR": "1.0"}}, ("conversion_rates.EUR",)),
        ({"conversion_rates": {"EUR": "1.2"}}, ("conversion_rates.EUR",)),
        ({"conversion_rates": {"EUR": "1.1", "GBP": 1}}, ("conversion_rates.GBP",)),
        ({"restricted": []}, ("restricted.SIM:ETHUSD",)),
        ({"restricted": [SPOT, PERP]}, ()),
        ({"permissions": {"alpha": [PERP], "beta": [PERP]}}, ()),
        ({"permissions": {"alpha": ["*"], "beta": ["*"]}}, ("permissions.beta",)),
        ({"permissions": {"alpha": ["*"], "beta": [PERP], "gamma": [PERP]}}, ("permissions.gamma",)),
        ({"strategy_loss_max": {"alpha": 100}}, ("strategy_loss_max.*",)),
        ({"strategy_loss_max": {"*": 50}}, ()),
        ({"strategy_loss_max": {"alpha": 100, "*": 50, "beta": 60}}, ("strategy_loss_max.beta",)),
        ({"strategy_exposure_max": {"alpha": 1000, "*": 10}}, ()),
        ({"canaries": {}}, ("canaries.alpha",)),
        ({"canaries": RICH["canaries"] | {"beta": {"order_value_max": 1}}}, ()),
        ({"canaries": {"alpha": {"instruments": [PERP], "order_value_max": 100}}}, ("canaries.alpha",)),
        ({"canaries": {"alpha": RICH["canaries"]["alpha"] | {"instruments": [PERP, SPOT]}}}, ("canaries.alpha",)),
        ({"canaries": {"alpha": RICH["canaries"]["alpha"] | {"position_value_max": 1}}}, ()),
        ({"currency": "EUR"}, ("currency",)),
        ({"capital": 1}, ("capital",)),
    ],
)
def test_what_has_more_than_one_side_goes_the_way_that_it_allows(
    changes: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert raised(**changes) == tuple(f"main.{name}" for name in found)


def test_an_account_that_comes_or_goes_is_a_raise() -> None:
    assert loosened({"main": ONE}, {"main": ONE, "other": ONE}) == ("other",)
    assert loosened({"main": ONE, "other": ONE}, {"main": ONE}) == ("other",)


_NUMBERS = st.fixed_dictionaries(
    {name: st.sampled_from([1, 2, 3]) for name in ("order_value_max", "duplicate_window_ms", "messages_max")}
    | {"order_quantity_max": st.dictionaries(st.sampled_from([PERP, SPOT]), st.sampled_from([1, 2]))}
    | {"strategy_loss_max": st.dictionaries(st.sampled_from(["alpha", "*"]), st.sampled_from([1, 2]))}
)


@given(first=_NUMBERS, second=_NUMBERS, third=_NUMBERS)
def test_two_steps_that_loosen_nothing_loosen_nothing_together(
    first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    one, two, three = ({"main": limits(**changes)} for changes in (first, second, third))
    if not loosened(one, two) and not loosened(two, three):
        assert not loosened(one, three), "nobody reaches by steps what no one step may"
    if not loosened(one, two) and not loosened(two, one):
        assert _reach(one["main"]) == _reach(two["main"])


def _reach(of: LimitSet) -> tuple[Any, ...]:
    own = tuple(of.loss_threshold(name) for name in ("alpha", "beta"))
    return (*own, of.order_value_max, of.duplicate_window_ms, of.messages_max, dict(of.order_quantity_max))


def test_caps_are_compared_one_by_one() -> None:
    before, after = CanaryCaps(order_value_max=Decimal(5)), CanaryCaps(position_value_max=Decimal(1))
    found = loosened({"a": replace(ONE, canaries={"s": before})}, {"a": replace(ONE, canaries={"s": after})})
    assert found == ("a.canaries.s",)
