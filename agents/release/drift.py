"""Whether a model's inputs are still those of its training: a sequential test on their running means.

Each feature comes as a deviation from its training mean in units of its training standard deviation, held to
+-``clip``. Decisions are taken in blocks of ``block``; a block's mean has at most the variance of one decision,
however the decisions hang together. With S_k the sum of k blocks' means, the alarm is given as soon as for one feature

    |S_k| / k  >  tolerance + sqrt((k + r) (ln((k + r) / r) + 2 ln(F / alpha))) / k

F features, r = MIXTURE_BLOCKS: Robbins' normal-mixture boundary (Annals of Mathematical Statistics 41, 1970), which
holds at every k at once, so that looking after each block costs nothing. After ``window`` blocks it begins anew.

So: while each block's mean, given those before, is sub-Gaussian with proxy variance 1 around something within
+-tolerance, at most the share ``alpha`` of windows gives a false alarm. Inputs that wander more slowly than a block
are not of that kind; ``tolerance`` is there for them, and docs/decider.md gives the measured rates.
"""

import math
from dataclasses import dataclass
from typing import Final

import msgspec

MIXTURE_BLOCKS: Final = 4.0
"""Where the boundary is tightest: about this many blocks."""


@dataclass(frozen=True, slots=True)
class DriftTerms:
    """When inputs count as drifted.

    ``tolerance`` and ``clip`` are in training standard deviations, ``block`` in decisions, ``window`` in blocks;
    ``false_alarms`` is the share of windows that may give one.
    """

    tolerance: float = 2.0
    clip: float = 6.0
    block: int = 32
    window: int = 32
    false_alarms: float = 0.001

    def __post_init__(self) -> None:
        """Raise ValueError for terms that no input could break, or that mean nothing."""
        if not 0 <= self.tolerance < self.clip or self.block < 1 or self.window < 1 or not 0 < self.false_alarms < 1:
            raise ValueError(
                "Drift needs 0 <= tolerance < clip, blocks and windows of 1 or more, and a rate between 0 and 1."
            )
        if radius(self.window, 1, self.false_alarms) + self.tolerance >= self.clip:
            raise ValueError("Drift could not be seen within a window: widen the window or the clip.")


class Drift(msgspec.Struct, frozen=True):
    """A feature that is not what it was: its place among the features, and how far its mean stands off."""

    feature: int
    deviations: float


class DriftState(msgspec.Struct):
    """What is kept between decisions, per feature: the open block's sums and counts, and the closed blocks'."""

    decisions: int = 0
    blocks: int = 0
    sums: list[float] = []
    counts: list[int] = []
    block_sums: list[float] = []
    block_counts: list[int] = []


def radius(blocks: int, features: int, false_alarms: float) -> float:
    """Return how far the mean of ``blocks`` blocks may stray beyond the tolerance, in standard deviations."""
    mixed = blocks + MIXTURE_BLOCKS
    bits = math.log(mixed / MIXTURE_BLOCKS) + 2.0 * math.log(features / false_alarms)
    return math.sqrt(mixed * bits) / blocks


def observe(state: DriftState, features: tuple[float | None, ...], terms: DriftTerms) -> Drift | None:
    """Take one decision's features; return the worst of those that have drifted, at the end of a block that shows it.

    A feature that a decision does not have is left out of its mean; a block without it is none for it.
    """
    if len(state.sums) != len(features):
        _begin(state, len(features))
    for place, value in enumerate(features):
        if value is not None and math.isfinite(value):
            state.sums[place] += min(terms.clip, max(-terms.clip, value))
            state.counts[place] += 1
    state.decisions += 1
    if state.decisions < terms.block:
        return None
    _close_block(state)
    found = _worst(state, terms)
    if state.blocks >= terms.window or found is not None:
        _begin(state, len(features))
    return found


def _begin(state: DriftState, features: int) -> None:
    state.decisions = state.blocks = 0
    state.sums, state.counts = [0.0] * features, [0] * features
    state.block_sums, state.block_counts = [0.0] * features, [0] * features


def _close_block(state: DriftState) -> None:
    for place, count in enumerate(state.counts):
        if count:
            state.block_sums[place] += state.sums[place] / count
            state.block_counts[place] += 1
    state.sums, state.counts = [0.0] * len(state.sums), [0] * len(state.counts)
    state.blocks += 1
    state.decisions = 0


def _worst(state: DriftState, terms: DriftTerms) -> Drift | None:
    worst, beyond = None, 0.0
    features = len(state.block_sums)
    for place, blocks in enumerate(state.block_counts):
        if not blocks:
            continue
        mean = state.block_sums[place] / blocks
        excess = abs(mean) - terms.tolerance - radius(blocks, features, terms.false_alarms)
        if excess > beyond:
            worst, beyond = Drift(place, mean), excess
    return worst
