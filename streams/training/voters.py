"""Voters that no market has: they know the future, or nothing, or exactly so much, to find out what learning is worth.

A learner that cannot earn from a leak is broken, and one that earns from a leak of the wrong moments deceives itself.
Each voter gives one entry for a tape's step as the committee's own experts do, under a name that no policy sees. What a
voter says is a function of the tape and its seed, so that every run hears the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from agents.feedback.scoring import Forecast, outcome_of
from agents.voting.pool import PoolConfig
from schemas.opinions import TallyEntry, VoteTally

Floats = npt.NDArray[np.float64]
WEIGHT: Final = PoolConfig().weight_cap
"""What a voter weighs that was not pooled: as much as one expert may."""
_FLAT: Final = 0.02
_VOTERS: Final = 0x766F7465
_NORMAL: Final = NormalDist()


class Steps(Protocol):
    """What a voter must know of a tape: each step's tally, in the order of their grid times."""

    @property
    def tallies(self) -> Sequence[VoteTally]:
        """The tallies of one instrument and one horizon."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What became of each step's ballot. ``outcomes`` is -1, 0 or +1, and ``known`` at which step that can be told:
    the first at or after the horizon. Where the tape ends before, or a mid is missing until then, so that the ballot is
    void, ``known`` is ``len(outcomes)``.
    """

    outcomes: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]

    @property
    def overlap(self) -> int:
        """Of how many steps the horizons overlap."""
        reach = (self.known - np.arange(len(self.known)))[self.known < len(self.known)]
        return max(1, int(np.median(reach))) if len(reach) else 1


def mids_of(tape: Steps) -> Floats:
    """Return the mid of each step in units of 1e-8, NaN where there was no market."""
    return np.array([np.nan if tally.mid is None else tally.mid for tally in tape.tallies], dtype=np.float64)


def next_returns(tape: Steps) -> Floats:
    """Return the relative change of the mid from each step to the next, NaN where either is missing, and at the end."""
    mids = mids_of(tape)
    return np.append(mids[1:] / mids[:-1] - 1, np.nan)[: len(mids)]


def ends_of(tape: Steps) -> Ends:
    """Return the end of each step's ballot, by the rule that feedback scores by."""
    tallies = tape.tallies
    times = np.array([tally.grid_time_ns for tally in tallies], dtype=np.int64)
    horizons = np.array([tally.horizon_ns for tally in tallies], dtype=np.int64)
    known = np.searchsorted(times, times + horizons)
    missing = np.append(0, np.cumsum([tally.mid is None for tally in tallies]))
    outcomes = np.zeros(len(tallies), dtype=np.int64)
    for place, tally in enumerate(tallies):
        end = int(known[place])
        if end == len(tallies) or missing[end + 1] > missing[place]:
            known[place] = len(tallies)
            continue
        closing = tallies[end].mid
        assert tally.mid is not None and closing is not None
        outcomes[place] = outcome_of(closing - tally.mid, tally.flat_band)
    return Ends(outcomes, known)


def base_rates(ends: Ends) -> Floats:
    """Return at each step the frequencies [T, 3] of down, flat and up among what was known, one of each added."""
    counts = np.ones((len(ends.outcomes) + 1, 3))
    told = ends.known < len(ends.outcomes)
    np.add.at(counts, (ends.known[told] + 1, ends.outcomes[told] + 1), 1)
    running = np.cumsum(counts, axis=0) - np.arange(len(counts))[:, None]
    return np.asarray(running[:-1] / running[:-1].sum(axis=1, keepdims=True))


def entry_of(name: str, said: Forecast, weight: float = WEIGHT) -> TallyEntry:
    """Return an entry of one who has said this, and whose word is taken as it is."""
    down, flat, up = said
    return TallyEntry(
        expert=name,
        weight=weight,
        skill=None,
        p_down=down,
        p_flat=flat,
        p_up=up,
        abstained=None,
        evidence={},
        calibrated_down=down,
        calibrated_flat=flat,
        calibrated_up=up,
    )


