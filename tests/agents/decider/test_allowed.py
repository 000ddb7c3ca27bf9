"""The projection on what may be wanted: inside, nearest, and the same twice; a restriction only ever takes away."""

from hypothesis import given
from hypothesis import strategies as st

from agents.decider.allowed import ANY_TARGET, Allowed, allowed_now, project
from agents.decider.policy import TARGETS
from schemas.decisions import NoTradeReason

exposures = st.floats(-1.0, 1.0)
anything = st.floats(allow_nan=False)


@st.composite
def intervals(draw: st.DrawFn) -> Allowed:
    low, high = sorted((draw(exposures), draw(exposures)))
    return Allowed(low, high)


@given(anything, intervals())
def test_what_is_projected_is_allowed_and_stays(target: float, allowed: Allowed) -> None:
    found = project(target, allowed)
    assert allowed.low <= found <= allowed.high
    assert project(found, allowed) == found


@given(exposures, intervals(), exposures)
def test_no_allowed_target_is_nearer(target: float, allowed: Allowed, other: float) -> None:
    rival = project(other, allowed)
    assert abs(project(target, allowed) - target) <= abs(rival - target)


@given(exposures, exposures, intervals())
def test_it_keeps_the_order_of_targets(first: float, second: float, allowed: Allowed) -> None:
    low, high = sorted((first, second))
    assert project(low, allowed) <= project(high, allowed)


@given(exposures)
def test_without_a_restriction_every_target_stands(target: float) -> None:
    assert project(target, ANY_TARGET) == target
    assert allowed_now(target, short=True, reason=None) == ANY_TARGET


@given(exposures, exposures, st.booleans())
def test_under_a_restriction_only_less_of_the_target_in_force(held: float, wanted: float, short: bool) -> None:
    allowed = allowed_now(held, short=short, reason=NoTradeReason.ALERT)
    found = project(wanted, allowed)
    assert -1 <= allowed.low <= allowed.high <= 1
    assert allowed.reason is NoTradeReason.ALERT
    assert abs(found) <= abs(held)
    assert found * held >= 0
    assert project(0.0, allowed) == 0.0
    assert short or found >= 0


@given(st.sampled_from(TARGETS), st.sampled_from(TARGETS), st.booleans(), st.booleans())
def test_it_is_the_clamping_that_risk_has_always_seen(held: float, wanted: float, short: bool, tight: bool) -> None:
    """The rule as it stood before there was a projection, step by step."""
    by_steps = wanted if short else max(0.0, wanted)
    if tight:
        by_steps = max(0.0, min(by_steps, held)) if held >= 0 else min(0.0, max(by_steps, held))
    reason = NoTradeReason.LEVEL if tight else None
    assert project(wanted, allowed_now(held, short=short, reason=reason)) == by_steps
