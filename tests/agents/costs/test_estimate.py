"""The estimator: exactly the prior without fills, the truth with many, and the same numbers however it is fed."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.costs.estimate import (
    HORIZON_NS,
    PENDING_MAX,
    PRIOR_FILLS,
    CostPrior,
    CostState,
    FillCost,
    PendingMove,
    await_move,
    estimate,
    fitted,
    observe_fill,
    observe_mid,
)

PRIOR = CostPrior(fee=0.0004)
_FRACTIONS = st.floats(-0.01, 0.01)


def test_without_a_fill_the_quoted_spread_and_the_known_fee_are_the_cost() -> None:
    believed = estimate(CostState(), PRIOR)
    assert (believed.excess, believed.fee, believed.impact_coefficient, believed.fills) == (0.0, 0.0004, 0.0, 0)
    assert believed.one_way(0.0001) == 0.0005


@settings(max_examples=20)
@given(excess=_FRACTIONS, fee=st.floats(0, 0.01), k=st.floats(-1e-5, 1e-5), root=st.floats(1, 1e4))
def test_after_many_fills_alike_the_estimate_is_what_was_seen(excess: float, fee: float, k: float, root: float) -> None:
    fills = [FillCost(excess, fee, root)] * 2_000
    found = fitted(fills, [(k * root, root)] * 2_000, PRIOR)
    weight = PRIOR_FILLS / (PRIOR_FILLS + 1 / (1 - 0.5 ** (1 / 200)))
    assert found.excess == pytest.approx((1 - weight) * excess, rel=1e-3, abs=1e-12)
    assert found.fee == pytest.approx((1 - weight) * fee + weight * PRIOR.fee, rel=1e-3, abs=1e-12)
    assert abs(found.impact_coefficient) <= abs(k) + 1e-15
    assert found.impact_coefficient == pytest.approx((1 - weight) * k, rel=1e-3, abs=1e-12)


@given(st.lists(_FRACTIONS, min_size=1, max_size=50))
def test_the_estimate_lies_between_the_prior_and_what_was_seen(seen: list[float]) -> None:
    found = fitted([FillCost(excess, 0.0004, 1.0) for excess in seen], [], PRIOR)
    assert min(0.0, *seen) - 1e-15 <= found.excess <= max(0.0, *seen) + 1e-15


def test_what_is_long_ago_is_forgotten_and_a_half_spread_that_is_not_known_is_not_zero() -> None:
    early, late = [FillCost(0.005, 0.0004, 1.0)] * 500, [FillCost(0.001, 0.0004, 1.0)] * 2_000
    assert fitted(early + late, [], PRIOR).excess == pytest.approx(0.001, rel=0.1)
    blind = fitted([FillCost(None, 0.0004, 1.0)] * 100, [], PRIOR)
    assert (blind.excess, blind.fills) == (0.0, 100)
    mixed = [FillCost(0.001, 0.0004, 1.0), FillCost(None, 0.0004, 1.0)] * 500
    assert fitted(mixed, [], PRIOR).excess == pytest.approx(fitted(mixed[::2], [], PRIOR).excess)


def test_a_price_better_than_the_mid_is_never_a_negative_spread_beyond_the_fee() -> None:
    found = fitted([FillCost(-0.01, 0.0004, 1.0)] * 1_000, [], PRIOR)
    assert found.one_way(0.0001) == pytest.approx(0.0004)


def test_the_move_is_taken_at_the_first_valuation_after_the_horizon_and_not_a_late_one() -> None:
    state = CostState()
    observe_fill(state, FillCost(0.0, 0.0, 10.0))
    await_move(state, PendingMove(HORIZON_NS, 1, 1_000, 10.0))
    assert not observe_mid(state, 2_000, HORIZON_NS - 1)
    assert observe_mid(state, 1_010, HORIZON_NS)
    assert not observe_mid(state, 5_000, HORIZON_NS + 1)
    assert state.move_sum == pytest.approx(0.01 * 10)
    await_move(state, PendingMove(HORIZON_NS, 1, 1_000, 10.0))
    assert observe_mid(state, 9_000, 2 * HORIZON_NS + 1)
    assert state.move_sum == pytest.approx(0.01 * 10), "too late to say anything of that fill"
    for _ in range(PENDING_MAX + 5):
        await_move(state, PendingMove(1, 1, 1, 1.0))
    assert len(state.pending) == PENDING_MAX


def test_a_seller_is_hurt_by_a_mid_that_falls() -> None:
    state = CostState()
    await_move(state, PendingMove(0, -1, 1_000, 2.0))
    observe_mid(state, 990, 1)
    assert state.move_sum == pytest.approx(0.01 * 2)
    assert not math.isnan(estimate(state, PRIOR).impact_coefficient)
