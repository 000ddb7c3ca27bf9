"""A limit order book by price, then time: what the simulated exchange matches everything in, our orders and others'.

Orders are kept one by one (L3), first come first served at a price. Prices and quantities in units of 1e-8.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from sortedcontainers import SortedDict

from schemas.values import Side, TimeInForce


class RestingOrder(msgspec.Struct):
    """An order that lies in the book; ``quantity`` is what is left of it."""

    order_id: str
    owner: str
    side: Side
    price: int
    quantity: int


class Match(NamedTuple):
    """One meeting of a taker with a resting order, at the resting order's price."""

    maker_id: str
    maker_owner: str
    taker_id: str
    taker_owner: str
    taker_side: Side
    price: int
    quantity: int
    maker_left: int


class Placement(NamedTuple):
    """What became of an order on arrival: its matches, what rests of it, what expired, or why it was refused."""

    matches: list[Match]
    resting: int
    expired: int
    refused: str | None = None


class Incoming(NamedTuple):
    """An order as it arrives. ``price`` None takes any price (a market order)."""

    order_id: str
    owner: str
    side: Side
    quantity: int
    price: int | None
    time_in_force: TimeInForce


class MatchingBook:
    """The book of one instrument. ``changed`` collects (side, price) whose displayed quantity is not what it was."""

    __slots__ = ("_asks", "_bids", "_orders", "changed")

    def __init__(self) -> None:
        # Bids are keyed by the negated price: the best of either side is the first key.
        self._bids: SortedDict = SortedDict()
        self._asks: SortedDict = SortedDict()
        self._orders: dict[str, RestingOrder] = {}
        self.changed: set[tuple[Side, int]] = set()

    def best(self, side: Side) -> int | None:
        """Return the best price of a side, or None if it is empty."""
        if side is Side.BUY:
            return -self._bids.peekitem(0)[0] if self._bids else None
        key: int | None = self._asks.peekitem(0)[0] if self._asks else None
        return key

    def quantity_at(self, side: Side, price: int) -> int:
        """Return the displayed quantity at a price."""
        level = self._bids.get(-price) if side is Side.BUY else self._asks.get(price)
        return sum(order.quantity for order in level.values()) if level else 0

    def levels(self, side: Side, limit: int) -> list[tuple[int, int]]:
        """Return up to ``limit`` (price, quantity) levels, best first."""
        found: list[tuple[int, int]] = []
        for price, level in self._walk(side):
            found.append((price, sum(order.quantity for order in level.values())))
            if len(found) == limit:
                break
        return found

    def order(self, order_id: str) -> RestingOrder | None:
        """Return a resting order."""
        return self._orders.get(order_id)

    def place(self, order: Incoming) -> Placement:
        """Match an order on arrival and let rest what may. Raises AssertionError for an id that already rests."""
        assert order.quantity > 0 and order.order_id not in self._orders
        if order.time_in_force is TimeInForce.POST_ONLY and self._crosses(order):
            return Placement([], 0, 0, "a post-only order would take")
        if order.time_in_force is TimeInForce.FOK and self._available(order) < order.quantity:
            return Placement([], 0, order.quantity)
        matches, left = self._take(order)
        rests = order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY) and order.price is not None
        if left and rests:
            assert order.price is not None
            self._rest(RestingOrder(order.order_id, order.owner, order.side, order.price, left))
            return Placement(matches, left, 0)
        return Placement(matches, 0, left)

    def cancel(self, order_id: str) -> int | None:
        """Take an order out; return what was left of it, or None if it does not rest here."""
        order = self._orders.pop(order_id, None)
        if order is None:
            return None
        side, key = self._side(order.side), self._key(order.side, order.price)
        level = side[key]
        del level[order_id]
        if not level:
            del side[key]
        self.changed.add((order.side, order.price))
        return order.quantity

    def reduce(self, order_id: str, quantity: int) -> None:
        """Make a resting order smaller; it keeps its place. Raises AssertionError for one that would grow."""
        order = self._orders[order_id]
        assert 0 < quantity <= order.quantity
        order.quantity = quantity
        self.changed.add((order.side, order.price))

    def would_take(self, order: Incoming) -> bool:
        """Tell whether an order would meet another on arrival."""
        return self._crosses(order)

    def take_changed(self) -> list[tuple[Side, int, int]]:
        """Return (side, price, quantity) of every level that changed since the last call, in a fixed order."""
        found = [(side, price, self.quantity_at(side, price)) for side, price in sorted(self.changed)]
        self.changed.clear()
        return found

    def _side(self, side: Side) -> SortedDict:
        return self._bids if side is Side.BUY else self._asks

    @staticmethod
    def _key(side: Side, price: int) -> int:
        return -price if side is Side.BUY else price

    def _walk(self, side: Side) -> Iterator[tuple[int, dict[str, RestingOrder]]]:
        for key, level in self._side(side).items():
            yield abs(key), level

    def _crosses(self, order: Incoming) -> bool:
        if order.price is None:
            return True
        other = self.best(Side.SELL if order.side is Side.BUY else Side.BUY)
        return other is not None and _acceptable(order, other)

    def _available(self, order: Incoming) -> int:
        total = 0
        for price, level in self._walk(Side.SELL if order.side is Side.BUY else Side.BUY):
            if not _acceptable(order, price) or total >= order.quantity:
                break
            total += sum(resting.quantity for resting in level.values())
        return total

    def _take(self, order: Incoming) -> tuple[list[Match], int]:
        side = Side.SELL if order.side is Side.BUY else Side.BUY
        book = self._side(side)
        matches: list[Match] = []
        left = order.quantity
        while left and book:
            key, level = book.peekitem(0)
            price = abs(key)
            if not _acceptable(order, price):
                break
            left = self._take_level(order, level, left, matches)
            self.changed.add((side, price))
            if not level:
                del book[key]
        return matches, left

    def _take_level(self, order: Incoming, level: dict[str, RestingOrder], left: int, matches: list[Match]) -> int:
        while left and level:
            maker = next(iter(level.values()))
            quantity = min(left, maker.quantity)
            maker.quantity -= quantity
            left -= quantity
            matches.append(
                Match(
                    maker.order_id,
                    maker.owner,
                    order.order_id,
                    order.owner,
                    order.side,
                    maker.price,
                    quantity,
                    maker.quantity,
                )
            )
            if maker.quantity == 0:
                del level[maker.order_id], self._orders[maker.order_id]
        return left

    def _rest(self, order: RestingOrder) -> None:
        side, key = self._side(order.side), self._key(order.side, order.price)
        level = side.get(key)
        if level is None:
            level = side[key] = {}
        level[order.order_id] = order
        self._orders[order.order_id] = order
        self.changed.add((order.side, order.price))


def _acceptable(order: Incoming, price: int) -> bool:
    if order.price is None:
        return True
    return price <= order.price if order.side is Side.BUY else price >= order.price
