"""How good a vote was: proper, bounded, and against the one forecast that anyone could have made.

The log-loss is proper (only the honest probability minimises it) and unbounded; clipped at a floor and divided by
its largest value it lies in [0, 1], which the regret bound of Hedge needs.
"""

import math
from collections.abc import Sequence
from typing import Final

Forecast = tuple[float, float, float]
"""(p_down, p_flat, p_up)."""

PROBABILITY_FLOOR: Final = 0.001
"""A probability below it is scored as if it were it."""


def outcome_of(move: int, flat_band: int) -> int:
    """Return -1, 0 or +1 for a change of the mid: flat up to and including the band."""
    if abs(move) <= flat_band:
        return 0
    return 1 if move > 0 else -1


def log_loss(forecast: Forecast, outcome: int, floor: float) -> float:
    """Return the clipped log-loss scaled to [0, 1]: 0 for certainty in what came, 1 for ``floor`` or less."""
    probability = min(1.0, max(floor, forecast[outcome + 1]))
    return math.log(probability) / math.log(floor) if probability < 1 else 0.0


def base_rate(counts: Sequence[int]) -> Forecast:
    """Return the running frequencies of (down, flat, up), one of each assumed beforehand."""
    total = sum(counts) + 3
    return (counts[0] + 1) / total, (counts[1] + 1) / total, (counts[2] + 1) / total


def brier(forecast: Forecast, outcome: int) -> float:
    """Return the quadratic score (Brier 1950): 0 for certainty in what came, 2 for certainty in what did not."""
    return sum((value - (place == outcome + 1)) ** 2 for place, value in enumerate(forecast))


def calibration_error(votes: Sequence[tuple[Forecast, int]], bins: int = 10) -> float:
    """Return the expected calibration error: the mean gap, over bins of equal width, of what was said to what came.

    Each of the three probabilities counts, not only the largest: a decider reads all three. There must be a vote.
    """
    gaps, masses = [0.0] * bins, [0] * bins
    for forecast, outcome in votes:
        for place, value in enumerate(forecast):
            bin_of = min(bins - 1, int(value * bins))
            gaps[bin_of] += value - (place == outcome + 1)
            masses[bin_of] += 1
    return sum(map(abs, gaps)) / sum(masses)
