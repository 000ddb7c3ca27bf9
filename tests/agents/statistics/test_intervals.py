"""Intervals by days and by pairs: against closed forms, printed tables, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.statistics.intervals import (
    DAYS_EXACT,
    Interval,
    _all_draws,
    _some_draws,
    day_block_interval,
    paired_interval,
    student_quantile,
)

FIGURES = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=1, max_size=7)


# Printed tables of Student's t, two-sided 95 %: probability 0.975.
@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (19, 2.0930), (200, 1.9719)])
def test_students_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(quantile, abs=1e-3)
    assert student_quantile(0.025, degrees) == pytest.approx(-quantile, abs=1e-3)
    assert student_quantile(0.5, degrees) == pytest.approx(0, abs=1e-6)


def test_every_draw_of_two_days_is_known() -> None:
    means, chances = _all_draws(np.array([0.0, 2.0]))
    assert dict(zip(means.tolist(), chances.tolist(), strict=True)) == {0.0: 0.25, 1.0: 0.5, 2.0: 0.25}


@given(FIGURES)
def test_all_draws_have_the_moments_of_the_bootstrap(days: list[float]) -> None:
    """The mean over all draws is the mean; their variance is that of the days over their number."""
    values = np.array(days)
    means, chances = _all_draws(values)
    assert chances.sum() == pytest.approx(1)
    mean = float(means @ chances)
    assert mean == pytest.approx(values.mean(), abs=1e-6)
    assert float((means - mean) ** 2 @ chances) == pytest.approx(values.var() / len(days), abs=1e-3)


@given(FIGURES)
def test_an_interval_holds_its_mean_and_lies_among_the_days(days: list[float]) -> None:
    low, mean, high = day_block_interval(days)
    assert min(days) - 1e-9 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= max(days) + 1e-9


def test_drawing_some_gives_what_counting_all_gives() -> None:
    values = np.random.default_rng(3).normal(1, 2, DAYS_EXACT)
    means, _ = _some_draws(values, 1)
    low, _, high = day_block_interval(values.tolist())
    assert np.quantile(means, (0.025, 0.975)) == pytest.approx((low, high), abs=0.05)
    assert day_block_interval([*values, 1.0], seed=4) == day_block_interval([*values, 1.0], seed=4)


def test_more_days_say_more_and_equal_days_leave_no_doubt() -> None:
    days = np.random.default_rng(3).normal(1, 2, 40).tolist()
    widths = [high - low for low, _, high in (day_block_interval(days[:count]) for count in (4, 8, 40))]
    assert widths == sorted(widths, reverse=True)
    assert day_block_interval([2.5] * 5) == Interval(2.5, 2.5, 2.5)


def coverage(days: int, tries: int = 400) -> float:
    """How often the interval holds the true mean of 0."""
    samples = np.random.default_rng(11).normal(0, 1, (tries, days))
    return float(np.mean([low <= 0 <= high for low, _, high in map(day_block_interval, samples.tolist())]))


def test_the_stated_coverage_of_few_days() -> None:
    """What the docstring warns of: four days hold the truth about four times in five."""
    assert 0.74 < coverage(4) < 0.88


@pytest.mark.slow
def test_more_days_come_nearer_to_the_level() -> None:
    assert 0.84 < coverage(8, 150) < 0.95
    assert 0.90 < coverage(30, 300) < 0.975


def test_pairs_hold_the_truth_as_often_as_stated() -> None:
    samples = np.random.default_rng(5).normal(0.3, 1, (600, 20))
    held = [low <= 0.3 <= high for low, _, high in map(paired_interval, samples.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)