@dataclass(slots=True)
class Voter:
    """One who votes on a tape. ``forecasts`` gives [T, 3]: down, flat, up at each step, NaN for an abstention.

    What it gives is worked out once for each tape that it is asked about, and kept.
    """

    name: str
    forecasts: Callable[[Steps], Floats]
    _known: dict[int, tuple[Steps, Floats]] = field(default_factory=dict, repr=False)

    def table(self, tape: Steps) -> Floats:
        """Return all that it says on a tape, [T, 3]."""
        known = self._known.get(id(tape))
        if known is None:
            known = self._known[id(tape)] = (tape, self.forecasts(tape))
        return known[1]

    def entry(self, tape: Any, index: int) -> TallyEntry | None:
        """Return its entry for a step; None when it has nothing to say."""
        down, flat, up = self.table(tape)[index].tolist()
        return None if math.isnan(up) else entry_of(self.name, (down, flat, up))


def leak() -> Voter:
    """Return one who sees the return to the next step, its size too: the positive control."""
    return Voter("leak", lambda tape: _leaning(next_returns(tape)))


def permuted_leak(seed: int) -> Voter:
    """Return one who sees the return of another step, drawn without putting back: the negative control.

    Returns are demeaned before, so that it does not tell the tape's drift either. What is traded must have none of its
    own to be a control: a drift can be earned by holding, without any leak.
    """

    def forecasts(tape: Steps) -> Floats:
        returns = next_returns(tape)
        real = np.flatnonzero(~np.isnan(returns))
        mixed = returns.copy()
        if len(real):
            demeaned = returns[real] - returns[real].mean()
            mixed[real] = _draws(seed).permutation(demeaned)
        return _leaning(mixed)

    return Voter("leak", forecasts)


def _leaning(returns: Floats) -> Floats:
    """Return forecasts that tell sign and size: the normal's share below a return in units of their deviation."""
    real = returns[~np.isnan(returns)]
    deviation = float(np.sqrt((real**2).mean())) if len(real) else 0.0
    scaled = returns / deviation if deviation > 0 else returns
    up = np.array([math.nan if math.isnan(value) else _NORMAL.cdf(value) for value in scaled.tolist()])
    return np.stack(((1 - _FLAT) * (1 - up), np.full(len(up), _FLAT), (1 - _FLAT) * up), axis=1)


def noisy_oracle(auc: float, seed: int) -> Voter:
    """Return one whose votes tell rises from falls with this area under the curve, for ``auc`` in [0.5, 1).

    It sees the outcome behind normal noise, and says what that makes of the base rate so far, by Bayes: it is as well
    calibrated as one can be. Ballots that overlap share noise as they share what happens; otherwise a few votes in a
    row would tell what no single one does.
    """
    assert 0.5 <= auc < 1
    shift = _NORMAL.inv_cdf(auc) / math.sqrt(2)

    def forecasts(tape: Steps) -> Floats:
        ends = ends_of(tape)
        seen = shift * ends.outcomes + _shared_noise(len(ends.outcomes), ends.overlap, seed)
        sides = np.array([-1.0, 0.0, 1.0])
        likely = base_rates(ends) * np.exp(shift * sides * seen[:, None] - (shift * sides) ** 2 / 2)
        likely[ends.known == len(ends.outcomes)] = np.nan
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))

    return Voter(f"oracle {auc:g}", forecasts)


def _draws(seed: int) -> np.random.Generator:
    """Draws of the voters' own: one who drew what a market of the same seed was made of would know its future."""
    return np.random.default_rng((seed, _VOTERS))


def _shared_noise(steps: int, overlap: int, seed: int) -> Floats:
    drawn = _draws(seed).standard_normal(steps + overlap - 1)
    return np.convolve(drawn, np.full(overlap, 1 / math.sqrt(overlap)), mode="valid")


def base_rate_voter() -> Voter:
    """Return one who knows how often it went up and down so far and nothing else: the useless expert."""
    return Voter("base rate", lambda tape: base_rates(ends_of(tape)))


def auc_of(forecasts: Floats, outcomes: npt.NDArray[np.int64]) -> float:
    """Return how often a rise was called likelier than a fall was, by log odds of up against down, ties half.

    ``forecasts`` [T, 3] of the steps with these outcomes (-1, 0, +1); the flat ones do not count. The rank sum of Mann
    and Whitney over the number of pairs; NaN without a rise or a fall.
    """
    lean = np.log(forecasts[:, 2] / forecasts[:, 0])
    rises, falls = lean[outcomes > 0], np.sort(lean[outcomes < 0])
    if not len(rises) or not len(falls):
        return math.nan
    below, upto = np.searchsorted(falls, rises), np.searchsorted(falls, rises, side="right")
    return float((below + upto).sum() / 2 / (len(rises) * len(falls)))
