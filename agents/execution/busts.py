"""Taking a fill back that the venue has busted, or replaced by another: the books become as if it had never been.

Quantity, cash and fee are undone as they were booked. The realised result is not: later fills were priced against an
average cost of which this one was a part. So its line is gone through once more from just before it, without it, and
the difference is booked, in one entry that sums to 0. When a later fill has been forgotten since, that cannot be done:
then the fill is undone as a trade at its own price would undo it, which is said; all sums are the same, only what
counts as realised differs.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from agents.execution.fills import add_fee, slippage_of
from agents.execution.ledger import WIDE, TradeBooking, post, trade_entry
from agents.execution.moves import move, record_anomaly
from agents.execution.orders import BookedFill, OrderState, next_status
from agents.execution.positions import PositionState, apply_fill
from agents.execution.turn import Turn
from schemas.orders import ExecType, Fill, OrderStatus, Posting, VenueFill
from schemas.values import Side, notional

_FORGOTTEN = "at average cost, for later fills are forgotten"


class Undone(NamedTuple):
    """What was booked to take a fill back."""

    realised_pnl: Decimal
    postings: tuple[Posting, ...]
    exact: bool


def take_bust(turn: Turn, order: OrderState, fill_id: str, exec_type: ExecType, reason: str | None) -> None:
    """Take a fill back once. One that was never told of is remembered, lest it be booked when it comes after all."""
    booked = order.booked.get(fill_id)
    if fill_id in order.busted_early or (booked is not None and booked.busted):
        return
    if booked is None:
        order.busted_early.append(fill_id)
        record_anomaly(turn, order, exec_type, f"of fill {fill_id}, which is not known here")
        if not order.final:
            turn.ask(order)
        return
    undone = _undo(turn, order, booked)
    told = f"fill {fill_id} taken back" + (f": {reason}" if reason else "")
    _tell_order(turn, order, exec_type, told if undone.exact else f"{told} ({_FORGOTTEN})")
    _tell_fill(turn, order, fill_id, undone)
    if not order.final:
        # Only the venue knows whether what was filled works again.
        turn.ask(order)
    elif order.status is OrderStatus.FILLED:
        # Here it is over, and nobody waits for it: it must not go on working.
        turn.request_cancel(order)


def forbid(turn: Turn, order: OrderState, fill: VenueFill) -> None:
    """Count a fill as one that was and is no more: the venue tells of it only now, or told of its end before it."""
    if fill.fill_id in order.fill_ids:
        return
    order.fill_ids.append(fill.fill_id)
    if fill.fill_id not in order.busted_early:
        order.busted_early.append(fill.fill_id)
    order.busted_quantity += fill.quantity
    turn.save_order(order)


def _undo(turn: Turn, order: OrderState, booked: BookedFill) -> Undone:
    instrument = turn.terms(order)
    account = turn.account(order.account)
    position = turn.position(account, order.strategy, order.instrument)
    signed = -order.side.sign * booked.quantity
    later = _later(turn, order, booked)
    exact = len(later) == position.fills - booked.number
    if exact:
        realised = _without(turn, position, (order, booked), later, instrument.multiplier)
    else:
        realised = apply_fill(position, signed, booked.price, instrument.multiplier)
        position.fills += 1
    add_fee(position, instrument, booked.price, (-booked.fee, booked.fee_currency))
    booking = TradeBooking(
        signed_quantity=signed,
        notional=notional(booked.price, signed, instrument.multiplier),
        realised_pnl=realised,
        fee=-booked.fee,
        fee_currency=booked.fee_currency,
    )
    postings = trade_entry(instrument, order.strategy, booking)
    post(account.balances, postings)
    booked.busted = True
    order.filled_quantity -= booked.quantity
    order.busted_quantity += booked.quantity
    order.filled_notional = WIDE.subtract(
        order.filled_notional, Decimal(booked.price * booked.quantity).scaleb(-16, WIDE)
    )
    turn.save_account(order.account, account)
    turn.save_order(order)
    return Undone(realised, postings, exact)


def _later(turn: Turn, order: OrderState, booked: BookedFill) -> list[tuple[int, OrderState, BookedFill]]:
    """Return the fills of the order's line that were booked after one, in their order, as far as they are known."""
    found: list[tuple[int, OrderState, BookedFill]] = []
    for key in turn.state:
        if not key.startswith("order/"):
            continue
        other: OrderState = turn.state[key]
        if (other.account, other.strategy, other.instrument) == (order.account, order.strategy, order.instrument):
            found += [(fill.number, other, fill) for fill in other.booked.values() if fill.number > booked.number]
    return sorted(found, key=lambda item: item[0])


def _without(
    turn: Turn,
    position: PositionState,
    gone: tuple[OrderState, BookedFill],
    later: list[tuple[int, OrderState, BookedFill]],
    multiplier: Decimal,
) -> Decimal:
    """Bring a position to where it would be without a fill; return by how much the realised result changes."""
    order, booked = gone
    kept = [(other.side.sign * fill.quantity, fill.price) for _, other, fill in later if not fill.busted]
    with_it = _run(booked, [(order.side.sign * booked.quantity, booked.price), *kept], multiplier)
    assert (with_it.quantity, with_it.cost) == (position.quantity, position.cost), "the line's fills do not add up"
    without = PositionState(quantity=booked.held_before, cost=booked.cost_before)
    for _, other, fill in later:
        fill.held_before, fill.cost_before = without.quantity, without.cost
        turn.save_order(other)
        if not fill.busted:
            apply_fill(without, other.side.sign * fill.quantity, fill.price, multiplier)
    realised = WIDE.subtract(without.realised_pnl, with_it.realised_pnl)
    position.quantity, position.cost = without.quantity, without.cost
    position.realised_pnl = WIDE.add(position.realised_pnl, realised)
    return realised


def _run(begin: BookedFill, fills: Iterable[tuple[int, int]], multiplier: Decimal) -> PositionState:
    position = PositionState(quantity=begin.held_before, cost=begin.cost_before)
    for signed, price in fills:
        apply_fill(position, signed, price, multiplier)
    return position


def _tell_order(turn: Turn, order: OrderState, exec_type: ExecType, told: str) -> None:
    after = next_status(order, exec_type)
    if after is None:
        record_anomaly(turn, order, exec_type, told)
        return
    if after is not order.status:
        move(turn, order, after)
    turn.say_order(order, exec_type, told)


def _tell_fill(turn: Turn, order: OrderState, fill_id: str, undone: Undone) -> None:
    """Emit the Fill that reverses one, and the Position after it."""
    instrument = turn.terms(order)
    booked = order.booked[fill_id]
    position = turn.position(turn.account(order.account), order.strategy, order.instrument)
    turn.outputs.append(
        Fill(
            key=order.account,
            event_time_ns=turn.event.event_time_ns,
            available_at_ns=turn.at_ns,
            fill_id=f"{fill_id}/bust",
            order_id=order.order_id,
            venue_order_id=order.venue_order_id or "",
            decision_id=order.decision_id,
            account=order.account,
            strategy=order.strategy,
            instrument=order.instrument,
            side=Side.SELL if order.side is Side.BUY else Side.BUY,
            price=booked.price,
            quantity=booked.quantity,
            fee=-booked.fee,
            fee_currency=booked.fee_currency,
            liquidity=booked.liquidity,
            slippage=-slippage_of(order, booked.price, booked.quantity, instrument.multiplier),
            realised_pnl=undone.realised_pnl,
            position_after=position.quantity,
            postings=undone.postings,
            leg=order.leg,
            reverses=fill_id,
        )
    )
    turn.say_position(order, position, instrument.multiplier)
