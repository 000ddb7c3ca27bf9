"""The most that anybody can earn on a path at given costs: a dynamic programme over the targets that a policy may want.

It knows every return beforehand and pays the same cost for each change of target, so no policy can beat it, and the
share of its profit that a policy earns says how much of what could be known the policy made use of.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.decider.policy import TARGETS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The best path: ``targets`` [T] held over each step, and its net profit as a share of the budget."""

    targets: Floats
    net: float


def foresee(returns: NDArray[np.floating[Any]], one_way_costs: NDArray[np.floating[Any]]) -> Foreseen:
    """Return the best targets for returns [T] of the mid over each step, begun flat.

    ``one_way_costs`` [T]: what changing the target by 1 costs at the beginning of each step, as a share of the budget.
    What is held at the end is valued at the mid, as the environment does. Of equal paths the one that trades less wins.
    """
    targets = np.asarray(TARGETS, dtype=np.float64)
    change = np.abs(targets[:, None] - targets[None, :])
    worth = np.zeros(len(targets))
    choices = np.empty((len(returns), len(targets)), dtype=np.intp)
    for step in range(len(returns) - 1, -1, -1):
        outcome = targets * returns[step] + worth
        gains = outcome[None, :] - one_way_costs[step] * change
        gains[np.arange(len(targets)), np.arange(len(targets))] += 1e-15
        choices[step] = gains.argmax(axis=1)
        worth = gains.max(axis=1)
    at = TARGETS.index(0.0)
    path = np.empty(len(returns))
    for step, choice in enumerate(choices):
        at = int(choice[at])
        path[step] = targets[at]
    return Foreseen(path, net_of(path, returns, one_way_costs))


def net_of(targets: Floats, returns: NDArray[np.floating[Any]], one_way_costs: NDArray[np.floating[Any]]) -> float:
    """Return what holding these targets [T] earns net of the cost of each change, begun flat: a share of the budget."""
    changes = np.abs(np.diff(targets, prepend=0.0))
    return float((targets * returns - one_way_costs * changes).sum())
