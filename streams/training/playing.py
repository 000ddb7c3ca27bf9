"""A policy followed over whole tapes, as it would act in a worker: greedily, with numpy, no draw of chance anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.decider.encoding import Encoded

Floats = NDArray[np.float64]
Seen = Mapping[str, NDArray[np.float32]]
BLOCK_STEPS: Final = 60
_DRAWS: Final = 2_000


class Valuing(Protocol):
    """Whatever values the targets: ``SetPolicy``."""

    def q_values(self, encoded: Encoded) -> Floats:
        """Return the value of each target."""


@dataclass(frozen=True, slots=True)
class Played:
    """One tape, step by step: ``net_returns`` and ``targets`` [T], shares of the budget."""

    net_returns: Floats
    targets: Floats

    @property
    def net(self) -> float:
        """Net profit in all, as a share of the budget."""
        return float(self.net_returns.sum())

    @property
    def turnover(self) -> float:
        """How many budgets the changes of target come to."""
        return float(np.abs(np.diff(self.targets, prepend=0.0)).sum())


def play(environment: gymnasium.Env[Any, Any], policy: Valuing, options: Mapping[str, Any] | None = None) -> Played:
    """Follow the policy through one episode; ``options`` go to the environment's reset."""
    seen, _ = environment.reset(options=dict(options or {}))
    returns: list[float] = []
    targets: list[float] = []
    over = False
    while not over:
        seen, _, terminated, truncated, info = environment.step(greedy(policy, seen))
        returns.append(float(info["net_return"]))
        targets.append(float(info["target"]))
        over = terminated or truncated
    return Played(np.array(returns), np.array(targets))


def greedy(policy: Valuing, seen: Seen) -> int:
    """Return the action of the greatest value, the first of equals."""
    encoded = Encoded(votes=seen["votes"][seen["present"] > 0], context=seen["context"])
    return int(np.argmax(policy.q_values(encoded)))


def sharpe_lower_bound(returns: Floats, *, seed: int, level: float = 0.95, block: int = BLOCK_STEPS) -> float:
    """Return the one-sided lower bound of the Sharpe ratio per step; exactly 0 for returns that are all 0 (flat).

    Circular blocks of ``block`` steps are drawn anew (Politis and Romano 1992): steps within one hang together.
    """
    values = np.asarray(returns, dtype=np.float64)
    if not values.any():
        return 0.0
    count = len(values)
    draws = np.random.default_rng(seed)
    blocks = -(-count // block)
    starts = draws.integers(count, size=(_DRAWS, blocks, 1))
    places = ((starts + np.arange(block)) % count).reshape(_DRAWS, -1)[:, :count]
    drawn = values[places]
    deviations = drawn.std(axis=1, ddof=1)
    ratios = np.divide(drawn.mean(axis=1), deviations, out=np.zeros(_DRAWS), where=deviations > 0)
    return float(np.quantile(ratios, 1.0 - level))
