"""A target that is new to a resting order changes it where the venue can do that, instead of taking it out.

An order that is left in the book keeps its place there if it only becomes smaller, and there is no moment without it.
What must hold is what holds of sizing: if all that works on the side fills, the position is the target's, not beyond.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from agents.limits.amendment import may_change
from agents.limits.exposure import ExposureLine
from agents.limits.working import WorkingOrder
from agents.risk.config import AmendPower, RiskConfig, StrategyRisk
from agents.risk.orders import Intention, judge
from agents.risk.sizing import limit_price, toward_zero, wanted_position
from agents.risk.standing import limits_of
from agents.risk.state import AccountRisk, InstrumentRisk, account_key, instrument_key, line_key
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import Decision
from schemas.event import Event
from schemas.opinions import MarketMark
from schemas.values import Side


class Wanted(NamedTuple):
    """The signed position that a decision comes to, the line as it is, and the mark that it was sized by."""

    position: int
    line: ExposureLine
    mark: MarketMark


def wanted_of(state: ShardState, config: RiskConfig, decision: Decision, strategy: StrategyRisk) -> Wanted | None:
    """Return what a decision wants, or None when it cannot be told without an instrument or a mid."""
    instrument = config.instruments.get(decision.instrument)
    kept: InstrumentRisk | None = state.get(instrument_key(decision.instrument))
    if instrument is None or kept is None or kept.mark is None or kept.mark.mid is None or kept.mark.mid <= 0:
        return None
    rate = limits_of(state, config, strategy.account).rate(instrument.quote_currency)
    account: AccountRisk = state[account_key(strategy.account)]
    line = account.exposure.line(decision.strategy, decision.instrument)
    # Without a rate the order is sized as if it were 1; the value check then refuses it for the missing rate.
    wanted = wanted_position(decision.target, strategy.budget, kept.mark.mid, instrument, rate or Decimal(1))
    return Wanted(wanted, line, kept.mark)


def change_resting(
    state: ShardState, config: RiskConfig, decision: Decision, strategy: StrategyRisk
) -> Sequence[Event] | None:
    """Answer a decision by changing the one order that rests on its line, or by leaving it; None: it cannot be so."""
    power = config.amends.get(decision.instrument, AmendPower.NONE) if strategy.amend else AmendPower.NONE
    wanted = wanted_of(state, config, decision, strategy) if power is not AmendPower.NONE else None
    account: AccountRisk = state[account_key(strategy.account)]
    order = _only_one(account, decision)
    if wanted is None or order is None:
        return None
    instrument = config.instruments[decision.instrument]
    difference = wanted.position - wanted.line.position
    leaves = toward_zero(abs(difference), instrument.lot_size)
    limits = limits_of(state, config, strategy.account)
    price = limit_price(order.side, wanted.mark, instrument, strategy, limits)
    if leaves == 0 or (difference > 0) is not (order.side is Side.BUY) or price is None:
        return None
    if (leaves, price) == (order.leaves, order.limit_price):
        account.unchanged += 1
        state[account_key(strategy.account)] = account
        return NO_EVENTS
    if power is AmendPower.DOWN and (price != order.limit_price or leaves > order.leaves):
        return None
    intention = Intention(
        decision_id=decision.decision_id,
        strategy=strategy,
        instrument=decision.instrument,
        quantity=order.side.sign * (order.filled + leaves),
        target=decision.target,
        cancels=(),
        decided_at_ns=decision.available_at_ns,
        expires_at_ns=decision.expires_at_ns,
        amends=order,
    )
    return judge(state, config, intention, line_key(decision.strategy, decision.instrument) in account.flattening)


def _only_one(account: AccountRisk, decision: Decision) -> WorkingOrder | None:
    """Return the order that works on a decision's line if it is the only one, and can be changed."""
    found = [
        order
        for order in account.exposure.working.values()
        if (order.strategy, order.instrument) == (decision.strategy, decision.instrument) and order.leg is None
    ]
    return found[0] if len(found) == 1 and may_change(found[0]) else None
