"""An L2 book from absolute quantities: per side a dict of all levels, and an ordered list of only the best ones.

A tree pays for order where nobody looks: of the levels a feed changes, most lie far from the top. So only the
``KEPT`` best prices of a side are kept in order (a plain list: ``bisect`` in C, the best price LAST, where an
insertion moves almost nothing), and the list is made again from the dict when deletions have used it up. Measured on
the USD-M capture: 16 us per update of 68 levels, of which 12 us are the dict alone; with all levels in order 25 us.
Asks are ordered by their negated price, which makes both sides the same code.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.market import BookSnapshot, DepthUpdate

KEPT: Final = 256
REFILL_BELOW: Final = 64
TOP_MAX: Final = REFILL_BELOW
"""How many levels of a side may be asked for."""
_CUT_ABOVE: Final = 2 * KEPT
_NO_FLOOR: Final = -(2**63)


class Book(msgspec.Struct, kw_only=True):
    """One instrument's book. Prices and quantities are in units of 1e-8; ``update_id`` is -1 while it is empty.

    ``bid_order`` holds the highest bid prices rising, ``ask_order`` the lowest ask prices negated, rising: the best
    is last in both. Each holds every level of its side at or above its first entry.
    """

    update_id: int = -1
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    bid_order: list[int] = []
    ask_order: list[int] = []

    def replace_all(self, snapshot: BookSnapshot) -> None:
        """Become the snapshot. Its quantities are above 0."""
        self.update_id = snapshot.update_id
        self.bids = dict(zip(snapshot.bid_prices, snapshot.bid_quantities, strict=True))
        self.asks = dict(zip(snapshot.ask_prices, snapshot.ask_quantities, strict=True))
        self.bid_order = _best(self.bids, 1)
        self.ask_order = _best(self.asks, -1)

    def apply(self, update: DepthUpdate) -> None:
        """Set the quantities of one update. Whether the update may follow is the caller's to know."""
        if update.bid_prices:
            _set_levels(self.bids, self.bid_order, 1, update.bid_prices, update.bid_quantities)
        if update.ask_prices:
            _set_levels(self.asks, self.ask_order, -1, update.ask_prices, update.ask_quantities)
        self.update_id = update.last_update_id

    def clear(self) -> None:
        """Forget everything."""
        self.update_id = -1
        self.bids, self.asks, self.bid_order, self.ask_order = {}, {}, [], []

    @property
    def best_bid(self) -> int | None:
        """The highest bid price, null on an empty side."""
        return self.bid_order[-1] if self.bid_order else None

    @property
    def best_ask(self) -> int | None:
        """The lowest ask price, null on an empty side."""
        return -self.ask_order[-1] if self.ask_order else None

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which no matching engine shows."""
        return bool(self.bid_order and self.ask_order and self.bid_order[-1] + self.ask_order[-1] >= 0)

    def top_bids(self, count: int) -> tuple[list[int], list[int]]:
        """Return prices and quantities of the best ``count`` <= TOP_MAX bids, the best LAST."""
        prices = self.bid_order[-count:]
        levels = self.bids
        return prices, [levels[price] for price in prices]

    def top_asks(self, count: int) -> tuple[list[int], list[int]]:
        """Return NEGATED prices and quantities of the best ``count`` <= TOP_MAX asks, the best LAST."""
        prices = self.ask_order[-count:]
        levels = self.asks
        return prices, [levels[-price] for price in prices]

    def snapshot(self, key: str, event_time_ns: int, available_at_ns: int) -> BookSnapshot:
        """Return the whole book as an event, best prices first."""
        bid_prices = tuple(sorted(self.bids, reverse=True))
        ask_prices = tuple(sorted(self.asks))
        return BookSnapshot(
            key=key,
            event_time_ns=event_time_ns,
            available_at_ns=available_at_ns,
            update_id=self.update_id,
            bid_prices=bid_prices,
            bid_quantities=tuple([self.bids[price] for price in bid_prices]),
            ask_prices=ask_prices,
            ask_quantities=tuple([self.asks[price] for price in ask_prices]),
        )


def _best(levels: dict[int, int], sign: int) -> list[int]:
    ordered = sorted(levels) if sign > 0 else sorted([-price for price in levels])
    return ordered[-KEPT:]


def _set_levels(
    levels: dict[int, int], order: list[int], sign: int, prices: Sequence[int], quantities: Sequence[int]
) -> None:
    floor = order[0] if len(levels) > len(order) else _NO_FLOOR
    for price, quantity in zip(prices, quantities, strict=True):
        if quantity:
            if price not in levels:
                rank = sign * price
                if rank >= floor:
                    insort(order, rank)
            levels[price] = quantity
        elif price in levels:
            del levels[price]
            rank = sign * price
            if rank >= floor:
                del order[bisect_left(order, rank)]
    kept = len(order)
    if kept > _CUT_ABOVE:
        del order[:-KEPT]
    elif kept < REFILL_BELOW and kept < len(levels):
        order[:] = _best(levels, sign)
