"""The shaped reward: the derivative that it is named after, and what its floor is for."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.reward.experience import Standing, one_way_cost, rewarded
from agents.reward.shaping import (
    Fall,
    Moments,
    RewardTerms,
    differential_sharpe,
    fallen,
    moved,
    shaped,
)
from schemas.feedback import Experience

COST = 2e-4
PLAIN = RewardTerms(drawdown_penalty=0.0)
RETURNS = st.floats(-0.01, 0.01)


def sharpe(moments: Moments) -> float:
    return moments.mean / math.sqrt(moments.square - moments.mean**2)


def after(returns: list[float]) -> Moments:
    moments = Moments()
    for net in returns:
        moments = moved(moments, net)
    return moments


@given(mean=st.floats(-1e-3, 1e-3), deviation=st.floats(1e-4, 1e-2), net=RETURNS)
def test_it_is_the_derivative_of_the_sharpe_ratio_by_the_decay(mean: float, deviation: float, net: float) -> None:
    moments = Moments(mean, mean**2 + deviation**2)
    step = 1e-6
    slope = (sharpe(moved(moments, net, step)) - sharpe(moved(moments, net, -step))) / (2 * step)
    assert differential_sharpe(moments, net, 0.0) == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_without_a_floor_it_explodes_after_a_flat_stretch_and_with_one_it_does_not() -> None:
    busy = [1e-3, -8e-4, 5e-4, -2e-4] * 50
    flat = after(busy + [0.0] * 2_000)
    gain = 1e-4
    assert differential_sharpe(after(busy), gain, 0.0) < 1
    assert differential_sharpe(flat, gain, 0.0) > 1_000
    assert differential_sharpe(flat, gain, COST**2) == pytest.approx(gain / COST, rel=1e-3)
    assert shaped(flat, gain, COST, 0.0, 0.0, terms=PLAIN) == pytest.approx(gain / COST, rel=1e-3)


def test_a_trade_out_of_a_flat_stretch_is_not_free() -> None:
    assert shaped(Moments(), -COST, COST, 0.0, 0.0, terms=PLAIN) == pytest.approx(-1.0)
    assert shaped(Moments(), 0.0, COST, 0.0, 0.0, terms=PLAIN) == 0.0


@given(mean=RETURNS, square=st.floats(0, 1e-4), net=st.floats(-1, 1), cost=st.floats(0, 0.01))
def test_it_is_finite_and_held_within_the_clip(mean: float, square: float, net: float, cost: float) -> None:
    reward = shaped(Moments(mean, max(square, mean**2)), net, cost, 0.0, 0.0, terms=PLAIN)
    assert abs(reward) <= PLAIN.clip


@given(st.lists(RETURNS, max_size=50))
def test_what_a_line_falls_adds_up_to_no_less_than_its_deepest_fall(returns: list[float]) -> None:
    fall, deepest, total = Fall(), 0.0, 0.0
    for net in returns:
        fall, deeper = fallen(fall, net)
        assert deeper >= 0
        total += deeper
        deepest = max(deepest, fall.peak - fall.gained)
    assert total >= deepest - 1e-12


def test_penalties_are_taken_off_and_turnover_costs_nothing_unless_asked() -> None:
    moments = Moments(0.0, 1e-6)
    plain = shaped(moments, -1e-3, COST, 1e-3, 1.0, terms=PLAIN)
    fallen_by = shaped(moments, -1e-3, COST, 1e-3, 1.0, terms=RewardTerms(drawdown_penalty=0.5))
    traded = shaped(moments, -1e-3, COST, 1e-3, 1.5, terms=RewardTerms(drawdown_penalty=0.0, turnover_penalty=2.0))
    assert fallen_by == pytest.approx(plain - 0.5)
    assert traded == pytest.approx(plain - 3.0)
    assert RewardTerms().turnover_penalty == 0


@pytest.mark.parametrize("wrong", [{"clip": 0.0}, {"decay": 1.0}, {"drawdown_penalty": -1.0}])
def test_terms_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        RewardTerms(**wrong)


def experience(reward: str, effective: float, seen: dict[str, float | None]) -> Experience:
    named = dict.fromkeys(("decision_id", "next_decision_id", "account", "strategy", "instrument", "policy"), "x")
    money = Decimal(reward)
    return Experience(
        key="main",
        event_time_ns=1,
        available_at_ns=1,
        policy_stage="CHAMPION",
        observation=seen,
        next_observation={},
        intended=effective,
        effective=effective,
        pnl=money,
        fees=Decimal(0),
        slippage=Decimal(0),
        reward=money,
        horizon_ns=1,
        **named,
    )


def test_experiences_of_a_line_are_rewarded_one_after_the_other() -> None:
    seen: dict[str, float | None] = {"spread_relative": 2e-4, "cost.excess": 5e-5, "cost.fee": 5e-5}
    assert one_way_cost(seen) == pytest.approx(COST)
    assert one_way_cost({"spread_relative": None, "cost.fee": 1e-4}) is None
    terms = RewardTerms(turnover_penalty=1.0)
    first, reward = rewarded(Standing(), experience("-0.4", 0.5, seen), Decimal(1_000), terms)
    assert first.moments == moved(Moments(), -4e-4)
    assert first.fall == Fall(-4e-4, 0.0)
    assert reward == pytest.approx(-2.0 - 0.1 * 2.0 - 0.5)
    second, _ = rewarded(first, experience("0.4", 0.5, {}), Decimal(1_000), terms)
    assert second.fall.gained == pytest.approx(0.0)
