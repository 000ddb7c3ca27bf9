"""The venue's clock, as far as we can know it: an offset, how sure we are of it, and when it is too far off to trade.

A request carries the time at which it was made, and the venue refuses it once it is too old. That refusal is what
stops a sender that was stalled and replaced, so a time that is wrong by more than was agreed is not sent at all.
"""

from typing import Final, NamedTuple

from schemas.values import NS_PER_MS

_STALE_INTERVALS: Final = 5


class Reading(NamedTuple):
    """One look at the venue's clock: its time, between two of ours (all ns)."""

    before_ns: int
    venue_ns: int
    after_ns: int

    @property
    def offset_ns(self) -> int:
        """Return what must be added to our clock to get the venue's."""
        return self.venue_ns - (self.before_ns + self.after_ns) // 2

    @property
    def doubt_ns(self) -> int:
        """Return how far the offset may be wrong: half of the way there and back, and the venue's whole millisecond."""
        return (self.after_ns - self.before_ns) // 2 + NS_PER_MS


class VenueClock:
    """Our clock and the venue's. ``skew_max_ns`` is how far they may be apart, ``interval_ns`` how often one looks."""

    def __init__(self, skew_max_ns: int, interval_ns: int) -> None:
        self._skew_max_ns = skew_max_ns
        self._stale_ns = _STALE_INTERVALS * interval_ns
        self._reading: Reading | None = None

    def take(self, readings: list[Reading]) -> None:
        """Take the surest of several looks."""
        if readings:
            self._reading = min(readings, key=lambda reading: reading.doubt_ns)

    @property
    def offset_ns(self) -> int:
        """Return the offset, 0 as long as nobody has looked."""
        return 0 if self._reading is None else self._reading.offset_ns

    def venue_ns(self, now_ns: int) -> int:
        """Return the venue's time at ``now_ns`` of ours."""
        return now_ns + self.offset_ns

    def timestamp_ms(self, now_ns: int) -> int:
        """Return what a request made at ``now_ns`` says of its time."""
        return self.venue_ns(now_ns) // NS_PER_MS

    def refusal(self, now_ns: int) -> str | None:
        """Return why no order may be sent by this clock, or None."""
        reading = self._reading
        if reading is None:
            return "the venue's clock is not known"
        if now_ns - reading.after_ns > self._stale_ns:
            return f"the venue's clock was last seen {(now_ns - reading.after_ns) / 1e9:.0f} s ago"
        worst_ns = abs(reading.offset_ns) + reading.doubt_ns
        if worst_ns > self._skew_max_ns:
            return (
                f"the clocks are up to {worst_ns / NS_PER_MS:.0f} ms apart, more than {self._skew_max_ns // NS_PER_MS}"
            )
        return None
