"""Decimal strings of a venue to integers in units of 1e-8, exactly and fast: the inner loop of every depth message."""

from typing import Final

_PLACES: Final = 8
_SCALE: Final = tuple(10 ** (_PLACES - count) for count in range(_PLACES + 1))
_LIMIT: Final = 2**63


class NotANumber(ValueError):
    """A text that is not a plain non-negative decimal with at most 8 places within 64 bits."""


def parse_units(text: str) -> int:
    """Return ``text`` in units of 1e-8. Raises NotANumber; never rounds."""
    dot = text.find(".")
    if dot < 0:
        digits, places = text, 0
    else:
        digits, places = text[:dot] + text[dot + 1 :], len(text) - dot - 1
    if not (digits.isascii() and digits.isdigit()):
        raise NotANumber(f"{text[:40]!r} is not a plain decimal")
    if places > _PLACES:
        raise NotANumber(f"{text[:40]!r} has more than {_PLACES} decimal places")
    value = int(digits) * _SCALE[places] if len(digits) <= 20 else _LIMIT
    if value >= _LIMIT:
        raise NotANumber(f"{text[:40]!r} does not fit 64 bits in units of 1e-8")
    return value
