"""Whether a book may be trusted: one instrument's snapshot and diffs put together by the venue's rules.

Binance spot: drop what the snapshot covers, the first diff after it spans ``U <= lastUpdateId + 1 <= u``, each next
one has ``U == previous u + 1``. Futures: ``pu == previous u``, and the first after the snapshot has ``pu <=
lastUpdateId < u`` (ids of futures diffs are not contiguous, so a snapshot may fall between two of them). A book is
either synchronised or empty: there is no state in which it is merely likely.
"""

import msgspec

from agents.market.book import Book
from schemas.market import BookSnapshot, DepthUpdate

_COMPARED_LEVELS = 10


class DepthSync(msgspec.Struct, kw_only=True):
    """The book, and what waits for it. ``pending`` holds diffs that came before a snapshot, bounded.

    ``after_snapshot`` says that the newest thing applied was a snapshot, so the next diff may overlap it.
    ``fed`` says whether this instrument has depth at all.
    """

    book: Book = msgspec.field(default_factory=Book)
    synchronised: bool = False
    after_snapshot: bool = False
    fed: bool = False
    pending: list[DepthUpdate] = []

    @property
    def waiting(self) -> bool:
        """Whether there is depth but no book to put it in."""
        return self.fed and not self.synchronised

    def lose(self) -> None:
        """Trust nothing from here on."""
        self.book.clear()
        self.synchronised = False
        self.after_snapshot = False

    def covered(self, update: DepthUpdate) -> bool:
        """Return whether the book already holds what this update says."""
        return update.last_update_id <= self.book.update_id

    def follows(self, update: DepthUpdate) -> bool:
        """Return whether nothing is missing between the book and this update."""
        at = self.book.update_id
        previous = update.previous_update_id
        if previous is not None:
            return previous <= at if self.after_snapshot else previous == at
        return update.first_update_id <= at + 1 if self.after_snapshot else update.first_update_id == at + 1

    def extend(self, update: DepthUpdate) -> None:
        """Apply an update that follows."""
        self.book.apply(update)
        self.after_snapshot = False

    def keep(self, update: DepthUpdate, pending_max: int) -> int:
        """Keep an update for a snapshot to come; return how many older ones had to go for it."""
        self.pending.append(update)
        surplus = len(self.pending) - pending_max
        if surplus <= 0:
            return 0
        del self.pending[:surplus]
        return surplus

    def differs(self, snapshot: BookSnapshot) -> bool:
        """Return whether a snapshot at our own update id contradicts the book near the top."""
        count = _COMPARED_LEVELS
        bids, bid_quantities = self.book.top_bids(count)
        asks, ask_quantities = self.book.top_asks(count)
        return (
            tuple(reversed(bids)) != snapshot.bid_prices[:count]
            or tuple(reversed(bid_quantities)) != snapshot.bid_quantities[:count]
            or tuple(-price for price in reversed(asks)) != snapshot.ask_prices[:count]
            or tuple(reversed(ask_quantities)) != snapshot.ask_quantities[:count]
        )

    def adopt(self, snapshot: BookSnapshot) -> "Adoption":
        """Start from a snapshot and the pending diffs that belong after it.

        On success the book stands at the last of them and nothing is pending. When a diff is missing, the book is
        empty again and the diffs from the hole onwards stay pending.
        """
        self.fed = True
        self.book.replace_all(snapshot)
        self.after_snapshot = True
        waiting, self.pending = self.pending, []
        applied: list[DepthUpdate] = []
        covered = 0
        for index, update in enumerate(waiting):
            if self.covered(update):
                covered += 1
            elif self.follows(update):
                self.extend(update)
                applied.append(update)
            else:
                self.lose()
                self.pending = waiting[index:]
                return Adoption(applied=(), covered=covered, behind_hole=len(applied), complete=False)
        self.synchronised = True
        return Adoption(applied=tuple(applied), covered=covered, behind_hole=0, complete=True)


class Adoption(msgspec.Struct, frozen=True):
    """What became of the pending diffs: applied in order, covered by the snapshot, or lost behind a hole."""

    applied: tuple[DepthUpdate, ...]
    covered: int
    behind_hole: int
    complete: bool
