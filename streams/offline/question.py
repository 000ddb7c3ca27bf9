"""What a recomputation is asked: which stretch of the run's time, by which stages, and whose work may be judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streams.given_times import iso_ns

Advance = Callable[[str, float], None]
"""Told which shard is being recomputed, and which part of it (0 to 1) is done."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one time to another on the run's clock (ns, both ends included); None is open.

    A shard's time is the newest that it has stepped, so it only rises: an input belongs to the stretch when the
    shard's time, after stepping it, lies in there.
    """

    from_ns: int | None = None
    to_ns: int | None = None

    def has_begun(self, reached_ns: int) -> bool:
        """Tell whether a shard that has stepped this time is in the stretch, or past it."""
        return self.from_ns is None or reached_ns >= self.from_ns

    def is_over(self, reached_ns: int) -> bool:
        """Tell whether a shard that has stepped this time is past the stretch."""
        return self.to_ns is not None and reached_ns > self.to_ns

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is."""
        return self.from_ns is None and self.to_ns is None


def _ignore(source: str, done: float) -> None:
    del source, done


@dataclass(frozen=True, slots=True)
class Question:
    """What to recompute. ``stages`` empty is all of them.

    ``any_version``: also compare what other code or settings than these have made.
    """

    stretch: Stretch = Stretch()
    stages: tuple[str, ...] = ()
    any_version: bool = False
    advance: Advance = _ignore


WHOLE: Final = Question()


def time_ns(given: str) -> int:
    """Return a time in ns, given as such or as an ISO time, UTC unless it says otherwise. Raises ValueError."""
    if given.isascii() and given.isdigit() and len(given) <= 19:
        return int(given)
    try:
        return iso_ns(given)
    except ValueError:
        raise ValueError(f"{given!r} is no time: write it as 2026-11-21T15:00:30.25, or in ns since 1970.") from None
