"""The replay buffer: the newest transitions, encoded, in arrays; it knows up to which experience it has come.

An experience has a number, and numbers come without a gap. So whatever is handed over twice, after a crash, is seen to
be there, and what was left out is seen to be missing.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.decider.encoding import CONTEXT_FEATURES, MAX_VOTES, VOTE_FEATURES
from agents.reward.experience import Standing
from schemas.feedback import Experience
from streams.training.transitions import Transition, TransitionTerms, padded, transition

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A buffer at one moment: ``arrays`` [count, ...] from the oldest to the newest, and what belongs to them.

    ``lineage`` and ``position``: whose experiences, and the number of the newest that was taken. ``standings`` is
    line -> what its next reward depends on. ``skipped`` experiences were of no use. ``identity`` as in TransitionTerms.
    ``instruments`` are the names to which the array ``instrument`` has the places.
    """

    identity: str
    lineage: str
    position: int
    skipped: int
    standings: dict[str, Standing]
    arrays: Arrays
    instruments: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many transitions there are."""
        return len(self.arrays["action"])

    def by_instrument(self) -> dict[str, int]:
        """Return how many of the transitions are of each instrument, by name, none without any."""
        counts = np.bincount(self.arrays["instrument"], minlength=len(self.instruments)).tolist()
        return {name: count for name, count in sorted(zip(self.instruments, counts, strict=True)) if count}


def empty_arrays(rows: int) -> Arrays:
    """Return arrays of so many transitions, all 0: the layout of buffer and snapshot."""
    votes, context = len(VOTE_FEATURES), len(CONTEXT_FEATURES)
    return {
        "votes": np.zeros((rows, MAX_VOTES, votes), np.float32),
        "present": np.zeros((rows, MAX_VOTES), np.float32),
        "context": np.zeros((rows, context), np.float32),
        "next_votes": np.zeros((rows, MAX_VOTES, votes), np.float32),
        "next_present": np.zeros((rows, MAX_VOTES), np.float32),
        "next_context": np.zeros((rows, context), np.float32),
        "action": np.zeros(rows, np.int64),
        "reward": np.zeros(rows, np.float32),
        "instrument": np.zeros(rows, np.int64),
    }


@dataclass(slots=True)
class Replay:
    """A ring of at most ``capacity`` transitions."""

    capacity: int
    terms: TransitionTerms
    lineage: str = ""
    position: int = 0
    skipped: int = 0
    _standings: dict[str, Standing] = field(default_factory=dict)
    _instruments: list[str] = field(default_factory=list)
    _written: int = 0
    _arrays: Arrays = field(init=False)

    def __post_init__(self) -> None:
        self._arrays = empty_arrays(self.capacity)

    @property
    def count(self) -> int:
        """How many transitions it holds."""
        return min(self._written, self.capacity)

    def take(self, lineage: str, number: int, experience: Experience) -> bool:
        """Put experience ``number`` in, unless it is there already; return whether it was not.

        The caller never leaves one out, and never mixes lineages: that breaks an invariant.
        """
        if not self.position:
            self.lineage = self.lineage or lineage
        assert lineage == self.lineage, f"an experience of {lineage} for the buffer of {self.lineage}"
        if number <= self.position:
            return False
        assert number == self.position + 1, f"experience {number} after {self.position}: those between are missing"
        self.position = number
        line = f"{experience.account}|{experience.strategy}|{experience.instrument}"
        made = transition(experience, self._standings.get(line, Standing()), self.terms)
        if made is None:
            self.skipped += 1
            return True
        step, self._standings[line] = made
        self._put(step, experience.instrument)
        return True

    def _put(self, step: Transition, instrument: str) -> None:
        if instrument not in self._instruments:
            self._instruments.append(instrument)
        row, arrays = self._written % self.capacity, self._arrays
        arrays["votes"][row], arrays["present"][row] = padded(step.seen.votes)
        arrays["next_votes"][row], arrays["next_present"][row] = padded(step.following.votes)
        arrays["context"][row], arrays["next_context"][row] = step.seen.context, step.following.context
        arrays["action"][row], arrays["reward"][row] = step.action, step.reward
        arrays["instrument"][row] = self._instruments.index(instrument)
        self._written += 1

    def frozen(self) -> Frozen:
        """Return a copy of what it is now."""
        count = self.count
        begin = self._written % self.capacity if count == self.capacity else 0
        order = (np.arange(count) + begin) % self.capacity
        arrays = {name: array[order] for name, array in self._arrays.items()}
        return Frozen(
            self.terms.identity,
            self.lineage,
            self.position,
            self.skipped,
            dict(self._standings),
            arrays,
            tuple(self._instruments),
        )

    def thaw(self, frozen: Frozen) -> None:
        """Become what was frozen; of more than fit, the newest."""
        kept = min(frozen.count, self.capacity)
        self._arrays = empty_arrays(self.capacity)
        for name, array in frozen.arrays.items():
            self._arrays[name][:kept] = array[frozen.count - kept :]
        self._written = kept
        self.lineage, self.position, self.skipped = frozen.lineage, frozen.position, frozen.skipped
        self._standings, self._instruments = dict(frozen.standings), list(frozen.instruments)
