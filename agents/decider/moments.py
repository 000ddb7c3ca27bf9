"""The running moments of a line's net returns, as the decider sees them.

A learned policy's reward is measured in them (``agents.reward.shaping``), so it must see them to know what a step is
worth. A net return is the change of the line's profit and loss, after fees and funding, from one decision to the next,
as a share of its budget. It is taken from the valuations that have come by then: one that comes late is part of the
next return, and none is lost or counted twice.
"""

from agents.decider.config import StrategyConfig
from agents.decider.state import LineState, ShadowLine
from agents.reward.shaping import Moments, moved
from schemas.orders import AccountMark


def take_gain(line: LineState, mark: AccountMark, strategy: StrategyConfig) -> None:
    """Take what the line has gained by a valuation; without a budget nothing is known of it.

    A valuation tells profit, loss and fees since the beginning, but of funding only what fell due at it.
    """
    if not strategy.budget:
        return
    line.funding += mark.funding
    net = mark.realised_pnl + mark.unrealised_pnl - mark.fees - line.funding
    line.gained = float(net / strategy.budget)


def moments_now(line: LineState) -> Moments | None:
    """Return the moments with the return since the last decision; None before the first valuation."""
    if line.gained is None:
        return None
    return line.moments if line.counted is None else moved(line.moments, line.gained - line.counted)


def count_return(line: LineState) -> None:
    """Close the return at a decision: the next begins here."""
    line.moments = moments_now(line) or line.moments
    line.counted = line.gained


def take_paper_gain(line: ShadowLine, mid: int | None) -> None:
    """Take what the target of a line on paper has earned by a tally's mid, as ``agents.release.paper`` reckons it.

    So a model in shadow sees moments as it will once it acts; the line begins with none and gains from its first mid.
    """
    if not mid:
        return
    moved_by = 0.0 if line.mid is None else mid / line.mid - 1.0
    line.gained = (line.gained or 0.0) + line.target * moved_by
    line.mid = mid


def pay_on_paper(line: ShadowLine, target: float, one_way: float | None) -> None:
    """Take off what going to another target is expected to cost; nothing is paid where nothing could be traded."""
    if line.gained is not None and one_way is not None:
        line.gained -= one_way * abs(target - line.target)
