"""What the decider learns of costs: from its own account events alone, so that no order of two topics matters."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from agents.costs.estimate import (
    HORIZON_NS,
    CostEstimate,
    CostPrior,
    CostState,
    FillCost,
    PendingMove,
    await_move,
    estimate,
    observe_fill,
    observe_mid,
)
from agents.stage import ShardState
from schemas.market import InstrumentDefined
from schemas.orders import AccountMark, Fill
from schemas.values import notional, to_decimal

_PREFIX: Final = "cost/"


def is_cost_key(key: str) -> bool:
    """Tell whether a ``CostState`` is kept under this key."""
    return key.startswith(_PREFIX)


def take_fill(state: ShardState, fill: Fill, instrument: InstrumentDefined, half_spread: float | None) -> None:
    """Learn from a fill; ``half_spread`` is what was quoted at its decision, None when that is not known any more.

    Its slippage is against the decision's mid, so that mid follows from it. A fee in a third currency, or a fill
    without a mid above 0, tells nothing.
    """
    sign, quantity = fill.side.sign, Decimal(fill.quantity)
    moved = round(fill.slippage.scaleb(16) / (sign * quantity * instrument.multiplier))
    mid = fill.price - moved
    fee = _in_quote(fill, instrument)
    if mid <= 0 or fee is None:
        return
    value = float(notional(mid, fill.quantity, instrument.multiplier))
    slip = sign * moved / mid
    known = _state(state, fill.instrument)
    root = math.sqrt(value)
    observe_fill(known, FillCost(None if half_spread is None else slip - half_spread, float(fee) / value, root))
    await_move(known, PendingMove(fill.event_time_ns + HORIZON_NS, sign, mid, root))
    state[_PREFIX + fill.instrument] = known


def take_valuation(state: ShardState, mark: AccountMark) -> None:
    """Close what fell due by this valuation's grid time."""
    known: CostState | None = state.get(_PREFIX + mark.instrument)
    if known is not None and mark.mid is not None and observe_mid(known, mark.mid, mark.grid_time_ns):
        state[_PREFIX + mark.instrument] = known


def estimated(state: ShardState, instrument: InstrumentDefined, priors: Mapping[str, CostPrior]) -> CostEstimate:
    """Return what trading the instrument is expected to cost; with no fill yet what is believed beforehand."""
    prior = priors.get(instrument.key) or CostPrior(fee=float(instrument.taker_fee_rate))
    return estimate(_state(state, instrument.key), prior)


def _state(state: ShardState, instrument: str) -> CostState:
    known: CostState | None = state.get(_PREFIX + instrument)
    return CostState() if known is None else known


def _in_quote(fill: Fill, instrument: InstrumentDefined) -> Decimal | None:
    if fill.fee_currency == instrument.quote_currency or not fill.fee:
        return fill.fee
    return fill.fee * to_decimal(fill.price) if fill.fee_currency == instrument.base_currency else None
