"""Drift of inputs: seen within a stated number of decisions, and seldom where there is none."""

import math

import pytest

from agents.release.drift import Drift, DriftState, DriftTerms, observe, radius
from agents.sim.generator import seeded

TERMS = DriftTerms()
FEATURES = 40


def first_alarm(
    terms: DriftTerms, decisions: int, *, shift: float, half_life: float = 0.0, seed: int = 0
) -> int | None:
    """Return after how many decisions drift is found when one of the features stands ``shift`` deviations off.

    Features are normal with variance 1; each forgets half of what it was in ``half_life`` decisions.
    """
    generator = seeded("drift", seed)
    keep = 0.5 ** (1 / half_life) if half_life else 0.0
    fresh = math.sqrt(1 - keep * keep)
    state = DriftState()
    values = [generator.normal() for _ in range(FEATURES)]
    for decision in range(decisions):
        values = [keep * value + fresh * generator.normal() for value in values]
        found = observe(state, (values[0] + shift, *values[1:]), terms)
        if found is not None:
            return decision + 1
    return None


def test_inputs_of_another_market_are_found_within_the_stated_decisions() -> None:
    assert first_alarm(TERMS, 4_000, shift=100.0) == 4 * TERMS.block
    found = first_alarm(TERMS, 4_000, shift=4.0)
    assert found is not None
    assert found <= 10 * TERMS.block


def test_what_lies_within_the_tolerance_is_no_drift() -> None:
    assert first_alarm(TERMS, 3_000, shift=TERMS.tolerance) is None


def test_the_worst_feature_is_named() -> None:
    state = DriftState()
    found = [observe(state, (0.0, -50.0, 5.9), TERMS) for _ in range(8 * TERMS.block)]
    (named,) = {item for item in found if item is not None}
    assert named == Drift(1, -TERMS.clip)


def test_a_feature_that_is_missing_says_nothing_and_hides_nothing() -> None:
    state = DriftState()
    assert all(observe(state, (None, math.nan, 0.0), TERMS) is None for _ in range(2_000))
    found = [observe(state, (None, 50.0 if at % 2 else None, 0.0), TERMS) for at in range(8 * TERMS.block)]
    assert Drift(1, TERMS.clip) in found


def test_each_window_begins_anew() -> None:
    """A long good past does not hide a drift: it is found as fast as at the beginning, after the window at hand."""
    state = DriftState()
    clean = TERMS.window * TERMS.block * 20
    assert all(observe(state, (0.0,), TERMS) is None for _ in range(clean))
    assert state.blocks == 0
    found = next(at for at in range(1, 1_000) if observe(state, (6.0,), TERMS) is not None)
    assert found <= 4 * TERMS.block


def test_false_alarms_are_as_seldom_as_stated_where_the_bound_is_tight() -> None:
    """One feature, one decision a block, no tolerance: then the bound's own rate is what is left, and not 0."""
    terms = DriftTerms(tolerance=0.0, clip=6.0, block=1, window=200, false_alarms=0.2)
    alarms, windows = 0, 300
    for seed in range(windows):
        generator, state = seeded("tight", seed), DriftState()
        alarms += any(observe(state, (generator.normal(),), terms) is not None for _ in range(terms.window))
    assert 0.01 < alarms / windows <= 0.2


def test_the_radius_is_robbins_boundary() -> None:
    mixed = 10 + 4.0
    assert radius(10, 3, 0.01) == pytest.approx(math.sqrt(mixed * math.log(mixed / 4.0 * (3 / 0.01) ** 2)) / 10)


@pytest.mark.parametrize("changes", [{"tolerance": 6.0}, {"block": 0}, {"false_alarms": 0.0}, {"window": 1}])
def test_terms_under_which_nothing_could_be_found_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Drift"):
        DriftTerms(**changes)  # type: ignore[arg-type]
