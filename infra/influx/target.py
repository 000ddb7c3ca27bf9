"""Where lines of line protocol go, and how whoever sends them hears that they did not arrive."""

from collections.abc import Sequence
from typing import Protocol


class Unwritten(Exception):
    """The target could not take the points now; the same points may be taken later.

    ``pause_s`` is how long it asks to be left alone, 0 where it does not say.
    """

    def __init__(self, said: str, pause_s: float = 0.0) -> None:
        super().__init__(said)
        self.pause_s = pause_s


class Refused(Exception):
    """The target will not take these points as they are.

    ``points``: so many were refused and all others are written. None: nothing is written, and it may be the fault of
    only one of them, or of their number.
    """

    def __init__(self, said: str, points: int | None = None) -> None:
        super().__init__(said)
        self.points = points


class PointTarget(Protocol):
    """Where lines go. Called from one thread."""

    def write(self, lines: Sequence[str]) -> None:
        """Write lines of line protocol. Raises Unwritten or Refused."""

    def close(self) -> None:
        """Let go of files and connections."""
