"""The id under which a venue knows an order of ours: the order's own id, and the claim under which it was committed.

It is fixed in the intent, before anything is sent. So whoever takes over asks for an order under the id that it was
sent with, and whoever finds an order at the venue can tell which order of ours it is and which claim has sent it.
"""

import re
from typing import Final

_HASH: Final = re.compile(r"[0-9a-f]{32}")
_PACKED: Final = re.compile(r"[0-9a-z]{25}")
_CLIENT_ID: Final = re.compile(r"(.+)-(0|[1-9][0-9]*)")
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_WIDTH: Final = 25


def client_order_id(order_id: str, epoch: int) -> str:
    """Return ``ID-EPOCH``, at most 36 characters of [0-9a-z-] for our ids and an epoch below 10^10.

    An id of ours is 32 hex digits, which are written as 25 digits to the base of 36: venues take 36 characters, and not
    all of them tell a from A. Any other id stays as it is.
    """
    assert epoch >= 0, "epochs count up from 0"
    if _HASH.fullmatch(order_id):
        return f"{_packed(int(order_id, 16))}-{epoch}"
    assert not _PACKED.fullmatch(order_id), f"{order_id} could be taken for another id"
    return f"{order_id}-{epoch}"


def parse_client_order_id(client_id: str) -> tuple[str, int] | None:
    """Return our order's id and the epoch, or None for an id that we did not make."""
    found = _CLIENT_ID.fullmatch(client_id)
    if found is None:
        return None
    name, epoch = found.groups()
    if _PACKED.fullmatch(name):
        number = int(name, 36)
        return (f"{number:032x}", int(epoch)) if number < 1 << 128 else None
    return name, int(epoch)


def _packed(number: int) -> str:
    digits = []
    for _ in range(_WIDTH):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
