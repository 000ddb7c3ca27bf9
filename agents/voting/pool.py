"""Many opinions into one: a weighted geometric mean (log-space pool), and how far the opinions lie apart.

In log space an expert that is sure moves the pool more than one that is not, and the pool's log-loss is never above
the weighted mean of the experts' log-losses, which is what lets the regret bound of the weights speak for the pool.
Source: Genest and Zidek 1986; Hoelder's inequality for the bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Probabilities = tuple[float, float, float]
"""Down, flat, up; they sum to 1."""

_TINY: Final = 1e-12
"""A weight below it is taken for it, so that it can be raised in proportion when all others are at their caps."""


@dataclass(frozen=True)
class PoolConfig:
    """Bounds on what one expert can do to the pool.

    ``weight_floor`` keeps every voter audible, ``weight_cap`` keeps any one from deciding alone, ``text_cap`` is
    what all text-fed experts together may weigh; ``probability_floor`` bounds what one vote can say.
    """

    weight_floor: float = 0.01
    weight_cap: float = 0.4
    text_cap: float = 0.1
    probability_floor: float = 0.01

    def __post_init__(self) -> None:
        """Refuse bounds that contradict each other."""
        assert 0 < self.weight_floor < self.weight_cap <= 1
        assert 0 < self.text_cap <= self.weight_cap
        assert 0 < self.probability_floor < 1 / 3


def bounded_weights(config: PoolConfig, raw: Sequence[float], text_fed: Sequence[bool]) -> list[float]:
    """Return the weights that count: floored, text-fed ones together capped, others capped one by one.

    What a bound gives or takes is borne by those at no bound, in proportion to their weights. The sum is 1, or less
    when all are at their caps: then the pool says less than its votes, as few voters should. Where a floor for each
    text-fed expert is more than all of them may weigh, they share that.
    """
    total = sum(raw)
    weights = _filled([weight / total for weight in raw], 1.0, config.weight_floor, 1.0)
    text = [index for index, fed in enumerate(text_fed) if fed]
    own = [index for index, fed in enumerate(text_fed) if not fed]
    text_budget = min(sum(weights[index] for index in text), config.text_cap)
    for group, budget in ((text, text_budget), (own, 1.0 - text_budget)):
        bounded = _filled([weights[index] for index in group], budget, config.weight_floor, config.weight_cap)
        for index, weight in zip(group, bounded, strict=True):
            weights[index] = weight
    return weights


def _filled(weights: list[float], budget: float, floor: float, cap: float) -> list[float]:
    """Return ``c x weight`` cut to floor and cap, with the one c for which they sum to the budget; caps, if too small.

    The sum is linear in c between the points where a weight meets a bound, so that c lies between two of those.
    """
    if len(weights) * cap <= budget:
        return [cap] * len(weights)
    floor = min(floor, budget / len(weights))
    weights = [max(weight, _TINY) for weight in weights]
    low, at_low = 0.0, len(weights) * floor
    for high in sorted({bound / weight for weight in weights for bound in (floor, cap)}):
        at_high = sum(min(cap, max(floor, high * weight)) for weight in weights)
        if at_high >= budget:
            low += (high - low) * (budget - at_low) / (at_high - at_low) if at_high > at_low else 0.0
            break
        low, at_low = high, at_high
    return [min(cap, max(floor, low * weight)) for weight in weights]


def pooled(config: PoolConfig, votes: Sequence[Probabilities], weights: Sequence[float]) -> Probabilities:
    """Return ``p_k`` proportional to the product of ``p_ik ** w_i``; uniform when there is no weight."""
    logs = [0.0, 0.0, 0.0]
    floor = config.probability_floor
    for vote, weight in zip(votes, weights, strict=True):
        for outcome in (0, 1, 2):
            probability = vote[outcome]
            logs[outcome] += weight * math.log(probability if probability > floor else floor)
    top = max(logs)
    down, flat, up = (math.exp(value - top) for value in logs)
    total = down + flat + up
    return (down / total, flat / total, up / total)


def disagreement(votes: Sequence[Probabilities], weights: Sequence[float]) -> float:
    """Return the Jensen-Shannon divergence of the weighted votes in nats: 0 when all say the same, at most ln 3."""
    total = sum(weights)
    mean = [0.0, 0.0, 0.0]
    entropy_inside = 0.0
    for vote, weight in zip(votes, weights, strict=True):
        share = weight / total
        for outcome in (0, 1, 2):
            mean[outcome] += share * vote[outcome]
        entropy_inside += share * _entropy(vote)
    return max(0.0, _entropy(mean) - entropy_inside)


def _entropy(probabilities: Sequence[float]) -> float:
    return -sum(value * math.log(value) for value in probabilities if value > 0)
