"""An event loop whose time passes only while everybody waits: a run of minutes takes as long as its work.

No thread, no socket, no clock. Tasks run in the order in which they became ready, so that a run is a function of
what it is given.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

EPOCH_NS: Final = 1_700_000_000_000_000_000
"""Where virtual time begins on the wall (ns)."""

_Result = TypeVar("_Result")


class Stuck(Exception):
    """Everybody waits for somebody: nothing can ever happen again."""


class _VirtualSelector:
    """Stands where the loop waits for sockets: there are none, so the time to wait is simply over."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        """Let ``timeout`` seconds pass."""
        if timeout is None:
            raise Stuck("Every task waits, and no timer is set.")
        if timeout > 0:
            self.now_s += timeout
        return []


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _VirtualSelector()

    def time(self) -> float:
        """Return the virtual seconds since the run began."""
        return self._selector.now_s

    def now_ns(self) -> int:
        """Return what a wall clock shows (ns)."""
        return EPOCH_NS + round(self._selector.now_s * 1e9)

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: no socket ever has anything."""

    def _write_to_self(self) -> None:
        """Do nothing: nobody calls from another thread."""


def run_virtually(loop: VirtualLoop, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run to the end of ``work``, end what is left over, and close the loop. Raises Stuck, and what the work raises."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
