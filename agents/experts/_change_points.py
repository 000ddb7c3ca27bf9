"""When did what we see last change? Bayesian online change point detection (Adams and MacKay 2007, arXiv:0710.3742).

A run is the stretch since the last change. Within one, values are normal with a mean and a variance nobody knows:
their prior is normal-inverse-gamma, so that the next value is Student's t. After each value every run either goes on
or, with the hazard, ends. Runs that have become too unlikely are dropped, which keeps the work constant.
"""

import math
from dataclasses import dataclass

import msgspec


class Runs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The runs still thought possible, youngest first: lengths, probabilities, and mean and scale within each."""

    lengths: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()


@dataclass(frozen=True)
class ChangePoints:
    """``length_mean`` is how many values a run lasts on average, and 1 / hazard.

    The prior within a run: its mean is about ``mean``, known as from ``kappa`` values; its precision is gamma with
    shape ``alpha`` and rate ``beta``. Runs below ``chance_min`` are dropped, and all but the ``runs_max`` likeliest.
    """

    length_mean: float
    mean: float = 0.0
    kappa: float = 1.0
    alpha: float = 1.0
    beta: float = 1.0
    chance_min: float = 1e-5
    runs_max: int = 48

    def __post_init__(self) -> None:
        """Refuse a prior that is none, and a hazard above 1."""
        assert self.length_mean > 1
        assert min(self.kappa, self.alpha, self.beta) > 0
        assert 0 <= self.chance_min < 1
        assert self.runs_max >= 1

    def after(self, runs: Runs, value: float) -> Runs:
        """Return what is thought of the runs once ``value`` was seen; before the first one, ``Runs()``."""
        hazard = 1 / self.length_mean
        if not runs.lengths:
            runs = Runs((0,), (1.0,), (self.mean,), (self.beta,))
        ended = 0.0
        found: list[tuple[int, float, float, float]] = []
        for length, chance, mean, scale in zip(runs.lengths, runs.chances, runs.means, runs.scales, strict=True):
            kappa = self.kappa + length
            joint = chance * self._density(length, value - mean, scale)
            ended += joint * hazard
            gap = value - mean
            found.append(
                (
                    length + 1,
                    joint * (1 - hazard),
                    mean + gap / (kappa + 1),
                    scale + kappa * gap * gap / (2 * (kappa + 1)),
                )
            )
        return self._likely([(0, ended, self.mean, self.beta), *found])

    def _density(self, length: int, gap: float, scale: float) -> float:
        """Return Student's t of the next value of a run, ``gap`` from its mean."""
        kappa, alpha = self.kappa + length, self.alpha + length / 2
        spread = 2 * scale * (kappa + 1) / kappa
        constant = math.lgamma(alpha + 0.5) - math.lgamma(alpha) - 0.5 * math.log(math.pi * spread)
        return math.exp(constant - (alpha + 0.5) * math.log1p(gap * gap / spread))

    def _likely(self, found: list[tuple[int, float, float, float]]) -> Runs:
        total = sum(chance for _, chance, _, _ in found)
        if total <= 0:
            # No run explains a value so far out: whatever was before, a new run begins.
            return Runs((0,), (1.0,), (self.mean,), (self.beta,))
        kept = [run for run in found if run[1] >= self.chance_min * total]
        if len(kept) > self.runs_max:
            least = sorted((chance for _, chance, _, _ in kept), reverse=True)[self.runs_max - 1]
            kept = [run for run in kept if run[1] >= least][: self.runs_max]
        total = sum(chance for _, chance, _, _ in kept)
        lengths, chances, means, scales = zip(*kept, strict=True)
        return Runs(lengths, tuple(chance / total for chance in chances), means, scales)

    def recent(self, runs: Runs, values: int) -> float:
        """Return the probability that the last change lies fewer than so many values back."""
        return sum(chance for length, chance in zip(runs.lengths, runs.chances, strict=True) if length < values)
