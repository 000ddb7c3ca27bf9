"""Sharpe ratios that say how sure they are, and that know how many were tried before the best was shown.

All ratios are per observation: nothing is annualised, since a year made of a few days is an invention. Sources: Bailey
and Lopez de Prado, "The Sharpe ratio efficient frontier" (2012) for the probabilistic one, "The deflated Sharpe ratio"
(2014) for the best of many trials; their worked example is the test's oracle.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

_EULER_MASCHERONI: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()


class Shape(NamedTuple):
    """How far returns are from normal: skewness (normal 0) and kurtosis (normal 3)."""

    skewness: float = 0.0
    kurtosis: float = 3.0


def sharpe_ratio(returns: Sequence[float]) -> float:
    """Return mean over standard deviation (n - 1); 0 for returns that never differ, as those of who never trades."""
    values = np.asarray(returns, dtype=np.float64)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(values.mean()) / deviation if deviation > 0 else 0.0


def shape_of(returns: Sequence[float]) -> Shape:
    """Return the sample's shape; that of the normal for returns that never differ."""
    values = np.asarray(returns, dtype=np.float64)
    deviation = float(values.std())
    if deviation == 0:
        return Shape()
    scaled = (values - values.mean()) / deviation
    return Shape(float((scaled**3).mean()), float((scaled**4).mean()))


def probabilistic_sharpe(observed: float, observations: int, shape: Shape, benchmark: float = 0.0) -> float:
    """Return the probability that the true ratio is above ``benchmark``, from so many independent observations."""
    spread = 1 - shape.skewness * observed + (shape.kurtosis - 1) / 4 * observed**2
    distance = (observed - benchmark) * math.sqrt(max(0, observations - 1))
    if spread <= 0:  # Kurtosis is never below 1 + skewness**2, so that only two equal heaps of returns come here.
        return 0.5 if distance == 0 else float(distance > 0)
    return _NORMAL.cdf(distance / math.sqrt(spread))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Return what the best of so many independent trials without any skill is expected to show; 0 for one trial.

    ``variance`` is that of the ratios over the trials.
    """
    if trials < 2:
        return 0.0
    beyond = _NORMAL.inv_cdf(1 - 1 / trials)
    further = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - _EULER_MASCHERONI) * beyond + _EULER_MASCHERONI * further)


def deflated_sharpe(observed: float, observations: int, shape: Shape, trials: int, variance: float) -> float:
    """Return the probability that the best of ``trials`` is better than the best of so many without skill."""
    return probabilistic_sharpe(observed, observations, shape, expected_maximum_sharpe(trials, variance))
