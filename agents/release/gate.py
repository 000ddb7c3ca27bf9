"""Whether a model in shadow or on trial has shown enough to take the place of who acts: one bound, two conditions.

The advantage per decision is resampled in blocks that wrap around (circular block bootstrap: Politis and Romano 1992),
since volatility comes in spells and positions are held. The model passes when the lower bound of the mean advantage is
above 0 over at least so many decisions, and it wanted something else at no more than so large a share of them: what
behaves quite otherwise is a person's to let in, however well it did.

The draws are a function of ids, so that whoever asks again gets the same answer. The bound holds for one look: whoever
looks every day until it passes lets more through than the stated share.
"""

import enum
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.release.paper import Floats, PaperResult
from agents.sim.generator import seeded

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)


class GateRefusal(enum.StrEnum):
    """Why a model does not pass. The list is closed."""

    TOO_FEW_DECISIONS = "TOO_FEW_DECISIONS"
    NOT_BETTER = "NOT_BETTER"
    TOO_DIFFERENT = "TOO_DIFFERENT"


@dataclass(frozen=True, slots=True)
class GateTerms:
    """What is asked: ``decisions_min`` pairs, a lower bound at ``level`` (one-sided), ``differing_max`` as a share.

    ``block`` is in decisions; ``draws`` is how often is resampled.
    """

    decisions_min: int = 2_000
    level: float = 0.975
    differing_max: float = 0.5
    block: int = 50
    draws: int = 2_000

    def __post_init__(self) -> None:
        """Raise ValueError for terms that mean nothing."""
        shares = 0.5 <= self.level < 1 and 0 < self.differing_max <= 1
        if not shares or self.decisions_min < self.block or self.block < 1 or self.draws * (1 - self.level) < 1 - 1e-9:
            raise ValueError(f"A gate needs shares, decisions of a block or more, and draws beyond its level: {self}.")


class GateVerdict(NamedTuple):
    """What the gate says. ``mean`` and ``lower`` are shares of the budget per decision; no ``refusals``: it passes.

    ``lower`` is minus infinity without enough decisions to tell.
    """

    decisions: int
    mean: float
    lower: float
    differing: float
    refusals: tuple[GateRefusal, ...]

    @property
    def passes(self) -> bool:
        """Whether the model may go on."""
        return not self.refusals


def judge(result: PaperResult, terms: GateTerms, *ids: str) -> GateVerdict:
    """Return the verdict on a challenger's paper result. ``ids`` (models, the last tally) make the draws."""
    differences = result.differences
    enough = result.decisions >= terms.decisions_min
    lower = lower_bound(differences, terms, *ids) if enough else -math.inf
    found = {
        GateRefusal.TOO_FEW_DECISIONS: not enough,
        GateRefusal.NOT_BETTER: enough and not lower > 0.0,
        GateRefusal.TOO_DIFFERENT: result.differing > terms.differing_max,
    }
    mean = float(differences.mean()) if result.decisions else 0.0
    refusals = tuple(refusal for refusal, holds in found.items() if holds)
    return GateVerdict(result.decisions, mean, lower, result.differing, refusals)


def lower_bound(differences: Floats, terms: GateTerms, *ids: str) -> float:
    """Return the lower bound of the mean of ``differences`` [N >= block], by the percentile of resampled means."""
    count, block = len(differences), terms.block
    blocks = -(-count // block)
    ring = np.concatenate((differences, differences[: block - 1]))
    sums = np.concatenate(([0.0], np.cumsum(ring)))
    of_block = (sums[block:] - sums[:-block]) / block
    starts = _below(count, terms.draws * blocks, seeded("release gate", *ids).state)
    means = np.sort(of_block[starts].reshape(terms.draws, blocks).mean(axis=1))
    below = math.floor(terms.draws * (1 - terms.level) + 1e-9)
    return float(means[below - 1])


def _below(bound: int, count: int, state: int) -> npt.NDArray[np.int64]:
    """Return ``count`` integers in [0, bound): ``agents.sim.generator`` for all at once."""
    words = np.uint64(state) + _GAMMA * np.arange(1, count + 1, dtype=np.uint64)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    # The upper half of the product of two 64-bit numbers, of which the bound is small: by the upper 32 bits.
    return ((words >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)
