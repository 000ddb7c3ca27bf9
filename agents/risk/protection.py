"""Protecting what a strategy holds: a stop that waits at the venue, and a profit that is taken when it is there.

Risk gives the orders, in answer to what execution says, and each passes the same gate as any other. Of the two legs of
a bracket only one is ever at the venue: the stop, which therefore holds when nothing of us is alive; when the market
stands at the profit, the stop is cancelled, and once it is known to be over the profit is taken, by what fills at once.
So no sequence of fills, triggers and cancels closes more than there is. What a venue fills after the end of an order
all the same is taken back.
"""

from collections.abc import Sequence
from typing import Final

from agents.limits.working import WorkingOrder
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.cover import Cover, cover_of
from agents.risk.legs import LineCase, cancel_legs, note_failure, place_leg
from agents.risk.levels import effective_level
from agents.risk.state import LEVELS_KEY, AccountRisk, Protection, account_key, line_key
from agents.risk.targets import answer, sized_by, unpermitted
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import Decision
from schemas.event import Event
from schemas.orders import ExecType, OrderEvent, OrderStatus, Position
from schemas.values import Leg, Level, OrderType

_FILLED_KEPT: Final = 64
_NEVER_WORKED: Final = (OrderStatus.REJECTED, OrderStatus.DENIED, OrderStatus.NOT_SENT)
_ENDED_EARLY: Final = (OrderStatus.CANCELED, OrderStatus.EXPIRED)


def take_decision(state: ShardState, config: RiskConfig, decision: Decision) -> Sequence[Event]:
    """Return what a target comes to. One that the legs stand in the way of waits until they are known to be over."""
    strategy = config.strategies.get(decision.strategy)
    if strategy is None or strategy.account != decision.account:
        return (unpermitted(state, config, decision),)
    account: AccountRisk = state[account_key(strategy.account)]
    kept = account.protections.get(line_key(decision.strategy, decision.instrument))
    if kept is None:
        return answer(state, config, decision, strategy)
    waits = _must_wait(state, config, decision, cover_of(account.exposure, decision.strategy, decision.instrument))
    kept.waiting = decision if waits else None
    state[account_key(strategy.account)] = account
    events = NO_EVENTS if waits else answer(state, config, decision, strategy)
    return (*events, *protect(state, config, strategy, decision.instrument))


def _must_wait(state: ShardState, config: RiskConfig, decision: Decision, cover: Cover) -> bool:
    """Return whether legs keep an order from being as large as its target wants it, and it may leave at all."""
    level, _ = effective_level(state, decision.account, decision.strategy, decision.instrument)
    if not cover.legs or level is Level.HALTED or state[LEVELS_KEY].now_ns > decision.expires_at_ns:
        return False
    return sized_by(state, config, decision, cover.line) != sized_by(state, config, decision, cover.without_legs)


def take_order_event(state: ShardState, config: RiskConfig, event: OrderEvent) -> Sequence[Event]:
    """Take what execution says of an order, and protect its line anew once an order of it is over.

    After a trade the Position that follows tells the entry price; it is waited for.
    """
    account: AccountRisk = state[account_key(event.account)]
    known = account.exposure.working.get(event.order_id)
    account.exposure.apply_order_event(event)
    state[account_key(event.account)] = account
    strategy = config.strategies.get(event.strategy)
    if strategy is None:
        return NO_EVENTS
    line = line_key(event.strategy, event.instrument)
    kept = account.protections.get(line)
    traded = event.exec_type is ExecType.TRADE
    if kept is None and (event.leg is not None or (traded and strategy.protection is not None)):
        kept = account.protections[line] = Protection()
    if kept is None:
        return NO_EVENTS
    if event.leg is not None:
        _take_leg(kept, event, known, state[LEVELS_KEY].now_ns)
    elif traded and event.side.sign * event.position_after > 0:
        kept.parent_order_id, kept.decision_id = event.order_id, event.decision_id
    return protect(state, config, strategy, event.instrument) if event.final and not traded else NO_EVENTS


def _take_leg(kept: Protection, event: OrderEvent, known: WorkingOrder | None, now_ns: int) -> None:
    """Note what a leg has filled, what of that went beyond the position, and whether it came to nothing."""
    traded = max(0, event.filled_quantity - kept.filled.get(event.order_id, 0))
    if traded:
        kept.filled.pop(event.order_id, None)
        kept.filled[event.order_id] = event.filled_quantity
        while len(kept.filled) > _FILLED_KEPT:
            del kept.filled[next(iter(kept.filled))]
        kept.failures = 0
        beyond = traded if event.leg is Leg.OVERFILL else min(traded, max(0, event.side.sign * event.position_after))
        kept.overfill -= event.side.sign * beyond
    asked = known is not None and known.cancelling
    early = event.status in _ENDED_EARLY and event.order_type is not OrderType.LIMIT and not asked
    if event.status is OrderStatus.REJECTED:
        kept.rejections += 1
    if event.final and (event.status in _NEVER_WORKED or early):
        note_failure(kept, event.order_type, now_ns)


def take_position(state: ShardState, config: RiskConfig, event: Position) -> Sequence[Event]:
    """Take a position's entry price, and protect it."""
    account: AccountRisk = state[account_key(event.account)]
    account.exposure.apply_position(event)
    state[account_key(event.account)] = account
    strategy = config.strategies.get(event.strategy)
    return NO_EVENTS if strategy is None else protect(state, config, strategy, event.instrument)


def on_mark(state: ShardState, config: RiskConfig, instrument: str) -> Sequence[Event]:
    """Look after every line of an instrument that has a new mark."""
    events: list[Event] = []
    for strategy in config.strategies.values():
        account: AccountRisk = state[account_key(strategy.account)]
        kept = account.protections.get(line_key(strategy.name, instrument))
        if kept is None and strategy.protection is None:
            continue
        if kept is not None and kept.waiting is not None and state[LEVELS_KEY].now_ns > kept.waiting.expires_at_ns:
            # Too old to be answered; the decider asks again if it still wants it.
            kept.waiting = None
            state[account_key(strategy.account)] = account
        events += protect(state, config, strategy, instrument)
    return events


def protect(state: ShardState, config: RiskConfig, strategy: StrategyRisk, instrument: str) -> Sequence[Event]:
    """Bring the legs of a line in accord with its position: cancel what must go, order what is missing."""
    account: AccountRisk = state[account_key(strategy.account)]
    line = line_key(strategy.name, instrument)
    kept = account.protections.get(line)
    if kept is None:
        held = account.exposure.positions.get(strategy.name, {}).get(instrument, 0)
        if strategy.protection is None or not held:
            return NO_EVENTS
        kept = account.protections[line] = Protection()
    if line in account.flattening:
        return NO_EVENTS  # Everything is being closed, and the legs go with it.
    case = LineCase(state, config, strategy, instrument, account, kept)
    before = (kept.count, kept.overfill, kept.waiting)
    held = case.cover.held
    if kept.overfill * held >= 0:
        kept.overfill = 0
    if not held:
        kept.rejections = 0
    events: list[Event] = list(cancel_legs(case))
    if kept.waiting is not None and not case.cover.legs:
        decision, kept.waiting = kept.waiting, None
        events += answer(state, config, decision, strategy)
    if kept.waiting is None:
        events += place_leg(case)
    if events or before != (kept.count, kept.overfill, kept.waiting):
        case.save()
    return events
