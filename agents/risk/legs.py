"""The legs of one line: which must go, which is missing, and in what form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agents.limits.limit_set import LimitSet
from agents.limits.valuation import quote_value
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.cover import Cover, cover_of
from agents.risk.leg_prices import OrderForm, away, is_gained, is_lost, profit_price
from agents.risk.levels import effective_level
from agents.risk.orders import Intention, cancel_only, judge, to_cancel
from agents.risk.sizing import largest_quantity, toward_zero
from agents.risk.standing import limits_of
from agents.risk.state import (
    LEVELS_KEY,
    AccountRisk,
    InstrumentRisk,
    Protection,
    account_key,
    instrument_key,
    line_key,
)
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import OrderDenied
from schemas.event import Event, derive_id
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.values import NS_PER_S, Leg, Level, OrderType, TimeInForce

_RETRY_NS: Final = NS_PER_S
_DOUBLINGS_MAX: Final = 6
_FORGIVEN_NS: Final = 60 * NS_PER_S
_REJECTIONS_MAX: Final = 5
_PROFIT_EVERY_NS: Final = NS_PER_S


@dataclass(frozen=True, slots=True)
class LineCase:
    """One line and what is known of it: ``entry`` is the position's average price."""

    state: ShardState
    config: RiskConfig
    strategy: StrategyRisk
    instrument: str
    account: AccountRisk
    kept: Protection

    @property
    def now_ns(self) -> int:
        """*Now*."""
        now_ns: int = self.state[LEVELS_KEY].now_ns
        return now_ns

    @property
    def cover(self) -> Cover:
        """How the line is covered at this moment."""
        return cover_of(self.account.exposure, self.strategy.name, self.instrument)

    @property
    def entry(self) -> int | None:
        """The average price of the position."""
        return self.account.exposure.entry_prices.get(self.strategy.name, {}).get(self.instrument)

    @property
    def mark(self) -> MarketMark | None:
        """The newest mark that has a mid."""
        kept: InstrumentRisk | None = self.state.get(instrument_key(self.instrument))
        return None if kept is None or kept.mark is None or not kept.mark.mid else kept.mark

    @property
    def definition(self) -> InstrumentDefined | None:
        """The instrument's definition."""
        return self.config.instruments.get(self.instrument)

    @property
    def limits(self) -> LimitSet:
        """The account's limits."""
        return limits_of(self.state, self.config, self.strategy.account)

    def save(self) -> None:
        """Mark the account as changed."""
        self.state[account_key(self.strategy.account)] = self.account

    def intention(self, quantity: int, cancels: tuple[str, ...], form: OrderForm | None) -> Intention:
        """Return an intention of this line's protection, each under an id of its own."""
        kept, now_ns = self.kept, self.now_ns
        if not kept.decision_id:
            # The position was there before its protection was asked for: there is no order to cite.
            line = line_key(self.strategy.name, self.instrument)
            kept.decision_id = derive_id(f"{self.strategy.account}/{line}/{now_ns}", "protection", 0)
        kept.count += 1
        return Intention(
            decision_id=kept.decision_id,
            strategy=self.strategy,
            instrument=self.instrument,
            quantity=quantity,
            target=0.0,
            cancels=cancels,
            decided_at_ns=now_ns,
            expires_at_ns=now_ns + self.config.order_life_ns,
            ordinal=kept.count,
            name="protection",
            form=form,
        )


def note_failure(kept: Protection, order_type: OrderType, now_ns: int) -> None:
    """Count a leg that came to nothing: the next of that type is tried later and later."""
    kept.failures = 1 if now_ns - kept.failed_at_ns > _FORGIVEN_NS else kept.failures + 1
    kept.failed_at_ns, kept.failed_type = now_ns, order_type
    kept.next_try_ns = now_ns + (_RETRY_NS << min(kept.failures - 1, _DOUBLINGS_MAX))


def cancel_legs(case: LineCase) -> Sequence[Event]:
    """Cancel the legs that could trade too much, or that stand in the way of something else."""
    cancels = _to_go(case)
    return cancel_only(case.state, case.config, case.intention(0, cancels, None)) if cancels else NO_EVENTS


def _to_go(case: LineCase) -> tuple[str, ...]:
    cover = case.cover
    if case.kept.waiting is not None or case.strategy.protection is None:
        return cover.all_resting()
    return cover.misplaced() or (cover.waiting_stops() if _profit_due(case) else ()) or cover.crowded()


def _profit_due(case: LineCase) -> bool:
    """Return whether the market stands where the profit is to be taken, and it has not just been tried."""
    terms, definition, mark, entry = case.strategy.protection, case.definition, case.mark, case.entry
    held = case.cover.held
    if terms is None or terms.take_profit is None or not held or definition is None or mark is None or entry is None:
        return False
    target = profit_price(held, entry, terms.take_profit, definition.tick_size)
    return case.now_ns >= case.kept.next_profit_ns and is_gained(held, mark, target)


