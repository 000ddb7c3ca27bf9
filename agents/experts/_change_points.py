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
        kept, ended = 1 - hazard, 0.0
        found = [(0.0, 0, self.mean, self.beta)]
        for length, chance, mean, scale in zip(runs.lengths, runs.chances, runs.means, runs.scales, strict=True):
            kappa, gap = self.kappa + length, value - mean
            spread = 2 * scale * (kappa + 1) / kappa
            # Student's t of the next value of this run.
            log = self._constant(length) - (self.alpha + length / 2 + 0.5) * math.log1p(gap * gap / spread)
            joint = chance * math.exp(log) / math.sqrt(math.pi * spread)
            ended += joint
            grown = scale + kappa * gap * gap / (2 * (kappa + 1))
            found.append((joint * kept, length + 1, mean + gap / (kappa + 1), grown))
        found[0] = (ended * hazard, 0, self.mean, self.beta)
        return self._likely(found)

    def _constant(self, length: int) -> float:
        """Return the logarithm of gamma(a + 1/2) / gamma(a) for the shape of a run."""
        alpha = self.alpha + length / 2
        return math.lgamma(alpha + 0.5) - math.lgamma(alpha)

    def _likely(self, found: list[tuple[float, int, float, float]]) -> Runs:
        total = sum(run[0] for run in found)
        if total <= 0:
            # No run explains a value so far out: whatever was before, a new run begins.
            return Runs((0,), (1.0,), (self.mean,), (self.beta,))
        least = self.chance_min * total
        if len(found) > self.runs_max:
            least = max(least, sorted((run[0] for run in found), reverse=True)[self.runs_max - 1])
        kept = [run for run in found if run[0] >= least][: self.runs_max]
        chances, lengths, means, scales = zip(*kept, strict=True)
        total = sum(chances)
        return Runs(lengths, tuple([chance / total for chance in chances]), means, scales)

    def recent(self, runs: Runs, values: int) -> float:
        """Return the probability that the last change lies fewer than so many values back."""
        return sum(chance for length, chance in zip(runs.lengths, runs.chances, strict=True) if length < values)
