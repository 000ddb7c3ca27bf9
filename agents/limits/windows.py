"""What happened within a sliding window, kept in slices of time, so that its size is bounded whatever happens.

A slice counts as a whole until all of it has left the window: a window is at most one slice longer than it says, and
never shorter.
"""

from typing import Final

import msgspec

from schemas.values import NS_PER_MS, NS_PER_S

COUNT_SLICE_NS: Final = NS_PER_S
RANGE_SLICE_NS: Final = 5 * NS_PER_S


class SlicedCount(msgspec.Struct, kw_only=True):
    """How often something happened: ``counts`` by the slices of one second that begin at ``starts_ns``."""

    starts_ns: list[int] = []
    counts: list[int] = []

    def add(self, now_ns: int, window_ms: int) -> None:
        """Count one more, and forget what no window of this length can hold any longer."""
        start_ns = now_ns - now_ns % COUNT_SLICE_NS
        if self.starts_ns and self.starts_ns[-1] >= start_ns:
            self.counts[-1] += 1
            return
        gone = _first_within(self.starts_ns, COUNT_SLICE_NS, now_ns - window_ms * NS_PER_MS)
        del self.starts_ns[:gone], self.counts[:gone]
        self.starts_ns.append(start_ns)
        self.counts.append(1)

    def within(self, now_ns: int, window_ms: int) -> int:
        """Return how often it happened in the window that ends now."""
        return sum(self.counts[_first_within(self.starts_ns, COUNT_SLICE_NS, now_ns - window_ms * NS_PER_MS) :])


class PriceRange(msgspec.Struct, kw_only=True):
    """Between which prices something moved: ``lows`` and ``highs`` by the slices of five seconds from ``starts_ns``."""

    starts_ns: list[int] = []
    lows: list[int] = []
    highs: list[int] = []

    def add(self, now_ns: int, price: int, window_ms: int) -> None:
        """Take a price, and forget what no window of this length can hold any longer."""
        start_ns = now_ns - now_ns % RANGE_SLICE_NS
        if self.starts_ns and self.starts_ns[-1] >= start_ns:
            self.lows[-1] = min(self.lows[-1], price)
            self.highs[-1] = max(self.highs[-1], price)
            return
        gone = _first_within(self.starts_ns, RANGE_SLICE_NS, now_ns - window_ms * NS_PER_MS)
        del self.starts_ns[:gone], self.lows[:gone], self.highs[:gone]
        self.starts_ns.append(start_ns)
        self.lows.append(price)
        self.highs.append(price)

    def within(self, now_ns: int, window_ms: int) -> tuple[int, int] | None:
        """Return the lowest and the highest price in the window that ends now, or None without one."""
        first = _first_within(self.starts_ns, RANGE_SLICE_NS, now_ns - window_ms * NS_PER_MS)
        if first == len(self.starts_ns):
            return None
        if first == 0:
            return min(self.lows), max(self.highs)
        return min(self.lows[first:]), max(self.highs[first:])


def _first_within(starts_ns: list[int], slice_ns: int, since_ns: int) -> int:
    """Return the index of the first slice that ends after ``since_ns``. Few have left since the last look."""
    index = 0
    while index < len(starts_ns) and starts_ns[index] + slice_ns <= since_ns:
        index += 1
    return index
