"""Increments of an instrument that no settings name: guessed from the first records, and marked as guessed."""

import math
from decimal import Decimal
from itertools import islice
from typing import Final

from infra.feeds.capture import Capture
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quote, Session, Trade, VenueBar
from schemas.values import NS_PER_S, UNITS_PER_ONE

_RECORDS_LOOKED_AT: Final = 5_000
_QUANTITY_MAX: Final = 10**6 * UNITS_PER_ONE


def infer_increments(capture: Capture, name: str) -> InstrumentDefined:
    """Return a definition whose tick and lot are the greatest common divisors of what the first records show.

    Fees are 10 bp a side, the grid 1 s, the horizons 1, 10 and 60 s; nobody may sell it short.
    """
    tick, lot = 0, 0
    for record in islice(capture.records(), _RECORDS_LOOKED_AT):
        for event in record.events:
            if event.key == name:
                prices, quantities = _numbers(event)
                tick, lot = math.gcd(tick, *prices), math.gcd(lot, *quantities)
    venue, symbol = name.split(":", 1)
    return InstrumentDefined(
        key=name,
        event_time_ns=0,
        available_at_ns=0,
        venue=venue,
        symbol=symbol,
        tick_size=tick or 1,
        lot_size=lot or UNITS_PER_ONE,
        quantity_min=lot or UNITS_PER_ONE,
        quantity_max=_QUANTITY_MAX,
        notional_min=Decimal(0),
        multiplier=Decimal(1),
        inverse=False,
        base_currency=symbol,
        quote_currency="USD",
        maker_fee_rate=Decimal("0.001"),
        taker_fee_rate=Decimal("0.001"),
        funding_rate=Decimal(0),
        funding_interval_ns=0,
        shortable=False,
        session=Session.CONTINUOUS,
        grid_ns=NS_PER_S,
        horizons_ns=(NS_PER_S, 10 * NS_PER_S, 60 * NS_PER_S),
        inferred=True,
    )


def _numbers(event: Event) -> tuple[list[int], list[int]]:
    if isinstance(event, Trade):
        return [event.price], [event.quantity or 0]
    if isinstance(event, Quote):
        prices = [price for price in (event.bid_price, event.ask_price) if price is not None]
        return prices, [quantity or 0 for quantity in (event.bid_quantity, event.ask_quantity)]
    if isinstance(event, DepthUpdate | BookSnapshot):
        return [*event.bid_prices, *event.ask_prices], [*event.bid_quantities, *event.ask_quantities]
    if isinstance(event, VenueBar):
        return [event.open_price, event.high_price, event.low_price, event.close_price], [event.volume or 0]
    return [], []
