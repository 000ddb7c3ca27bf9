"""How inputs are brought to one scale: means and scales that are fitted once on the training tapes and then belong to
the network, so that a policy reads the same numbers wherever it runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

FARTHEST: Final = 10.0
"""Nothing that the fit has seen lies further than so many scales from its mean: a rare flag stays a small number."""
RESTLESSNESS: Final = 0.05
"""How often the fit's own policy takes another target: as seldom as one that minds its costs."""

Floats = NDArray[np.float32]
Seen = Mapping[str, NDArray[np.float32]]
_Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """``x`` enters the network as ``(x - mean) / scale``; float32 of the features' length, every scale above 0."""

    votes_mean: Floats
    votes_scale: Floats
    context_mean: Floats
    context_scale: Floats


@dataclass(slots=True)
class FeatureSums:
    """Count, sum, sum of squares and bounds of each of ``size`` features, row by row."""

    size: int
    count: int = 0
    total: _Sums = field(init=False)
    square: _Sums = field(init=False)
    low: _Sums = field(init=False)
    high: _Sums = field(init=False)

    def __post_init__(self) -> None:
        self.total, self.square = np.zeros(self.size), np.zeros(self.size)
        self.low, self.high = np.full(self.size, np.inf), np.full(self.size, -np.inf)

    def take(self, rows: NDArray[np.floating[Any]]) -> None:
        """Count rows [n, size] in; n may be 0."""
        if not len(rows):
            return
        exact = np.asarray(rows, dtype=np.float64)
        self.count += len(exact)
        self.total += exact.sum(axis=0)
        self.square += (exact * exact).sum(axis=0)
        self.low = np.minimum(self.low, exact.min(axis=0))
        self.high = np.maximum(self.high, exact.max(axis=0))

    @property
    def mean(self) -> _Sums:
        """The mean of each; 0 when none was seen."""
        return self.total / max(1, self.count)

    @property
    def deviation(self) -> _Sums:
        """The standard deviation of each; 0 when none was seen."""
        return np.sqrt(np.maximum(self.square / max(1, self.count) - self.mean**2, 0.0))

    def fitted(self) -> tuple[Floats, Floats]:
        """Return mean and scale; what never changed, or was never seen, keeps its own scale."""
        if not self.count:
            return np.zeros(self.size, np.float32), np.ones(self.size, np.float32)
        reach = np.maximum(self.high - self.mean, self.mean - self.low) / FARTHEST
        still = self.high - self.low <= 1e-6 * np.maximum(1.0, np.abs(self.mean))
        scale = np.where(still, 1.0, np.maximum(self.deviation, reach))
        return self.mean.astype(np.float32), scale.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a policy has seen: of every vote that was there, and of every context."""

    votes: FeatureSums
    context: FeatureSums

    def normalisation(self) -> Normalisation:
        """Return what brings these inputs to one scale."""
        return Normalisation(*self.votes.fitted(), *self.context.fitted())


def inputs_under(environment: gymnasium.Env[Any, Any], choose: Callable[[Seen], int], steps: int, seed: int) -> Inputs:
    """Return what the environment shows in so many steps to whoever chooses these actions."""
    space: Any = environment.observation_space
    found = Inputs(FeatureSums(space["votes"].shape[1]), FeatureSums(space["context"].shape[0]))
    seen, _ = environment.reset(seed=seed)
    for _ in range(steps):
        found.votes.take(seen["votes"][seen["present"] > 0])
        found.context.take(seen["context"][None])
        seen, _, terminated, truncated, _ = environment.step(choose(seen))
        if terminated or truncated:
            seen, _ = environment.reset()
    return found


def fit_normalisation(environment: gymnasium.Env[Any, Any], steps: int, seed: int) -> Normalisation:
    """Return the normalisation of what ``steps`` steps show to one who wanders about: any target, held for a while."""
    draws = np.random.default_rng(seed)
    actions: Any = environment.action_space
    held = 0

    def wander(_: Seen) -> int:
        nonlocal held
        if draws.random() < RESTLESSNESS:
            held = int(draws.integers(actions.n))
        return held

    return inputs_under(environment, wander, steps, seed).normalisation()
