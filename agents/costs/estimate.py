"""What the next trade is likely to cost, learnt from the fills of the last: one small state per instrument.

Each fill tells three things, as fractions of the decision's mid D:

    slip    s (p - D) / D        delay and spread together: what the price was worse than the mid decided on
    excess  slip - quoted half-spread at the decision
    fee     fee / (D x quantity)

and, once a valuation comes that lies the horizon after it, how far the mid has gone its way: move = s (H - D) / D.

The estimate of excess and fee is a mean with forgetting, shrunk to what is known without any fill:

    estimate = (PRIOR_FILLS x prior + sum of w x) / (PRIOR_FILLS + sum of w)

where w halves every HALF_LIFE_FILLS fills; the prior of the excess is 0 (the quoted half-spread is the cost), that of
the fee the taker's rate. The impact coefficient k is the least-squares slope through the origin of move on the root
of the notional, shrunk to 0 in the same way: k = sum of w move r / (sum of w r r + PRIOR_FILLS x mean of r r).

One way costs max(0, half-spread + excess) + fee. Impact is not added to it: what was paid for it is in the price, hence
in the excess, and what the mid did afterwards also holds whatever the decision foresaw. It tells how the excess would
grow with size.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from schemas.values import NS_PER_S

PRIOR_FILLS: Final = 20.0
HALF_LIFE_FILLS: Final = 200.0
HORIZON_NS: Final = 10 * NS_PER_S
PENDING_MAX: Final = 256
_DECAY: Final = 0.5 ** (1.0 / HALF_LIFE_FILLS)


class CostPrior(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is believed before the first fill, as fractions of the mid, and after how many fills' worth of evidence."""

    excess: float = 0.0
    fee: float = 0.0
    impact_coefficient: float = 0.0
    fills: float = PRIOR_FILLS


class FillCost(NamedTuple):
    """What one fill told: fractions of the decision's mid, and the root of its notional. ``excess`` None: not known."""

    excess: float | None
    fee: float
    root_notional: float


class PendingMove(msgspec.Struct):
    """A fill whose impact is not known yet. ``mid`` is the decision's, in units of 1e-8."""

    due_ns: int
    sign: int
    mid: int
    root_notional: float


class CostState(msgspec.Struct):
    """Sums with forgetting: weights, and weights times what was seen."""

    fills: int = 0
    fee_weight: float = 0.0
    fee_sum: float = 0.0
    excess_weight: float = 0.0
    excess_sum: float = 0.0
    move_weight: float = 0.0
    move_sum: float = 0.0
    square_sum: float = 0.0
    pending: list[PendingMove] = []


class CostEstimate(NamedTuple):
    """The estimate for one instrument: fractions of the mid, ``impact_coefficient`` per root of the notional."""

    excess: float
    fee: float
    impact_coefficient: float
    fills: int

    def one_way(self, quoted_half_spread: float) -> float:
        """Return what a trade costs one way, as a fraction of the mid."""
        return max(0.0, quoted_half_spread + self.excess) + self.fee


def observe_fill(state: CostState, seen: FillCost) -> None:
    """Take what a fill told."""
    state.fills += 1
    state.fee_weight = state.fee_weight * _DECAY + 1.0
    state.fee_sum = state.fee_sum * _DECAY + seen.fee
    if seen.excess is not None:
        state.excess_weight = state.excess_weight * _DECAY + 1.0
        state.excess_sum = state.excess_sum * _DECAY + seen.excess


def await_move(state: CostState, pending: PendingMove) -> None:
    """Remember a fill until its horizon has come; of too many the oldest are forgotten."""
    state.pending.append(pending)
    del state.pending[:-PENDING_MAX]


def observe_mid(state: CostState, mid: int, time_ns: int) -> bool:
    """Take a valuation at ``time_ns``: it closes what fell due at or before it. Return whether it closed any.

    One that comes more than a horizon late says nothing of that fill any more.
    """
    due = [item for item in state.pending if item.due_ns <= time_ns]
    if not due:
        return False
    state.pending = [item for item in state.pending if item.due_ns > time_ns]
    for item in due:
        if time_ns - item.due_ns <= HORIZON_NS:
            observe_move(state, item.sign * (mid - item.mid) / item.mid, item.root_notional)
    return True


def observe_move(state: CostState, move: float, root_notional: float) -> None:
    """Take how far the mid went a fill's way, as a fraction of it."""
    state.move_weight = state.move_weight * _DECAY + 1.0
    state.move_sum = state.move_sum * _DECAY + move * root_notional
    state.square_sum = state.square_sum * _DECAY + root_notional * root_notional


def estimate(state: CostState, prior: CostPrior) -> CostEstimate:
    """Return what is to be expected now; with no fill at all exactly the prior."""
    impact = prior.impact_coefficient
    if state.square_sum > 0.0:
        ridge = prior.fills * state.square_sum / state.move_weight
        impact = (state.move_sum + ridge * prior.impact_coefficient) / (state.square_sum + ridge)
    return CostEstimate(
        excess=_shrunk(prior.excess, prior.fills, state.excess_sum, state.excess_weight),
        fee=_shrunk(prior.fee, prior.fills, state.fee_sum, state.fee_weight),
        impact_coefficient=impact,
        fills=state.fills,
    )


def fitted(fills: Sequence[FillCost], moves: Sequence[tuple[float, float]], prior: CostPrior) -> CostEstimate:
    """Return the estimate of a whole history: ``moves`` are (move, root of the notional), both oldest first."""
    state = CostState()
    for seen in fills:
        observe_fill(state, seen)
    for move, root_notional in moves:
        observe_move(state, move, root_notional)
    return estimate(state, prior)


def _shrunk(prior: float, prior_fills: float, total: float, weight: float) -> float:
    evidence = prior_fills + weight
    return prior if evidence <= 0.0 else (prior_fills * prior + total) / evidence
