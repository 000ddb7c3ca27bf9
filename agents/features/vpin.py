"""VPIN: how one-sided trading is per bucket of equal volume (Easley, Lopez de Prado, O'Hara, RFS 25(5), 2012).

The aggressor's flag is used where the venue gives it, never a guess; a trade is split where it crosses the edge of a
bucket. The sum of imbalances over the sum of volumes stays within [0, 1].
"""

import msgspec

from schemas.market import Trade
from schemas.values import Side


class Vpin(msgspec.Struct, kw_only=True):
    """The running bucket and the absolute imbalances of those that are full. Volumes in units of 1e-8.

    ``bucket_volume`` 0 turns it off. ``total`` is the sum of ``imbalances``, kept exactly.
    """

    bucket_volume: int = 0
    buckets: int = 50
    bought: int = 0
    sold: int = 0
    imbalances: list[int] = []
    total: int = 0

    def take(self, trade: Trade) -> None:
        """Add one trade. One without size or aggressor makes every bucket before it useless."""
        size = self.bucket_volume
        if not size:
            return
        quantity = trade.quantity
        if quantity is None or trade.aggressor is None:
            self.forget()
            return
        bought = trade.aggressor is Side.BUY
        room = size - self.bought - self.sold
        while quantity >= room:
            self._fill(room, bought=bought)
            quantity -= room
            room = size
            if quantity > (self.buckets + 1) * size:
                # A trade larger than all that is kept leaves only its own one-sided buckets; skip those that fall out.
                quantity = self.buckets * size + quantity % size
        if bought:
            self.bought += quantity
        else:
            self.sold += quantity

    def _fill(self, quantity: int, *, bought: bool) -> None:
        """Complete the running bucket and start the next."""
        net = self.bought - self.sold + (quantity if bought else -quantity)
        self.bought = self.sold = 0
        self.imbalances.append(abs(net))
        self.total += abs(net)
        if len(self.imbalances) > self.buckets:
            self.total -= self.imbalances.pop(0)

    def forget(self) -> None:
        """Start afresh."""
        self.bought = self.sold = self.total = 0
        self.imbalances = []

    def value(self, buckets_min: int) -> float | None:
        """Return VPIN over the full buckets, the newest 50 by default; None below ``buckets_min`` of them."""
        full = len(self.imbalances)
        return self.total / (full * self.bucket_volume) if full and full >= buckets_min else None
