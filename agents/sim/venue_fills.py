"""What one execution does to the venue's own books: the order, the account that it belongs to, and its fee."""

import msgspec

from agents.sim.engine import Taken, VenueOrder
from agents.sim.venue_state import VenueAccount, VenueState, VenueTerms, settle_fee, settle_fill
from schemas.orders import OrderStatus, VenueFill
from schemas.values import Liquidity, money, notional


def book_fill(
    books: tuple[VenueState, VenueTerms], order: VenueOrder, met: Taken, liquidity: Liquidity, time_ns: int
) -> VenueFill:
    """Book a quantity that an order has traded at a price, and return the fill as it is told."""
    state, terms = books
    instrument = terms.instruments[order.instrument]
    value = notional(met.price, order.side.sign * met.quantity, instrument.multiplier)
    taker = liquidity is Liquidity.TAKER
    fee = money(abs(value) * (instrument.taker_fee_rate if taker else instrument.maker_fee_rate))
    account = state.accounts.setdefault(order.account, VenueAccount())
    settle_fill(account, instrument, order.side.sign * met.quantity, value)
    settle_fee(account, instrument.quote_currency, fee)
    state.fill_number += 1
    fill = VenueFill(
        fill_id=f"{terms.name}-{state.fill_number}",
        price=met.price,
        quantity=met.quantity,
        fee=fee,
        fee_currency=instrument.quote_currency,
        liquidity=liquidity,
        event_time_ns=time_ns,
    )
    order.fills.append(fill)
    order.filled_quantity += met.quantity
    assert order.leaves_quantity >= 0, "the engine filled more than was ordered"
    order.status = OrderStatus.FILLED if order.leaves_quantity == 0 else OrderStatus.PARTIALLY_FILLED
    return fill


def take_back(state: VenueState, terms: VenueTerms, order: VenueOrder, fill_id: str) -> VenueFill | None:
    """Undo a fill as it was booked, and return it; None when that is done already. It reopens nothing."""
    place = next((at for at, fill in enumerate(order.fills) if fill.fill_id == fill_id), None)
    if place is None or order.fills[place].busted:
        return None
    fill, instrument = order.fills[place], terms.instruments[order.instrument]
    order.fills[place] = msgspec.structs.replace(fill, busted=True)
    signed = -order.side.sign * fill.quantity
    account = state.accounts[order.account]
    settle_fill(account, instrument, signed, notional(fill.price, signed, instrument.multiplier))
    settle_fee(account, fill.fee_currency, -fill.fee)
    order.filled_quantity -= fill.quantity
    order.busted_quantity += fill.quantity
    if order.status is OrderStatus.PARTIALLY_FILLED and not order.filled_quantity:
        order.status = OrderStatus.NEW
    return fill
