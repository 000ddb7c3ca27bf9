"""What a quantity is worth, exactly, however absurd the quantity.

A limit must answer "no" to an order of any size; arithmetic that fails on a large number would be no answer.
"""

from decimal import Context, Decimal
from typing import Final

from schemas.market import InstrumentDefined

EXACT: Final = Context(prec=80)
"""Wide enough for the product of two 64-bit integers and a multiplier, without rounding."""


def quote_value(instrument: InstrumentDefined, price: int, quantity: int) -> Decimal:
    """Return what ``quantity`` is worth at ``price`` in the quote currency; the sign is the quantity's.

    A linear contract is worth price x quantity x multiplier; an inverse one quantity x multiplier at any price.
    """
    if instrument.inverse:
        return EXACT.multiply(EXACT.scaleb(Decimal(quantity), Decimal(-8)), instrument.multiplier)
    return EXACT.multiply(EXACT.scaleb(Decimal(price * quantity), Decimal(-16)), instrument.multiplier)


def finite(value: object) -> bool:
    """Return whether ``value`` is a Decimal that can be compared at all."""
    return isinstance(value, Decimal) and value.is_finite()


def positive_units(value: object) -> bool:
    """Return whether ``value`` is a positive 64-bit integer: the only form of a price or of an order's quantity."""
    return type(value) is int and 0 < value < 2**63
