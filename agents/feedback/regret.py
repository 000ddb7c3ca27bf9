"""What the committee would have lost less, had it known whom to trust: the best expert, and the best sequence of them.

Losses are a table, a row a ballot and a column an expert; an abstainer's is the pool's own, so that abstaining is
neither praised nor blamed. The best sequence with at most k changes is found by dynamic programming over (changes so
far, expert now): what bounds for fixed share speak of (Herbster and Warmuth 1998), computed instead of bounded.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]
"""A row a ballot in the order of time, a column an expert; in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Path:
    """A sequence of experts: its whole loss, whom it begins with, and (ballot, expert) at each change."""

    loss: float
    first: int
    changes: tuple[tuple[int, int], ...] = ()


def best_fixed(losses: Losses) -> Path:
    """Return the one expert that would have lost least, the first of equals. There must be one at least."""
    totals = losses.sum(axis=0)
    best = int(totals.argmin())
    return Path(float(totals[best]), best)


def best_shifting(losses: Losses, changes: int) -> Path:
    """Return the sequence of experts with at most so many changes that would have lost least.

    Takes ballots x changes x experts steps and as many bytes.
    """
    ballots, experts = losses.shape
    cost = np.zeros((changes + 1, experts))
    came_from = np.full((ballots, changes + 1, experts), -1, dtype=np.int16)
    for ballot in range(ballots):
        if ballot:
            cheapest = cost[:-1].argmin(axis=1)
            switched = cost[np.arange(changes), cheapest][:, None]
            better = switched < cost[1:]
            cost[1:] = np.where(better, switched, cost[1:])
            came_from[ballot, 1:] = np.where(better, cheapest[:, None], -1)
        cost += losses[ballot]
    used, expert = (int(place) for place in np.unravel_index(cost.argmin(), cost.shape))
    loss, made = float(cost[used, expert]), []
    for ballot in range(ballots - 1, 0, -1):
        former = int(came_from[ballot, used, expert])
        if former >= 0:
            made.append((ballot, expert))
            used, expert = used - 1, former
    return Path(loss, expert, tuple(reversed(made)))
