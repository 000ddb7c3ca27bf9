"""What an instrument must be like, guessed from the first records of a capture that the settings do not know.

The increments are the greatest common divisors of what was seen, so they can only be too coarse where the sample is
poor, never finer than what the venue printed. All else is a stated, cautious default: it is said to be inferred.
"""

import itertools
import math
from decimal import Decimal
from typing import Final

from infra.feeds import FeedFailed
from infra.feeds.capture import Capture
from infra.feeds.lean import EQUITY, FX
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quote, Session, Trade, VenueBar
from schemas.values import NS_PER_S, UNITS_PER_ONE

SAMPLE_RECORDS: Final = 20_000
DEFAULT_LOT: Final = UNITS_PER_ONE
"""Lot where the venue gives no sizes: one whole unit."""
DEFAULT_LOTS_MAX: Final = 1_000_000_000
DEFAULT_FEE_RATE: Final = Decimal("0.001")
"""Fee of either side: what a retail client of a dear venue pays."""
DEFAULT_GRID_NS: Final = NS_PER_S
DEFAULT_HORIZONS_NS: Final = (NS_PER_S, 10 * NS_PER_S, 60 * NS_PER_S)
_QUOTE_CURRENCIES: Final = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "USD")
_SESSIONS: Final = {EQUITY: Session.US_EQUITY, FX: Session.FX}


def infer_increments(
    capture: Capture,
    name: str,
    grid_ns: int = DEFAULT_GRID_NS,
    horizons_ns: tuple[int, ...] = DEFAULT_HORIZONS_NS,
) -> InstrumentDefined:
    """Return a definition of ``name`` from the first records of each of its files in the capture.

    Fees are 10 bp a side, no funding, no shorting, no least notional; the lot is one unit where no sizes come.
    Raises FeedFailed when the files cannot be read or no price comes in the sample.
    """
    tick, lot = 0, 0
    for recording in capture.recordings:
        # Each file for itself: in a merged capture the trades may begin long after the quotes.
        if name in recording.instruments:
            for record in itertools.islice(Capture([recording]).records(), SAMPLE_RECORDS):
                for event in record.events:
                    if event.key == name:
                        prices, quantities = _numbers(event)
                        tick = math.gcd(tick, *(price for price in prices if price is not None))
                        lot = math.gcd(lot, *(quantity for quantity in quantities if quantity is not None))
    if tick == 0:
        raise FeedFailed(f"The first {SAMPLE_RECORDS} records give no price for {name}: define it in the settings.")
    return _definition(name, (tick, lot or DEFAULT_LOT), grid_ns, horizons_ns)


def _definition(
    name: str, increments: tuple[int, int], grid_ns: int, horizons_ns: tuple[int, ...]
) -> InstrumentDefined:
    venue, _, symbol = name.partition(":")
    base, quote = _currencies(venue, symbol)
    tick, lot = increments
    return InstrumentDefined(
        key=name,
        event_time_ns=0,
        available_at_ns=0,
        venue=venue,
        symbol=symbol,
        tick_size=tick,
        lot_size=lot,
        quantity_min=lot,
        quantity_max=lot * min(DEFAULT_LOTS_MAX, (2**63 - 1) // lot),
        notional_min=Decimal(0),
        multiplier=Decimal(1),
        inverse=False,
        base_currency=base,
        quote_currency=quote,
        maker_fee_rate=DEFAULT_FEE_RATE,
        taker_fee_rate=DEFAULT_FEE_RATE,
        funding_rate=Decimal(0),
        funding_interval_ns=0,
        shortable=False,
        session=_SESSIONS.get(venue, Session.CONTINUOUS),
        grid_ns=grid_ns,
        horizons_ns=horizons_ns,
        inferred=True,
    )


def _numbers(event: Event) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    match event:
        case Quote():
            return (event.bid_price, event.ask_price), (event.bid_quantity, event.ask_quantity)
        case Trade():
            return (event.price,), (event.quantity,)
        case VenueBar():
            return (event.open_price, event.high_price, event.low_price, event.close_price), (event.volume,)
        case DepthUpdate() | BookSnapshot():
            return event.bid_prices + event.ask_prices, event.bid_quantities + event.ask_quantities
        case _:
            return (), ()


def _currencies(venue: str, symbol: str) -> tuple[str, str]:
    """Return base and quote currency: a share is its own base and is paid in USD."""
    if venue != EQUITY:
        for quote in _QUOTE_CURRENCIES:
            if symbol.endswith(quote) and len(symbol) > len(quote):
                return symbol.removesuffix(quote), quote
    return symbol, "USD"
