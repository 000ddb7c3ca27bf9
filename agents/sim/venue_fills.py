"""What one execution does to the venue's own books: the order, the account that it belongs to, and its fee."""

from agents.sim.engine import Taken, VenueOrder
from agents.sim.venue_state import VenueAccount, VenueState, VenueTerms, settle_fee, settle_fill
from schemas.orders import OrderStatus, VenueFill
from schemas.values import Liquidity, money, notional


def book_fill(
    state: VenueState, terms: VenueTerms, order: VenueOrder, met: Taken, liquidity: Liquidity, time_ns: int
) -> VenueFill:
    """Book a quantity that an order has traded at a price, and return the fill as it is told."""
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
    assert order.filled_quantity <= order.quantity, "the engine filled more than was ordered"
    order.status = OrderStatus.FILLED if order.leaves_quantity == 0 else OrderStatus.PARTIALLY_FILLED
    return fill
