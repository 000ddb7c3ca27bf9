"""The probabilistic and the deflated Sharpe ratio against the worked example of their paper and against chance."""

import math

import numpy as np
import pytest

from agents.statistics.sharpe import (
    Shape,
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    shape_of,
    sharpe_ratio,
)

# Bailey and Lopez de Prado (2014), "A numerical example": an annual ratio of 2.5 over five years of 250 days, returns
# skewed by -3 with kurtosis 10, an annual variance of 1/2 over the trials.
DAYS, YEAR = 1250, 250
OBSERVED, VARIANCE = 2.5 / math.sqrt(YEAR), 1 / (2 * YEAR)
FAT = Shape(-3.0, 10.0)


def test_the_worked_example_of_the_paper() -> None:
    assert expected_maximum_sharpe(100, VARIANCE) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(OBSERVED, DAYS, FAT, 100, VARIANCE) == pytest.approx(0.9004, abs=5e-4)
    assert deflated_sharpe(OBSERVED, DAYS, FAT, 46, VARIANCE) == pytest.approx(0.9505, abs=5e-4)
    assert deflated_sharpe(OBSERVED, DAYS, Shape(), 88, VARIANCE) == pytest.approx(0.9505, abs=5e-4)


@pytest.mark.parametrize("trials", [5, 50])
def test_the_best_of_many_without_skill_is_as_good_as_is_expected(trials: int) -> None:
    drawn = np.random.default_rng(7).normal(0, 0.1, (20_000, trials)).max(axis=1)
    assert expected_maximum_sharpe(trials, 0.01) == pytest.approx(drawn.mean(), rel=0.05)


def test_the_probability_is_that_of_chance_for_normal_returns() -> None:
    """Among many samples without skill, a share of p shows a probabilistic ratio of at most p."""
    samples = np.random.default_rng(7).normal(0, 1, (4_000, 250))
    told = np.array([probabilistic_sharpe(sharpe_ratio(row), 250, shape_of(row)) for row in samples])
    for share in (0.05, 0.5, 0.95):
        assert (told <= share).mean() == pytest.approx(share, abs=0.015)


def test_who_never_trades_has_a_ratio_of_zero_and_knows_nothing() -> None:
    flat = [0.0] * 50
    assert sharpe_ratio(flat) == 0
    assert shape_of(flat) == Shape()
    assert probabilistic_sharpe(0.0, 50, Shape()) == 0.5
    assert deflated_sharpe(0.0, 50, Shape(), 10, 0.01) < 0.5
    assert sharpe_ratio([3.0]) == 0


def test_one_trial_deflates_nothing_and_more_trials_deflate_more() -> None:
    told = [deflated_sharpe(0.1, 400, Shape(), trials, 0.002) for trials in (1, 2, 10, 100)]
    assert told[0] == probabilistic_sharpe(0.1, 400, Shape())
    assert told == sorted(told, reverse=True)
    assert told[-1] < told[0] - 0.2


def test_two_equal_heaps_leave_nothing_to_doubt() -> None:
    returns = [0.0, 1.0] * 4
    shape = shape_of(returns)
    assert (shape.skewness, shape.kurtosis) == pytest.approx((0, 1))
    assert probabilistic_sharpe(1.0, 8, Shape(2.0, 1.0)) == 1.0
    assert probabilistic_sharpe(1.0, 8, Shape(2.0, 1.0), 2.0) == 0.0
    assert probabilistic_sharpe(1.0, 8, Shape(2.0, 1.0), 1.0) == 0.5


def test_shape_knows_skewed_and_fat_returns() -> None:
    drawn = np.random.default_rng(7).exponential(1.0, 400_000)
    assert shape_of(drawn.tolist()) == pytest.approx((2.0, 9.0), rel=0.05)
