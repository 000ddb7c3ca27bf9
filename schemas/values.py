"""Numbers and closed vocabularies shared by all events.

Prices and quantities are 64-bit integers in units of 1e-8 (``UNITS_PER_ONE``); money is ``Decimal`` with 18
places. A float never holds money.
"""

import enum
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

UNITS_PER_ONE: Final = 100_000_000
MONEY_PLACES: Final = 18
MONEY_QUANTUM: Final = Decimal(1).scaleb(-MONEY_PLACES)
ZERO: Final = Decimal(0)
_EXACT: Final = Context(prec=76, rounding=ROUND_HALF_EVEN)
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


class Side(enum.StrEnum):
    """Direction of an order or of the aggressor of a trade."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """Return +1 for BUY and -1 for SELL."""
        return 1 if self is Side.BUY else -1


class OrderType(enum.StrEnum):
    """How an order names its price, and whether it waits for another.

    STOP and STOP_LIMIT wait at the venue until the last price reaches ``stop_price`` (a buy: from below, a sell: from
    above); then they become a MARKET or a LIMIT order. The last price is the newest trade's; where no trade has been
    seen, the mid.
    """

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"

    @property
    def waits(self) -> bool:
        """Whether it waits for its stop price."""
        return self is OrderType.STOP or self is OrderType.STOP_LIMIT


class TimeInForce(enum.StrEnum):
    """How long an order works."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "POST_ONLY"


class Leg(enum.StrEnum):
    """What an order is for that protects a position; an order that answers a target is none of these.

    OVERFILL takes back what the others have traded beyond the position.
    """

    STOP_LOSS = "STOP_LOSS"
    TAKE_PROFIT = "TAKE_PROFIT"
    OVERFILL = "OVERFILL"


class Liquidity(enum.StrEnum):
    """Whether a fill took or made liquidity."""

    TAKER = "TAKER"
    MAKER = "MAKER"


class Level(enum.StrEnum):
    """What trading is allowed at a scope: all, only what reduces a position, or cancels only."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


def units(value: Decimal | str) -> int:
    """Return a decimal price or quantity as an integer in units of 1e-8. Raises ValueError when it does not fit."""
    scaled = Decimal(value) * UNITS_PER_ONE
    whole = int(scaled)
    if whole != scaled or not -(2**63) <= whole < 2**63:
        raise ValueError(f"{value} is not a multiple of 1e-8 within 64 bits")
    return whole


def to_decimal(value: int) -> Decimal:
    """Return an integer in units of 1e-8 as an exact Decimal."""
    return Decimal(value).scaleb(-8)


def notional(price: int, quantity: int, multiplier: Decimal = Decimal(1)) -> Decimal:
    """Return price x quantity x multiplier as money, exact before the multiplier; the sign is the quantity's."""
    exact = _EXACT.multiply(Decimal(price * quantity).scaleb(-16, _EXACT), multiplier)
    return exact.quantize(MONEY_QUANTUM, context=_EXACT)


def money(value: Decimal | int | str) -> Decimal:
    """Return an amount rounded half-even to the 18 places that Postgres and Avro hold."""
    return Decimal(value).quantize(MONEY_QUANTUM, context=_EXACT)
