"""What traded: signed volume over volume, and the rate of trades, over trailing windows."""

import msgspec

from agents.features.rings import push_same, window_sum
from schemas.market import Trade
from schemas.values import Side


class TradeFlow(msgspec.Struct, kw_only=True):
    """Volume by aggressor per bucket, in units of 1e-8, and the number of trades.

    A trade without size or aggressor empties the volumes: a window that holds it has no signed flow. A window in
    which nothing traded is known to be balanced: its flow is 0, not missing.
    """

    seen: bool = False
    signed: bool = False
    bought: int = 0
    sold: int = 0
    count: int = 0
    nets: list[int] = []
    totals: list[int] = []
    counts: list[int] = []

    def take(self, trade: Trade) -> None:
        """Count one trade."""
        self.seen = True
        self.count += 1
        quantity = trade.quantity
        if quantity is None or trade.aggressor is None:
            self.signed = False
            self.bought = self.sold = 0
            self.nets, self.totals = [], []
            return
        self.signed = True
        if trade.aggressor is Side.BUY:
            self.bought += quantity
        else:
            self.sold += quantity

    def roll(self, buckets: int, kept: int) -> None:
        """Close the running bucket and let further empty ones pass."""
        if not self.seen:
            return
        push_same(self.counts, self.count, 1, kept)
        push_same(self.counts, 0, buckets - 1, kept)
        self.count = 0
        if self.signed:
            push_same(self.nets, self.bought - self.sold, 1, kept)
            push_same(self.nets, 0, buckets - 1, kept)
            push_same(self.totals, self.bought + self.sold, 1, kept)
            push_same(self.totals, 0, buckets - 1, kept)
            self.bought = self.sold = 0

    def imbalance(self, buckets: int) -> float | None:
        """Return signed volume over volume in [-1, 1] of the last ``buckets``; None while too few have passed."""
        net = window_sum(self.nets, buckets)
        total = window_sum(self.totals, buckets)
        if net is None or total is None:
            return None
        return net / total if total else 0.0

    def rate(self, buckets: int, buckets_per_second: int) -> float | None:
        """Return trades per second over the last ``buckets``; None while too few have passed."""
        count = window_sum(self.counts, buckets)
        return None if count is None else count * buckets_per_second / buckets
