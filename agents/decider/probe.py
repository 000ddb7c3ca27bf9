"""A policy that trades by the clock, so that the order path can be measured on any input."""

from typing import Final

from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from schemas.decisions import NoTradeReason


class ProbePolicy:
    """Flips between +``size`` and -``size`` every ``every`` ballots, beginning with +. It has no opinion."""

    name: Final = "probe"

    def __init__(self, every: int = 5, size: float = 0.5) -> None:
        """Raise ValueError for an interval below 1 ballot or a size outside (0, 1]."""
        if every < 1 or not 0 < size <= 1:
            raise ValueError(f"A probe flips every 1 or more ballots by a size in (0, 1], not every {every} by {size}.")
        self._every = every
        self._size = size

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:  # noqa: ARG002
        """Return the other side at every ``every``-th ballot, else the target in force."""
        if context.ballots % self._every:
            return PolicyAnswer(context.target, NoTradeReason.TARGET_UNCHANGED)
        return PolicyAnswer(-self._size if (context.ballots // self._every) % 2 else self._size)
