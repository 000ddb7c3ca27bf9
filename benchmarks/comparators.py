"""Whom a learned policy is held against: who never trades, the rule to beat, each expert alone, the mean of all.

Each is the baseline policy on the same tape with another tally. Which expert is the best is found on the days before;
on the day itself nobody knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agents.decider.baseline import BaselinePolicy
from agents.decider.null import NullPolicy
from agents.sim.tape import Tape
from benchmarks.contest import NULL, Day
from benchmarks.following import follow
from streams.training.pools import equally_weighed, experts_in, of_one

BASELINE: Final = "baseline"
BEST_EXPERT: Final = "best expert"
EQUAL: Final = "equal weights"


@dataclass(slots=True)
class Comparators:
    """The rules on a series of tapes, by label. What an expert alone came to is worked out once for each tape."""

    tapes: Mapping[str, Tape]
    _alone: dict[tuple[str, str], Day] = field(default_factory=dict, repr=False)

    def experts(self, labels: Sequence[str]) -> list[str]:
        """Return who gave a direction on any of these tapes."""
        return sorted({name for label in labels for name in experts_in(self.tapes[label].tallies)})

    def alone(self, label: str, expert: str) -> Day:
        """Return what the baseline policy earns on one expert's word."""
        known = self._alone.get((label, expert))
        if known is None:
            tape = self.tapes[label]
            known = follow(tape.with_tallies(of_one(tape.tallies, expert)), BaselinePolicy(), label)
            self._alone[label, expert] = known
        return known

    def best_expert(self, before: Sequence[str]) -> str:
        """Return who would have earned most on these tapes; of equals, as when none would have traded, the first."""
        return max(self.experts(before), key=lambda name: sum(self.alone(label, name).net_bp for label in before))

    def rules(self, label: str, before: Sequence[str]) -> tuple[dict[str, Day], str]:
        """Return each rule's result on a tape, and the expert chosen on those before."""
        tape, chosen = self.tapes[label], self.best_expert(before)
        return {
            NULL: follow(tape, NullPolicy(), label),
            BASELINE: follow(tape, BaselinePolicy(), label),
            BEST_EXPERT: self.alone(label, chosen),
            EQUAL: follow(tape.with_tallies(equally_weighed(tape.tallies)), BaselinePolicy(), label),
        }, chosen
