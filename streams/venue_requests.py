"""What a venue is still to be asked: bounded, in the order of the commits, in as many lines as may go side by side.

A venue answers a request in about a thousandth of a second, and whoever waits for each answer sends no more than that
many. What ties two requests together is an account and an instrument, so those of others do not wait for each other;
of one account on one instrument each leaves when the one before it has been answered.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from schemas.event import Event
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested
from schemas.reconciliation import BooksRequested

_REQUESTS_WAITING_MAX: Final = 1000

Perform = Callable[[Event, int], Awaitable[None]]


class WaitingRequests:
    """What a venue is still to be asked, in the order of the commits: ``most`` requests, and a time between any two.

    An order or a cancel is never given up. A question about an order that is to be asked about anyway is not put twice,
    and of two times with nothing between them only the newer is told: so that a venue that hangs makes nothing grow.
    """

    def __init__(self, most: int = _REQUESTS_WAITING_MAX) -> None:
        self._most = most
        self._items: deque[tuple[Event | None, int]] = deque()
        self._asked: set[str] = set()
        self._requests = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether nothing more may be added now."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()

    def add(self, request: Event, origin: int) -> None:
        """Add a request; there must be room."""
        assert not self.full
        if isinstance(request, QueryRequested):
            if request.order_id in self._asked:
                return
            self._asked.add(request.order_id)
        self._requests += 1
        if self._requests >= self._most:
            self._room.clear()
        self._append(request, origin)

    def tell_time(self, now_ns: int) -> None:
        """Add a time (ns), in the place of one that waits last."""
        if self._items and self._items[-1][0] is None:
            self._items.pop()
        self._append(None, now_ns)

    def _append(self, request: Event | None, origin: int) -> None:
        self._items.append((request, origin))
        self._filled.set()

    async def next(self) -> tuple[Event | None, int]:
        """Take out the next: a request with its origin, or None with a time. A request counts until it is ``over``."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()

    def over(self, request: Event) -> None:
        """Note that a request has been performed: there is room for another, and its question may be put again."""
        self._requests -= 1
        self._room.set()
        if isinstance(request, QueryRequested):
            self._asked.discard(request.order_id)


class Lanes:
    """Performs requests side by side, those of an account on an instrument one after the other.

    What ``perform`` raises ends ``run``.

    How many there are at a time is bounded by the requests that wait: they count until they are over.
    """

    def __init__(self, requests: WaitingRequests, perform: Perform) -> None:
        self._requests = requests
        self._perform = perform
        self._newest: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Perform what waits, for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    request, origin = await self._requests.next()
                    assert request is not None, "only a capture is told the time"
                    # The books of a venue are of no instrument: nothing waits for them, and they for nothing.
                    lane = None if isinstance(request, BooksRequested) else (request.key, _instrument(request))
                    before = None if lane is None else self._newest.get(lane)
                    task = group.create_task(self._after(before, request, origin))
                    if lane is not None:
                        self._newest[lane] = task
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _after(self, before: "asyncio.Task[None] | None", request: Event, origin: int) -> None:
        if before is not None and not before.done():
            await asyncio.wait((before,))
        await self._perform(request, origin)
        self._requests.over(request)


def _instrument(request: Event) -> str:
    assert isinstance(request, SubmitRequested | CancelRequested | AmendRequested | QueryRequested)
    return request.instrument
