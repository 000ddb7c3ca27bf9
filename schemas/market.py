"""Events of ``tradermind.market.event.v1``: one ordered topic per partition of instruments.

Prices and quantities are integers in units of 1e-8. A side of a quote that the venue does not give is null.
"""

import enum
from decimal import Decimal

from schemas.event import Event
from schemas.values import Side


class Session(enum.StrEnum):
    """When an instrument trades."""

    CONTINUOUS = "CONTINUOUS"
    US_EQUITY = "US_EQUITY"
    FX = "FX"


class InstrumentDefined(Event, frozen=True, kw_only=True, gc=False):
    """What an instrument is. ``key`` is ``VENUE:SYMBOL``; increments are in units of 1e-8; rates are fractions.

    ``horizons_ns`` and ``grid_ns`` are the questions put to the experts. ``inferred`` says that the increments
    were guessed from the first records of a capture.
    """

    venue: str
    symbol: str
    tick_size: int
    lot_size: int
    quantity_min: int
    quantity_max: int
    notional_min: Decimal
    multiplier: Decimal
    inverse: bool
    base_currency: str
    quote_currency: str
    maker_fee_rate: Decimal
    taker_fee_rate: Decimal
    funding_rate: Decimal
    funding_interval_ns: int
    shortable: bool
    session: Session
    grid_ns: int
    horizons_ns: tuple[int, ...]
    inferred: bool = False


class BookSnapshot(Event, frozen=True, kw_only=True, gc=False):
    """A whole book at ``update_id``: bids best (highest) first, asks best (lowest) first, quantities above 0."""

    update_id: int
    bid_prices: tuple[int, ...]
    bid_quantities: tuple[int, ...]
    ask_prices: tuple[int, ...]
    ask_quantities: tuple[int, ...]


class DepthUpdate(Event, frozen=True, kw_only=True, gc=False):
    """Absolute quantities at changed prices; 0 removes the price. ``previous_update_id`` is the futures feed's pu."""

    first_update_id: int
    last_update_id: int
    previous_update_id: int | None = None
    bid_prices: tuple[int, ...] = ()
    bid_quantities: tuple[int, ...] = ()
    ask_prices: tuple[int, ...] = ()
    ask_quantities: tuple[int, ...] = ()


class Quote(Event, frozen=True, kw_only=True, gc=False):
    """Best bid and ask. Null where the feed does not give it: EURUSD has no sizes."""

    bid_price: int | None
    bid_quantity: int | None
    ask_price: int | None
    ask_quantity: int | None
    update_id: int | None = None


class Trade(Event, frozen=True, kw_only=True, gc=False):
    """A trade at the venue. ``aggressor`` is the taker's side, null where the feed does not say."""

    trade_id: str
    price: int
    quantity: int | None
    aggressor: Side | None


class VenueBar(Event, frozen=True, kw_only=True, gc=False):
    """A bar as the venue or the data vendor made it, ending at ``event_time_ns``."""

    interval_ns: int
    open_price: int
    high_price: int
    low_price: int
    close_price: int
    volume: int | None


class QualityKind(enum.StrEnum):
    """What is wrong, or right again, with an instrument's data."""

    RESYNC = "RESYNC"
    SYNCHRONISED = "SYNCHRONISED"
    UNSYNCHRONISED = "UNSYNCHRONISED"
    GAP = "GAP"
    SNAPSHOT_REQUESTED = "SNAPSHOT_REQUESTED"
    CROSSED = "CROSSED"
    UNCROSSED = "UNCROSSED"
    STALE = "STALE"
    FRESH = "FRESH"
    CLOCK_SKEW = "CLOCK_SKEW"
    CLOCK_BACKWARDS = "CLOCK_BACKWARDS"
    REFUSED = "REFUSED"
    CONFLATED = "CONFLATED"
    INCREMENTS_INFERRED = "INCREMENTS_INFERRED"


class Quality(Event, frozen=True, kw_only=True, gc=False):
    """A finding about an instrument's data. ``count`` is how many records it speaks of."""

    kind: QualityKind
    detail: str = ""
    count: int = 1
