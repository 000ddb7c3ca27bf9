"""Labels that look ahead as far as they must, and splits under which nothing of that leaks into a test.

Triple barriers, uniqueness and purging follow Lopez de Prado, Advances in Financial Machine Learning (2018), 3.4, 4.4
and 7.4. A label takes time to come about; labels whose times overlap tell partly the same thing, and a label that
overlaps the time of a test has seen it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Touches:
    """By sample: +1, -1 or 0 for the barrier that ended it, when that was (ns), and whether it is known at all."""

    sides: Integers
    ended_ns: Integers
    known: Booleans


def triple_barrier(
    path: tuple[Integers, Floats], starts_ns: Integers, mids: Floats, widths: Floats, horizon_ns: int
) -> Touches:
    """Return which barrier is touched first: mid + width (+1), mid - width (-1), or the end of the horizon (0).

    ``path`` holds the times (ns, rising) and mids of the market, NaN where it had none. What the path does not cover
    to the end of the horizon, or only with a hole, is not known, unless a barrier is touched before.
    """
    times_ns, prices = path
    sides = np.zeros(len(starts_ns), dtype=np.int64)
    ended_ns = starts_ns + horizon_ns
    known = ended_ns <= times_ns[-1]
    begins = np.searchsorted(times_ns, starts_ns, side="right")
    ends = np.searchsorted(times_ns, ended_ns, side="right")
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        moves = prices[begin:end] - mids[number]
        holes = np.flatnonzero(np.isnan(moves))
        seen = moves[: holes[0]] if len(holes) else moves
        touched = np.flatnonzero(np.abs(seen) >= widths[number])
        if len(touched):
            sides[number] = 1 if seen[touched[0]] > 0 else -1
            ended_ns[number] = times_ns[begin + touched[0]]
            known[number] = True
        elif len(holes):
            known[number] = False
    return Touches(sides, ended_ns, known)


def uniqueness(starts_ns: Integers, ended_ns: Integers) -> Floats:
    """Return for each label the mean of 1 / (labels alive) over the starts that it lives through, its own included.

    ``starts_ns`` rise strictly: the labels of one instrument.
    """
    own = np.arange(len(starts_ns))
    past = np.maximum(np.searchsorted(starts_ns, ended_ns, side="left"), own + 1)
    change = np.zeros(len(starts_ns) + 1)
    np.add.at(change, own, 1)
    np.add.at(change, past, -1)
    shares = np.concatenate(([0.0], np.cumsum(1 / np.cumsum(change)[:-1])))
    found: Floats = (shares[past] - shares[own]) / (past - own)
    return found


def purged_folds(
    tapes: Integers, starts_ns: Integers, ended_ns: Integers, folds: int, embargo_ns: int
) -> Iterator[tuple[Booleans, Booleans]]:
    """Yield (train, test) masks: each fold tests one stretch of every tape, and trains on what cannot have seen it.

    Dropped from training: labels that live into the test's stretch, and those that start less than the embargo after
    the last label of the test has ended. Raises ValueError when the embargo is shorter than a label may live.
    """
    if (ended_ns - starts_ns).max() > embargo_ns:
        raise ValueError("the embargo is shorter than the longest label")
    for fold in range(folds):
        test = np.zeros(len(tapes), dtype=np.bool_)
        train = np.zeros(len(tapes), dtype=np.bool_)
        for tape in np.unique(tapes):
            mine = np.flatnonzero(tapes == tape)
            part = mine[len(mine) * fold // folds : len(mine) * (fold + 1) // folds]
            test[part] = True
            rest = np.setdiff1d(mine, part)
            if not len(part):
                train[rest] = True
                continue
            before = ended_ns[rest] <= starts_ns[part].min()
            after = starts_ns[rest] > ended_ns[part].max() + embargo_ns
            train[rest[before | after]] = True
        yield train, test
