"""What a fill does to the position and to the books, and how it is told."""

from decimal import Decimal
from typing import NamedTuple

from agents.execution.ledger import WIDE, TradeBooking, post, trade_entry
from agents.execution.orders import BookedFill, OrderState
from agents.execution.positions import PositionState, apply_fill
from agents.execution.turn import Turn
from schemas.market import InstrumentDefined
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
    held_before, cost_before = position.quantity, position.cost
    realised = apply_fill(position, signed, fill.price, instrument.multiplier)
    currency = fill.fee_currency or instrument.quote_currency
    add_fee(position, instrument, fill.price, (fill.fee, currency))
    booking = TradeBooking(
        signed_quantity=signed,
        notional=notional(fill.price, signed, instrument.multiplier),
        realised_pnl=realised,
        fee=fill.fee,
        fee_currency=currency,
    )
    postings = trade_entry(instrument, order.strategy, booking)
    post(account.balances, postings)
    position.fills += 1
    order.fill_ids.append(fill.fill_id)
    order.booked[fill.fill_id] = BookedFill(
        number=position.fills,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=currency,
        liquidity=fill.liquidity,
        held_before=held_before,
        cost_before=cost_before,
    )
    order.filled_quantity += fill.quantity
    order.filled_notional = WIDE.add(order.filled_notional, Decimal(fill.price * fill.quantity).scaleb(-16))
    turn.save_account(order.account, account)
    return Booked(position, realised, currency, postings)


def add_fee(position: PositionState, instrument: InstrumentDefined, price: int, fee: tuple[Decimal, str]) -> None:
    """Count a fee (amount, currency) towards a position, in its quote currency; one in a third coin is the ledger's."""
    amount, currency = fee
    if currency == instrument.quote_currency:
        position.fees = WIDE.add(position.fees, amount)
    elif currency == instrument.base_currency:
        position.fees = WIDE.add(position.fees, WIDE.multiply(amount, to_decimal(price)))


def slippage_of(order: OrderState, price: int, quantity: int, multiplier: Decimal) -> Decimal:
    """Return what a fill lost against the mid of its decision.

    What a stop costs is counted from where it was to act; how far the market went before was its purpose.
    """
    moved = price - (order.decision_mid if order.stop_price is None else order.stop_price)
    return notional(moved, order.side.sign * quantity, multiplier)


def say_fill(turn: Turn, order: OrderState, fill: VenueFill, booked: Booked) -> None:
    """Emit the Fill and the Position after it."""
    instrument = turn.terms(order)
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
            slippage=slippage_of(order, fill.price, fill.quantity, instrument.multiplier),
            realised_pnl=booked.realised_pnl,
            position_after=booked.position.quantity,
            postings=booked.postings,
            leg=order.leg,
        )
    )
    turn.say_position(order, booked.position, instrument.multiplier)
