"""What a recorded file gives for each of its lines, whatever its format."""

from collections.abc import Iterator
from typing import Protocol

from schemas.event import Event

Row = tuple[int, Event | None, str | None, bytes]
"""(time of receipt in ns or 0 where it cannot be trusted, event or null, why the line was refused or null, line)."""


class Recording(Protocol):
    """One recorded file.

    ``instruments`` are the keys of its events, ``heartbeat_ns`` how finely its clock is worth showing.
    """

    @property
    def name(self) -> str:
        """Return the file's name."""

    @property
    def instruments(self) -> tuple[str, ...]:
        """Return the keys of its events."""

    @property
    def heartbeat_ns(self) -> int:
        """Return the step of the capture's Heartbeats that suits this file."""

    def messages(self) -> Iterator[Row]:
        """Yield a Row for every line, in order, from the beginning at each call. Raises FeedFailed."""
