"""What a path of profit and of exposure looks like: how far it fell, and how much was traded on it."""

from collections.abc import Sequence

import numpy as np


def max_drawdown(changes: Sequence[float]) -> float:
    """Return the largest fall of the running sum from its highest point so far, the beginning included; at least 0."""
    path = np.concatenate(([0.0], np.cumsum(np.asarray(changes, dtype=np.float64))))
    return float((np.maximum.accumulate(path) - path).max())


def turnover(exposures: Sequence[float], before: float = 0.0) -> float:
    """Return how much was traded in all to hold these exposures one after the other, in the unit they are in."""
    return float(np.abs(np.diff(np.asarray((before, *exposures), dtype=np.float64))).sum())
