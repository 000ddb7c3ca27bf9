"""Several venues as one port: a request goes to its instrument's, and all their reports come in one line."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from infra.venues import VenuePort
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks

_QUEUE_MAX: Final = 1_000


class RoutedVenues:
    """A venue port over others, by the name before the colon of an instrument; ``rest`` takes all other instruments."""

    def __init__(self, venues: Mapping[str, VenuePort], rest: VenuePort) -> None:
        self._venues = venues
        self._rest = rest
        self._ports = (*venues.values(), rest)

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        """Send an order to the venue of its instrument."""
        await self._of(request.instrument).submit(request, epoch=epoch, now_ns=now_ns)

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        """Ask the venue of the instrument for a cancel."""
        await self._of(request.instrument).cancel(request, epoch=epoch, now_ns=now_ns)

    async def amend(self, request: AmendRequested, *, epoch: int, now_ns: int) -> None:
        """Ask the venue of the instrument for new terms."""
        await self._of(request.instrument).amend(request, epoch=epoch, now_ns=now_ns)

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        """Ask the venue of the instrument what became of an order."""
        await self._of(request.instrument).query(request, now_ns=now_ns)

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        """Ask the venue that is meant."""
        return await self._venues.get(request.venue, self._rest).books(request, now_ns=now_ns)

    async def tell_time(self, now_ns: int) -> bool:
        """Tell every venue the time; return whether one heard."""
        return any([await port.tell_time(now_ns) for port in self._ports])

    async def reports(self) -> AsyncIterator[VenueReport]:
        """Yield the reports of all, each venue's in its order, until ``close``. Raises what one of them raises."""
        queue: asyncio.Queue[VenueReport | None] = asyncio.Queue(_QUEUE_MAX)
        followers = [asyncio.create_task(_follow(port, queue)) for port in self._ports]
        left = len(followers)
        try:
            while left:
                report = await queue.get()
                if report is not None:
                    yield report
                    continue
                left -= 1
                for follower in followers:
                    if follower.done():
                        follower.result()
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def close(self) -> None:
        """Close all."""
        for port in self._ports:
            await port.close()

    def _of(self, instrument: str) -> VenuePort:
        return self._venues.get(instrument.partition(":")[0], self._rest)


async def _follow(port: VenuePort, queue: "asyncio.Queue[VenueReport | None]") -> None:
    try:
        async for report in port.reports():
            await queue.put(report)
    except Exception:
        # The end must be noticed by who waits; what ended it is the task's result.
        asyncio.get_running_loop().call_soon(_put_end, queue)
        raise
    await queue.put(None)


def _put_end(queue: "asyncio.Queue[VenueReport | None]") -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
