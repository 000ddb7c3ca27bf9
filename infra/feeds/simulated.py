"""The simulated market as a live feed: a WebSocket of market events, resynchronised at every connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
import msgspec
from msgspec.structs import replace

from infra.venues.wire import SnapshotAsked, decode_market
from schemas.event import Event
from schemas.feed import FeedRecord
from schemas.market import Quality, QualityKind

_BACKOFF_FIRST_S: Final = 0.05
_BACKOFF_MAX_S: Final = 2.0
_TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
_RAW_BYTES_MAX: Final = 4_096


class SimulatedFeed:
    """Market events of the simulated exchange, stamped with ``clock`` (ns) as they come in.

    ``generation`` rises with each connection, which opens with Quality(RESYNC) and a whole book per instrument.
    """

    def __init__(self, url: str, instruments: tuple[str, ...], *, clock: Callable[[], int]) -> None:
        self._url = url.rstrip("/") + "/v1/market"
        self.instruments = instruments
        self._clock = clock
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._position = 0
        self._closed = False
        self.generation = 0

    async def records(self) -> AsyncIterator[FeedRecord]:
        """Yield records until ``close``, reconnecting as often as it takes. Positions count from 0 over all of them."""
        backoff_s = _BACKOFF_FIRST_S
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_connect=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self._closed:
                try:
                    async with session.ws_connect(self._url, heartbeat=2.0, max_msg_size=0) as socket:
                        backoff_s = _BACKOFF_FIRST_S
                        self._socket = socket
                        self.generation += 1
                        yield self._record(self._resync())
                        async for message in socket:
                            if message.type is not aiohttp.WSMsgType.BINARY:
                                break
                            yield self._read(message.data)
                except _TROUBLE:
                    backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                self._socket = None
                if not self._closed:
                    await asyncio.sleep(backoff_s)

    async def request_snapshot(self, instrument: str) -> bool:
        """Ask for the whole book of an instrument; return whether the question left. The answer comes in order."""
        if self._socket is None or self._socket.closed:
            return False
        try:
            await self._socket.send_bytes(msgspec.json.encode(SnapshotAsked(instrument)))
        except (ConnectionError, aiohttp.ClientError):
            return False
        return True

    async def close(self) -> None:
        """End ``records``."""
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                await self._socket.close()

    def _resync(self) -> list[Event]:
        now_ns = self._clock()
        detail = f"connection {self.generation}"
        return [
            Quality(key=key, event_time_ns=now_ns, available_at_ns=now_ns, kind=QualityKind.RESYNC, detail=detail)
            for key in self.instruments
        ]

    def _read(self, message: bytes) -> FeedRecord:
        try:
            events = decode_market(message)
        except (msgspec.DecodeError, KeyError) as error:
            record = FeedRecord(position=self._position, events=(), refused=str(error), raw=message[:_RAW_BYTES_MAX])
            self._position += 1
            return record
        return self._record(events)

    def _record(self, events: list[Event]) -> FeedRecord:
        now_ns = self._clock()
        wanted = tuple(replace(event, available_at_ns=now_ns) for event in events if event.key in self.instruments)
        record = FeedRecord(position=self._position, events=wanted)
        self._position += 1
        return record
