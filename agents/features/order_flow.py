"""Order flow imbalance, at the best level and over several (Cont, Kukanov, Stoikov, J. Fin. Econometrics 12(1), 2014).

From one state of the book to the next, e = [b' >= b] q(b') - [b' <= b] q(b) - [a' <= a] q(a') + [a' >= a] q(a): what
was added to the bid less what was added to the ask. Summed over time buckets, and shown over a trailing window as a
multiple of the window's mean depth. It explains the move of its own window; it hardly predicts the next one.
"""

import msgspec

from agents.features.rings import push_same, window_sum
from agents.market.book import Book

LEVELS = 5


class OrderFlow(msgspec.Struct, kw_only=True):
    """The best bid and ask, and the flow at them. Prices and quantities in units of 1e-8.

    ``sums`` and ``depths`` hold, per bucket passed, the flow and (at its end) bid plus ask quantity. Both are empty
    while a price or a quantity is missing: without sizes there is no flow.
    """

    bid_price: int | None = None
    bid_quantity: int | None = None
    ask_price: int | None = None
    ask_quantity: int | None = None
    running: int = 0
    sums: list[int] = []
    depths: list[int] = []

    def move(self, bid: int | None, bid_quantity: int | None, ask: int | None, ask_quantity: int | None) -> None:
        """Go to the next best bid and ask."""
        was_bid, was_bid_quantity = self.bid_price, self.bid_quantity
        was_ask, was_ask_quantity = self.ask_price, self.ask_quantity
        self.bid_price, self.bid_quantity = bid, bid_quantity
        self.ask_price, self.ask_quantity = ask, ask_quantity
        if bid is None or ask is None or bid_quantity is None or ask_quantity is None:
            self.forget()
            return
        if was_bid is None or was_ask is None or was_bid_quantity is None or was_ask_quantity is None:
            return
        flow = 0
        if bid >= was_bid:
            flow += bid_quantity
        if bid <= was_bid:
            flow -= was_bid_quantity
        if ask <= was_ask:
            flow -= ask_quantity
        if ask >= was_ask:
            flow += was_ask_quantity
        self.running += flow

    def roll(self, buckets: int, kept: int) -> None:
        """Close the running bucket and let further empty ones pass."""
        if self.bid_quantity is None or self.ask_quantity is None or self.bid_price is None or self.ask_price is None:
            return
        push_same(self.sums, self.running, 1, kept)
        push_same(self.sums, 0, buckets - 1, kept)
        push_same(self.depths, self.bid_quantity + self.ask_quantity, buckets, kept)
        self.running = 0

    def forget(self) -> None:
        """Start the windows afresh: what was before cannot be joined to what comes."""
        self.running = 0
        self.sums, self.depths = [], []

    def imbalance(self, buckets: int) -> float | None:
        """Return the flow of the last ``buckets`` over the mean depth per side; None while too few have passed."""
        return _over_mean_depth(self.sums, self.depths, buckets, 2)


class LevelFlow(msgspec.Struct, kw_only=True):
    """The same over the best five levels of a synchronised book: the sum of the levels' flows.

    Levels are kept as the book gives them: best last, ask prices negated.
    """

    bids: list[int] = []
    bid_quantities: list[int] = []
    asks: list[int] = []
    ask_quantities: list[int] = []
    running: int = 0
    sums: list[int] = []
    depths: list[int] = []

    def move(self, book: Book) -> None:
        """Go to the book's next state."""
        bids, bid_quantities = book.top_bids(LEVELS)
        asks, ask_quantities = book.top_asks(LEVELS)
        if len(bids) < LEVELS or len(asks) < LEVELS:
            self.forget()
        elif self.bids:
            if bids != self.bids or bid_quantities != self.bid_quantities:
                self.running += _side_flow(self.bids, self.bid_quantities, bids, bid_quantities)
            if asks != self.asks or ask_quantities != self.ask_quantities:
                self.running -= _side_flow(self.asks, self.ask_quantities, asks, ask_quantities)
        self.bids, self.bid_quantities = bids, bid_quantities
        self.asks, self.ask_quantities = asks, ask_quantities

    def roll(self, buckets: int, kept: int) -> None:
        """Close the running bucket and let further empty ones pass."""
        if len(self.bids) < LEVELS or len(self.asks) < LEVELS:
            return
        push_same(self.sums, self.running, 1, kept)
        push_same(self.sums, 0, buckets - 1, kept)
        push_same(self.depths, sum(self.bid_quantities) + sum(self.ask_quantities), buckets, kept)
        self.running = 0

    def forget(self) -> None:
        """Start afresh, without a previous state of the book."""
        self.bids, self.bid_quantities, self.asks, self.ask_quantities = [], [], [], []
        self.running = 0
        self.sums, self.depths = [], []

    def imbalance(self, buckets: int) -> float | None:
        """Return the flow of the last ``buckets`` over the mean depth per level; None while too few have passed."""
        return _over_mean_depth(self.sums, self.depths, buckets, 2 * LEVELS)


def _side_flow(was: list[int], was_quantities: list[int], now: list[int], now_quantities: list[int]) -> int:
    """Return what was added to one side, level by level from the best, which is last; prices rank upwards.

    A thin book may have fewer levels before or after: what has no partner was all added, or all taken away.
    """
    common = min(len(was), len(now))
    flow = sum(now_quantities[: len(now) - common]) - sum(was_quantities[: len(was) - common])
    before = zip(was[len(was) - common :], was_quantities[len(was) - common :], strict=True)
    after = zip(now[len(now) - common :], now_quantities[len(now) - common :], strict=True)
    for (old, old_quantity), (new, new_quantity) in zip(before, after, strict=True):
        if new >= old:
            flow += new_quantity
        if new <= old:
            flow -= old_quantity
    return flow


def _over_mean_depth(sums: list[int], depths: list[int], buckets: int, levels: int) -> float | None:
    flow = window_sum(sums, buckets)
    depth = window_sum(depths, buckets)
    return None if flow is None or not depth else flow * levels * buckets / depth
