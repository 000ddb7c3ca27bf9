"""What two paths of targets would have earned on the same market at the same costs: a model in shadow beside who acts.

Nobody's fills are taken: each target comes about at once, at the tally's mid plus what the decider expected a trade to
cost one way. So both sides pay by one rule, and neither gains by the size of its budget or the luck of a queue.

    net_t = target_t x (mid_t+1 - mid_t) / mid_t  -  one_way_t x |target_t - target_t-1|

as shares of the line's budget, both paths begun flat. The last decision of a line has no next mid and earns nothing.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Pair(NamedTuple):
    """Two targets for one tally of one line.

    ``mid`` in units of 1e-8 and ``one_way``, the expected cost as a fraction of it; with either None nothing could be
    traded, and the pair is passed over. ``at_ns`` orders the pairs of all lines.
    """

    line: str
    at_ns: int
    mid: int | None
    one_way: float | None
    incumbent: float
    challenger: float


class PaperResult(NamedTuple):
    """What both sides earned, decision by decision in the order of time: arrays [N], shares of the budget.

    ``differing`` is the share of decisions on which they did not want the same.
    """

    incumbent: Floats
    challenger: Floats
    differing: float

    @property
    def decisions(self) -> int:
        """N."""
        return len(self.incumbent)

    @property
    def differences(self) -> Floats:
        """The challenger's advantage at each decision."""
        return self.challenger - self.incumbent


class _Earned(NamedTuple):
    at_ns: int
    line: str
    incumbent: float
    challenger: float
    differs: bool


def paper_result(pairs: Iterable[Pair]) -> PaperResult:
    """Return what came of the pairs, given in any order."""
    lines: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.mid and pair.one_way is not None:
            lines.setdefault(pair.line, []).append(pair)
    earned = [item for line in lines.values() for item in _earned(sorted(line, key=_time))]
    earned.sort()
    incumbent = np.array([item.incumbent for item in earned], dtype=np.float64)
    challenger = np.array([item.challenger for item in earned], dtype=np.float64)
    differing = sum(item.differs for item in earned) / len(earned) if earned else 0.0
    return PaperResult(incumbent, challenger, differing)


def _time(pair: Pair) -> int:
    return pair.at_ns


def _earned(line: Sequence[Pair]) -> Iterable[_Earned]:
    held = (0.0, 0.0)
    for now, then in pairwise(line):
        assert now.mid is not None and then.mid is not None and now.one_way is not None
        move = (then.mid - now.mid) / now.mid
        wanted = (now.incumbent, now.challenger)
        one_way = now.one_way
        nets = [target * move - one_way * abs(target - before) for target, before in zip(wanted, held, strict=True)]
        held = wanted
        yield _Earned(now.at_ns, now.line, nets[0], nets[1], wanted[0] != wanted[1])
