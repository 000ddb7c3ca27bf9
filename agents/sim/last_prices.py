"""The last price of each instrument, which is what stops wait for: the newest trade's, and how far trades went since.

Several trades may come between two looks; a stop is reached by any of them, not only by the newest.
"""

from typing import NamedTuple


class Reach(NamedTuple):
    """Between which prices an instrument traded since the last look."""

    low: int
    high: int


class LastPrices:
    """What was traded. Prices in units of 1e-8."""

    __slots__ = ("_last", "_reached")

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._reached: dict[str, Reach] = {}

    def trade(self, instrument: str, price: int) -> None:
        """Take a trade."""
        self._last[instrument] = price
        found = self._reached.get(instrument)
        if found is None:
            self._reached[instrument] = Reach(price, price)
        else:
            self._reached[instrument] = Reach(min(found.low, price), max(found.high, price))

    def last(self, instrument: str) -> int | None:
        """Return the newest trade's price, or None if none has been seen."""
        return self._last.get(instrument)

    def take(self) -> dict[str, Reach]:
        """Return how far each instrument traded since the last call."""
        found, self._reached = self._reached, {}
        return found
