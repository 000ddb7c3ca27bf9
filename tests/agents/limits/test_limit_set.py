"""Limits as settings: what is not a limit, or not possible, refuses to start in one clear sentence."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import limits

from agents.limits.limit_set import LimitSet


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order_value_maximum": 1}, "'order_value_maximum' is not a limit"),
        ({"order_value_max": -1}, "'order_value_max' must be above 0"),
        ({"order_value_max": 0}, "above 0"),
        ({"order_value_max": float("nan")}, "finite number"),
        ({"order_value_max": float("inf")}, "finite number"),
        ({"order_value_max": "many"}, "finite number"),
        ({"order_value_max": True}, "finite number"),
        ({"order_value_max": None}, "finite number"),
        ({"price_collar": 1.5}, "between 0 and 1"),
        ({"drawdown_max": "1"}, "between 0 and 1"),
        ({"messages_max": 1.5}, "whole number"),
        ({"messages_max": 0}, "whole number"),
        ({"currency": ""}, "non-empty text"),
        ({"permissions": ["alpha"]}, "must be a table"),
        ({"permissions": {"alpha": "SIM:BTCUSD"}}, "'permissions.alpha' must be a list"),
        ({"permissions": {"alpha": [1]}}, "non-empty text"),
        ({"conversion_rates": {"USDT": 0}}, "'conversion_rates.USDT' must be above 0"),
        ({"restricted": "SIM:BTCUSD"}, "'restricted' must be a list"),
        ({"price_move_max": 1}, "between 0 and 1"),
        ({"executions_max": 0}, "whole number"),
        ({"rejects_max": "3"}, "whole number"),
        ({"clock_drift_max_ms": -1}, "whole number"),
        ({"strategy_loss_max": {"alpha": 0}}, "'strategy_loss_max.alpha' must be above 0"),
        ({"strategy_exposure_max": 5}, "must be a table"),
    ],
)
def test_what_is_no_limit_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        limits(**changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_missing_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="'currency' is missing"):
        LimitSet.from_mapping({})


def test_the_version_names_the_content() -> None:
    assert limits().version == limits(order_value_max="1000.0").version
    assert limits().version != limits(order_value_max=1_001).version
    assert limits().version != limits(permissions={"alpha": ["*"]}).version


@given(st.floats(min_value=1e-6, max_value=1e12, allow_nan=False))
def test_a_number_is_read_as_it_is_written(value: float) -> None:
    assert limits(order_value_max=value).order_value_max == Decimal(str(value))


def test_what_is_not_listed_is_not_permitted() -> None:
    found = limits(permissions={"alpha": ["A:B"], "any": ["*"]})
    assert found.permits("alpha", "A:B")
    assert found.permits("any", "X:Y")
    assert not found.permits("alpha", "X:Y")
    assert not found.permits("other", "A:B")


def test_what_is_restricted_is_permitted_to_nobody() -> None:
    found = limits(permissions={"alpha": ["A:B"], "any": ["*"]}, restricted=["A:B"])
    assert not found.permits("alpha", "A:B")
    assert not found.permits("any", "A:B")
    assert found.permits("any", "X:Y")


def test_a_strategys_thresholds_never_exceed_its_accounts() -> None:
    found = limits(strategy_loss_max={"alpha": 100, "*": 200}, strategy_exposure_max={"alpha": 999_999})
    assert (found.loss_threshold("alpha"), found.loss_threshold("beta")) == (100, 200)
    assert found.exposure_threshold("alpha") == found.gross_exposure_max
    assert limits().loss_threshold("alpha") == limits().daily_loss_max


def test_a_currency_without_a_rate_has_none() -> None:
    found = limits(conversion_rates={"USDT": "0.999"})
    assert found.rate("USD") == 1
    assert found.rate("USDT") == Decimal("0.999")
    assert found.rate("EUR") is None
