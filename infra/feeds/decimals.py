"""Decimal strings of a venue to integers in units of 1e-8, exactly and fast: the inner loop of every depth message."""

import functools
from typing import Final

_PLACES: Final = 8
_SCALE: Final = tuple(10 ** (_PLACES - count) for count in range(_PLACES + 1))
_DIGITS_MAX: Final = 40
_LIMIT: Final = 2**63
_REMEMBERED: Final = 65_536


class NotANumber(ValueError):
    """A text that is not a plain non-negative decimal with at most 8 places within 64 bits."""


@functools.lru_cache(_REMEMBERED)
def parse_units(text: str) -> int:
    """Return ``text`` in units of 1e-8. Raises NotANumber; never rounds.

    Prices and sizes come back again and again (95 of 100 in a capture), so the newest answers are remembered.
    """
    whole, dot, fraction = text.partition(".")
    digits = whole + fraction
    if not whole or bool(dot) != bool(fraction) or not (digits.isascii() and digits.isdigit()):
        raise NotANumber(f"{text[:_DIGITS_MAX]!r} is not a plain decimal")
    places = len(fraction)
    if places > _PLACES:
        raise NotANumber(f"{text[:_DIGITS_MAX]!r} has more than {_PLACES} decimal places")
    value = int(digits) * _SCALE[places] if len(digits) <= _DIGITS_MAX else _LIMIT
    if value >= _LIMIT:
        raise NotANumber(f"{text[:_DIGITS_MAX]!r} does not fit 64 bits in units of 1e-8")
    return value


def parse_count(text: str, units_each: int) -> int:
    """Return a whole number of steps of ``units_each`` units of 1e-8 each. Raises NotANumber."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise NotANumber(f"{text[:_DIGITS_MAX]!r} is not a plain whole number")
    value = int(text) * units_each
    if value >= _LIMIT:
        raise NotANumber(f"{text[:_DIGITS_MAX]!r} does not fit 64 bits in units of 1e-8")
    return value
