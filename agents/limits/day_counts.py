"""Orders of a UTC day, by strategy."""

from typing import Final

import msgspec

from schemas.values import NS_PER_S

DAY_NS: Final = 86_400 * NS_PER_S


class DayCounts(msgspec.Struct, kw_only=True):
    """How many orders each strategy was let out on one day; another day begins at none."""

    day: int = 0
    counts: dict[str, int] = {}

    def add(self, strategy: str, now_ns: int) -> None:
        """Count an order. Time never runs backwards here: what comes late counts today."""
        if now_ns // DAY_NS > self.day:
            self.day, self.counts = now_ns // DAY_NS, {}
        self.counts[strategy] = self.counts.get(strategy, 0) + 1

    def of(self, strategy: str, now_ns: int) -> int:
        """Return how many orders a strategy was let out today."""
        return self.counts.get(strategy, 0) if now_ns // DAY_NS <= self.day else 0
