"""The simulated market as a live feed that breaks off now and then: what came meanwhile is gone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from msgspec.structs import replace

from schemas.event import Event
from schemas.feed import FeedRecord
from schemas.market import Quality, QualityKind
from streams.simulation.process import SimulatedProcess
from streams.simulation.venue import LyingVenue
from streams.simulation.virtual_time import VirtualLoop

_RECONNECT_S: Final = (0.02, 0.3)


class SimulatedMarketFeed:
    """A ``LiveFeed``: each connection opens with Quality(RESYNC) and whole books, as the one over a WebSocket does."""

    def __init__(
        self, loop: VirtualLoop, venue: LyingVenue, instruments: tuple[str, ...], process: SimulatedProcess
    ) -> None:
        self.generation = 0
        self._loop = loop
        self._venue = venue
        self._instruments = instruments
        self._process = process
        self._position = 0
        self._asked: list[str] = []
        self._closed = False

    async def records(self) -> AsyncIterator[FeedRecord]:
        """Yield records until closed; the connection breaks wherever the dice say."""
        while not self._closed:
            await self._process.gate()
            self.generation += 1
            market = self._venue.market
            while not market.empty():  # Nobody hears what is said before he has connected.
                market.get_nowait()
            yield self._record(self._resync())
            yield self._record(self._books(self._instruments))
            while not self._venue.dice.befalls("feed_broken"):
                events = await market.get()
                await self._process.gate()
                asked, self._asked = self._asked, []
                yield self._record([*events, *self._books(asked)])
            await asyncio.sleep(self._venue.dice.delay_s(*_RECONNECT_S))

    async def request_snapshot(self, instrument: str) -> bool:
        """Ask for a whole book: it comes with the next message."""
        self._asked.append(instrument)
        return True

    async def close(self) -> None:
        """End."""
        self._closed = True

    def _books(self, instruments: tuple[str, ...] | list[str]) -> list[Event]:
        now_ns = self._loop.now_ns()
        return [self._venue.engine.snapshot(name, now_ns) for name in instruments]

    def _resync(self) -> list[Event]:
        now_ns = self._loop.now_ns()
        detail = f"connection {self.generation}"
        return [
            Quality(key=key, event_time_ns=now_ns, available_at_ns=now_ns, kind=QualityKind.RESYNC, detail=detail)
            for key in self._instruments
        ]

    def _record(self, events: list[Event]) -> FeedRecord:
        now_ns = self._loop.now_ns()
        stamped = tuple(replace(event, available_at_ns=now_ns) for event in events)
        record = FeedRecord(position=self._position, events=stamped)
        self._position += 1
        return record
