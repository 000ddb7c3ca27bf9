"""A Gaussian hidden Markov model by its forward filter: which state is it now, given all until now and nothing later.

Viterbi's path and the smoothed posterior say of a moment what its future has shown; neither may be used live. States
last an exponential time, so that the steps may be of any length. Source: Rabiner, Proc. IEEE 77(2), 1989.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class HiddenMarkov:
    """``means`` and ``widths`` (standard deviations) by state and input; inputs are independent within a state.

    ``stay_s`` is how long a state lasts on average; then each other is as likely as the next.
    """

    means: tuple[tuple[float, ...], ...]
    widths: tuple[tuple[float, ...], ...]
    stay_s: float

    def __post_init__(self) -> None:
        """Refuse a model whose states do not speak of the same inputs."""
        assert len(self.means) == len(self.widths) > 1
        assert len({len(row) for row in (*self.means, *self.widths)}) == 1
        assert all(width > 0 for row in self.widths for width in row)
        assert self.stay_s > 0

    def predicted(self, posterior: Sequence[float], elapsed_s: float) -> tuple[float, ...]:
        """Return the probabilities of the states so long after ``posterior`` held, before anything is seen."""
        states = len(self.means)
        # Whoever has left may have come back since, so that two short steps are one long one.
        stay = (1 + (states - 1) * math.exp(-elapsed_s / self.stay_s * states / (states - 1))) / states
        moved = (1 - stay) / (states - 1)
        return tuple(stay * chance + moved * (1 - chance) for chance in posterior)

    def filtered(self, prior: Sequence[float], seen: Sequence[float | None]) -> tuple[float, ...]:
        """Return the posterior of the states after ``seen``; an input that is None tells nothing."""
        logs = []
        for chance, means, widths in zip(prior, self.means, self.widths, strict=True):
            log = math.log(chance) if chance > 0 else -math.inf
            for value, mean, width in zip(seen, means, widths, strict=True):
                if value is not None:
                    distance = (value - mean) / width
                    log -= 0.5 * distance * distance + math.log(width)
            logs.append(log)
        best = max(logs)
        weights = [math.exp(log - best) for log in logs]
        total = sum(weights)
        return tuple(weight / total for weight in weights)
