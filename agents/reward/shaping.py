"""One number for a learner out of what a decision earned: net of costs, and measured in the line's own risk.

The differential Sharpe ratio (Moody and Saffell 2001) is what one more net return R adds to the Sharpe ratio of an
exponentially weighted history with first moment A and second moment B:

    D = (B dA - A dB / 2) / (B - A^2)^1.5        dA = R - A, dB = R^2 - B

After a flat stretch A and B are next to 0, and so is the denominator: whatever comes next is then worth thousands.
The variance is therefore taken to be at least c^2, c being what a trade costs one way, and B at least A^2 + c^2 with
it (B is in the numerator, too; raising only the denominator would make trades out of a flat stretch free). From flat,
D is then R / c: the return in units of what the trade cost. The result is held within +-``clip``.

What a trade cost is in the net return already, so that the turnover penalty is 0 unless somebody asks for one. All
numbers are plain floats: fractions of the line's budget, never money.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

MOMENT_DECAY: Final = 0.01
"""What the newest return weighs in the moments: they look back on some hundred decisions."""

COST_MIN: Final = 1e-6
"""A one-way cost below it is taken for it, so that the variance has a floor even where trading is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerms:
    """How a reward is shaped.

    ``clip`` bounds the differential Sharpe ratio on both sides. ``drawdown_penalty`` is taken off for each deviation
    (of the returns, floored) that the line falls further below its peak, ``turnover_penalty`` for each whole budget
    traded. ``decay`` is what one return weighs in the moments. Raises ValueError for what is no such term.
    """

    clip: float = 10.0
    drawdown_penalty: float = 0.1
    turnover_penalty: float = 0.0
    decay: float = MOMENT_DECAY

    def __post_init__(self) -> None:
        if not (self.clip > 0 and self.drawdown_penalty >= 0 and self.turnover_penalty >= 0 and 0 < self.decay < 1):
            raise ValueError(f"A clip above 0, penalties of at least 0 and a decay in (0, 1) are needed, not {self}.")


class Moments(NamedTuple):
    """The running mean of net returns, and of their squares, as fractions of the budget."""

    mean: float = 0.0
    square: float = 0.0


def moved(moments: Moments, net_return: float, decay: float = MOMENT_DECAY) -> Moments:
    """Return the moments after one more net return."""
    mean, square = moments
    return Moments(mean + decay * (net_return - mean), square + decay * (net_return * net_return - square))


class Fall(NamedTuple):
    """Where a line stands below its peak: what it has gained, and the most that it had (fractions of the budget)."""

    gained: float = 0.0
    peak: float = 0.0


def fallen(fall: Fall, net_return: float) -> tuple[Fall, float]:
    """Return where the line stands after one more net return, and how much further below its peak that is (>= 0)."""
    gained = fall.gained + net_return
    peak = max(fall.peak, gained)
    return Fall(gained, peak), max(0.0, (peak - gained) - (fall.peak - fall.gained))


def differential_sharpe(moments: Moments, net_return: float, variance_min: float) -> float:
    """Return D of one net return after these moments, the variance being at least ``variance_min``.

    Unbounded; with a variance of 0 and nothing to raise it the ratio is not defined and 0 is returned.
    """
    mean = moments.mean
    variance = max(moments.square - mean * mean, variance_min)
    if variance <= 0.0:
        return 0.0
    square = variance + mean * mean
    gain = square * (net_return - mean) - 0.5 * mean * (net_return * net_return - square)
    return float(gain / variance**1.5)


def shaped(
    moments: Moments, net_return: float, one_way_cost: float, drawdown: float, turnover: float, *, terms: RewardTerms
) -> float:
    """Return the reward of one decision.

    ``moments`` are those before it; ``net_return`` what it earned after costs, ``drawdown`` by how much the line fell
    further below its peak (``fallen``) and ``turnover`` what was traded, all as fractions of the budget;
    ``one_way_cost`` as a fraction of the mid. At most ``terms.clip``, and at least minus that less the penalties.
    """
    cost = max(one_way_cost, COST_MIN)
    ratio = differential_sharpe(moments, net_return, cost * cost)
    held = min(terms.clip, max(-terms.clip, ratio))
    if not terms.drawdown_penalty and not terms.turnover_penalty:
        return held
    deviation = math.sqrt(max(moments.square - moments.mean**2, cost * cost))
    fall = min(terms.clip, drawdown / deviation)
    return held - terms.drawdown_penalty * fall - terms.turnover_penalty * turnover