def place_leg(case: LineCase) -> Sequence[Event]:
    """Order the leg that is missing, if there is one and it may be tried now."""
    kept = case.kept
    level, _ = effective_level(case.state, case.strategy.account, case.strategy.name, case.instrument)
    form = None if level is Level.HALTED or _unsettled(case) else _missing(case)
    if form is None or (form.order_type is kept.failed_type and case.now_ns < kept.next_try_ns):
        return NO_EVENTS
    quantity = _sized(case, form)
    if quantity == 0:
        return NO_EVENTS
    if form.leg is Leg.TAKE_PROFIT:
        kept.next_profit_ns = case.now_ns + _PROFIT_EVERY_NS
    cancels = _adding(case) if form.order_type is OrderType.MARKET else ()
    events = judge(case.state, case.config, case.intention(quantity, cancels, form), reducing=True)
    if not any(isinstance(event, OrderDenied) for event in events):
        return events
    note_failure(kept, form.order_type, case.now_ns)
    # What cannot be had in this form may be had in another: a profit that is refused is stopped again.
    return (*events, *place_leg(case))


def _adding(case: LineCase) -> tuple[str, ...]:
    """Return the line's resting orders that would add to the position: what closes it at any price could meet them."""
    held, working = case.cover.held, case.account.exposure.working
    resting = to_cancel(working, case.strategy.name, case.instrument)
    return tuple(order_id for order_id in resting if working[order_id].side.sign * held > 0)


def _unsettled(case: LineCase) -> bool:
    """Return whether something is over in a moment: an order that takes and adds to the position, or a leg that goes.

    Each part of them would get a leg of its own. What the venue does not answer about is not waited for.
    """
    held = case.cover.held
    mine = [
        order
        for order in case.account.exposure.working.values()
        if order.strategy == case.strategy.name and order.instrument == case.instrument and not order.unknown
    ]
    entering = any(order.leg is None and not order.rests and order.side.sign * held > 0 for order in mine)
    return entering or any(order.leg is not None and order.cancelling for order in mine)


def _missing(case: LineCase) -> OrderForm | None:
    """Return the form of the leg that the line wants, None without a market or for what is not to be protected."""
    cover, mark, definition = case.cover, case.mark, case.definition
    if not cover.held or mark is None or mark.mid is None or definition is None:
        return None
    held, tick, parent = cover.held, definition.tick_size, case.kept.parent_order_id
    collar = case.limits.price_collar
    floor = away(held, mark.mid, collar, tick)
    if case.kept.overfill * held < 0:
        return OrderForm(OrderType.MARKET, TimeInForce.IOC, floor, Leg.OVERFILL, parent_order_id=parent)
    terms, entry = case.strategy.protection, case.entry
    if terms is None or entry is None:
        return None
    if _profit_due(case) and terms.take_profit is not None and not cover.standing:
        target = profit_price(held, entry, terms.take_profit, tick)
        price = max(target, floor) if held > 0 else min(target, floor)
        return OrderForm(OrderType.LIMIT, TimeInForce.IOC, price, Leg.TAKE_PROFIT, parent_order_id=parent)
    stop = away(held, entry, terms.stop_loss, tick)
    if is_lost(held, mark.mid, stop):
        return OrderForm(OrderType.MARKET, TimeInForce.IOC, floor, Leg.STOP_LOSS, parent_order_id=parent)
    kind = OrderType.STOP if terms.stop_limit is None else OrderType.STOP_LIMIT
    worst = away(held, stop, collar if terms.stop_limit is None else min(collar, terms.stop_limit), tick)
    return OrderForm(kind, TimeInForce.GTC, worst, Leg.STOP_LOSS, stop_price=stop, parent_order_id=parent)


def _sized(case: LineCase, form: OrderForm) -> int:
    """Return the signed quantity of a leg: what nothing else covers, 0 when that is too little for the venue."""
    cover, definition, mark = case.cover, case.definition, case.mark
    assert definition is not None and mark is not None and mark.mid is not None
    dearest = max(form.limit_price, form.stop_price or 0, mark.mid)
    # A spot venue may have less of the coin than was bought: it takes its fee from that. So it is asked for less.
    room = cover.room - cover.room * min(case.kept.rejections, _REJECTIONS_MAX) // 100
    size = min(room, largest_quantity(definition, dearest, case.limits))
    if form.leg is Leg.OVERFILL:
        size = min(size, abs(case.kept.overfill))
    size = toward_zero(size, definition.lot_size)
    if size < definition.quantity_min or quote_value(definition, form.limit_price, size) < definition.notional_min:
        return 0
    return -size if cover.held > 0 else size
