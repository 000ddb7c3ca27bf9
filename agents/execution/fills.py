"""What a fill does to the position and to the books, and how it is told."""

from decimal import Decimal
from typing import NamedTuple

from agents.execution.ledger import WIDE, TradeBooking, post, trade_entry
from agents.execution.orders import OrderState
from agents.execution.positions import PositionState, apply_fill
from agents.execution.turn import Turn
from schemas.orders import Fill, Posting, VenueFill
from schemas.values import notional, to_decimal


class Booked(NamedTuple):
    """What was booked for one fill."""

    position: PositionState
    realised_pnl: Decimal
    fee_currency: str
    postings: tuple[Posting, ...]


def book_fill(turn: Turn, order: OrderState, fill: VenueFill) -> Booked:
    """Change order, position and ledger by a fill that is not booked yet."""
    instrument = turn.terms(order)
    account = turn.account(order.account)
    position = turn.position(account, order.strategy, order.instrument)
    signed = order.side.sign * fill.quantity
    realised = apply_fill(position, signed, fill.price, instrument.multiplier)
    currency = fill.fee_currency or instrument.quote_currency
    if currency == instrument.quote_currency:
        position.fees = WIDE.add(position.fees, fill.fee)
    elif currency == instrument.base_currency:
        position.fees = WIDE.add(position.fees, WIDE.multiply(fill.fee, to_decimal(fill.price)))
    booking = TradeBooking(
        signed_quantity=signed,
        notional=notional(fill.price, signed, instrument.multiplier),
        realised_pnl=realised,
        fee=fill.fee,
        fee_currency=currency,
    )
    postings = trade_entry(instrument, order.strategy, booking)
    post(account.balances, postings)
    order.fill_ids.append(fill.fill_id)
    order.filled_quantity += fill.quantity
    order.filled_notional = WIDE.add(order.filled_notional, Decimal(fill.price * fill.quantity).scaleb(-16))
    turn.save_account(order.account, account)
    return Booked(position, realised, currency, postings)


def say_fill(turn: Turn, order: OrderState, fill: VenueFill, booked: Booked) -> None:
    """Emit the Fill and the Position after it."""
    instrument = turn.terms(order)
    # What a stop costs is counted from where it was to act; how far the market went before was its purpose.
    moved = fill.price - (order.decision_mid if order.stop_price is None else order.stop_price)
    turn.outputs.append(
        Fill(
            key=order.account,
            event_time_ns=fill.event_time_ns,
            available_at_ns=turn.at_ns,
            fill_id=fill.fill_id,
            order_id=order.order_id,
            venue_order_id=order.venue_order_id or "",
            decision_id=order.decision_id,
            account=order.account,
            strategy=order.strategy,
            instrument=order.instrument,
            side=order.side,
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee,
            fee_currency=booked.fee_currency,
            liquidity=fill.liquidity,
            slippage=notional(moved, order.side.sign * fill.quantity, instrument.multiplier),
            realised_pnl=booked.realised_pnl,
            position_after=booked.position.quantity,
            postings=booked.postings,
            leg=order.leg,
        )
    )
    turn.say_position(order, booked.position, instrument.multiplier)
