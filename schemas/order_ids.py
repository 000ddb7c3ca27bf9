"""Our own order ids: named by the decision, and telling whose order it is to whoever finds it at a venue.

A database can be lost and an order outlive it. The last digits of an id are those of its account and strategy, so that
the order can be booked where it belongs by whoever knows the settings alone.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from schemas.event import derive_id

_OURS: Final = re.compile(r"[0-9a-f]{32}")
_TAG_BYTES: Final = 3


def order_id_of(cause: str, owner: tuple[str, str], name: str = "order", ordinal: int = 0) -> str:
    """Return the 32 hex digits that name an order of a cause (a decision, a command, another order).

    ``owner`` is (account, strategy); ``name`` and ``ordinal`` tell the orders of one cause apart.
    """
    return derive_id(cause, name, ordinal)[: -2 * _TAG_BYTES] + owner_tag(*owner)


def owner_tag(account: str, strategy: str) -> str:
    """Return the digits at the end of the ids of a strategy's orders."""
    return hashlib.blake2b(f"{account}|{strategy}".encode(), digest_size=_TAG_BYTES).hexdigest()


def is_ours(order_id: str) -> bool:
    """Tell whether an id can be one that we have made."""
    return _OURS.fullmatch(order_id) is not None


def owner_of(order_id: str, traders: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the (account, strategy) among ``traders`` whose order it is; None when it is nobody's, or two could be."""
    if not is_ours(order_id):
        return None
    found = [trader for trader in traders if order_id.endswith(owner_tag(*trader))]
    return found[0] if len(found) == 1 else None
