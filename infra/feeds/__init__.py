"""Where market data comes from: recorded captures, a live venue, the simulated market.

A feed hands over ``schemas.feed.FeedRecord`` in the order of receipt, and decides nothing about them: a gap, a crossed
book or a wrong clock is ingestion's finding. What a feed does decide is whether a message could be read at all.
"""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from schemas.feed import FeedRecord

RAW_BYTES_MAX: Final = 4096
"""How much of a refused message is kept: enough to see what it was, too little to be a burden."""


class FeedFailed(Exception):
    """A feed that cannot be opened or read, in one clear sentence."""


class Feed(Protocol):
    """A source of market data, as the shell sees it.

    ``name`` is what the ``source`` of its events is made of. ``replayable`` says whether a second run gives the same
    records at the same positions (a capture), or whether what is missed is gone (a live venue).
    """

    @property
    def name(self) -> str:
        """Return the name of the feed, stable over runs."""

    @property
    def replayable(self) -> bool:
        """Return whether ``records(start)`` gives again what it gave before."""

    def records(self, start: int) -> AsyncIterator[FeedRecord]:
        """Yield the records whose position is at least ``start``; a feed that cannot be replayed counts from there.

        A record that holds Quality(RESYNC) opens a new generation of the feed. Raises FeedFailed.
        """
