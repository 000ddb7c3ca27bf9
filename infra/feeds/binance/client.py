"""Binance live: public streams over a WebSocket and depth snapshots over REST, in one order of receipt.

Every connection is a new generation. It opens with Quality(RESYNC) for each instrument and asks for a snapshot of
each; differences are handed over as they come, for ingestion knows how to join them to the snapshot. What could not be
read in time is not kept: a reader that falls too far behind loses the connection, and knows it by the next RESYNC.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, Self

import aiohttp
import msgspec

from infra.feeds import RAW_BYTES_MAX, FeedFailed
from infra.feeds.binance.endpoints import ConnectionPolicy, Endpoints, endpoints_for
from infra.feeds.binance.parse import Unusable, parse_message
from infra.feeds.binance.snapshots import SnapshotRequests
from infra.feeds.mailbox import Mailbox
from schemas.event import Event
from schemas.feed import FeedRecord
from schemas.market import BookSnapshot, Quality, QualityKind

_TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
_WATCH_S: Final = 1.0
_DEFAULT_POLICY: Final = ConnectionPolicy()
_log: Final = logging.getLogger(__name__)


class _Received(msgspec.Struct, frozen=True):
    connection: int
    events: tuple[Event, ...]
    refused: str | None = None
    raw: bytes = b""


class BinanceFeed:
    """The public market data of instruments (``VENUE:SYMBOL``, one venue) as a Feed. ``clock`` gives ns since 1970.

    ``generation`` is that of the record handed over last: 0 before the first connection, then one more for each.
    """

    replayable: Final = False

    def __init__(
        self,
        endpoints: Endpoints,
        instruments: Sequence[str],
        policy: ConnectionPolicy = _DEFAULT_POLICY,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self._clock = clock
        self._symbols = {name: name.partition(":")[2] for name in instruments}
        self._mailbox: Mailbox[_Received] = Mailbox(policy.waiting_records_max)
        self._requests: SnapshotRequests | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connection = 0
        self._turned_away = 0
        self._newest_s = 0.0
        self._jitter = random.Random()
        self._closed = False
        self.instruments = tuple(instruments)
        self.generation = 0

    @classmethod
    def from_settings(cls, websocket_url: str | None, rest_url: str | None, instruments: Sequence[str]) -> Self:
        """Return the feed of these instruments; an address that is null is Binance's own. Raises FeedFailed."""
        return cls(endpoints_for(instruments, websocket_url, rest_url), instruments)

    @property
    def name(self) -> str:
        """Return the venue."""
        return self._endpoints.venue

    async def records(self, start: int = 0) -> AsyncIterator[FeedRecord]:
        """Yield records until ``close``; positions count on from ``start``.

        Raises FeedFailed when the venue cannot be reached at the first attempts; later it is tried for ever.
        """
        if self._connecting is not None:
            raise RuntimeError("a live feed is read once")
        self._connecting = asyncio.create_task(self._keep_connected())
        self._connecting.add_done_callback(lambda _: self._mailbox.end())
        if self._closed:
            self._connecting.cancel()
        position = start
        try:
            async for received in self._mailbox.items():
                self.generation = received.connection
                yield FeedRecord(position=position, events=received.events, refused=received.refused, raw=received.raw)
                position += 1
            if not self._connecting.cancelled():
                self._connecting.result()
        finally:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, FeedFailed):
                await self._connecting

    async def request_snapshot(self, instrument: str) -> bool:
        """Ask for the whole book of an instrument; return whether there is a connection on which it will come.

        Requests are made one at a time, ``snapshot_interval_s`` apart; asking again meanwhile changes nothing.
        """
        symbol = self._symbols.get(instrument)
        if self._requests is None or symbol is None:
            return False
        self._requests.want(symbol)
        return True

    async def close(self) -> None:
        """End ``records`` after what has been received."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()

    async def _keep_connected(self) -> None:
        failures = 0
        why = "the first connection"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._policy.connect_timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self._mailbox.wait_for_room()
                self._newest_s = 0.0
                try:
                    why = await self._connected(session, why)
                except _TROUBLE as error:
                    why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                    self._give_up_if_never_reached(failures + 1, error, why)
                # A connection that brought nothing is a failure too: it must not be repeated without a pause.
                failures = 0 if self._newest_s else failures + 1
                pause_s = self._policy.backoff_s(failures, self._jitter.random())
                _log.warning("%s: connection ended: %s; next in %.1f s", self.name, why, pause_s)
                await asyncio.sleep(pause_s)

    def _give_up_if_never_reached(self, attempts: int, error: Exception, why: str) -> None:
        if self._connection:
            return
        refused = isinstance(error, aiohttp.WSServerHandshakeError) and 400 <= error.status < 500
        if refused or attempts >= self._policy.first_attempts:
            sentence = f"{self._endpoints.websocket_url} cannot be used as Binance's market data: {why[:200]}."
            raise FeedFailed(sentence) from error

    async def _connected(self, session: aiohttp.ClientSession, why: str) -> str:
        """Live through one connection; return why it ended."""
        policy = self._policy
        opening = session.ws_connect(
            self._endpoints.stream_url(tuple(self._symbols.values())),
            heartbeat=policy.ping_interval_s,
            max_msg_size=policy.message_bytes_max,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        )
        async with asyncio.timeout(policy.connect_timeout_s):
            socket = await opening
        async with socket:
            self._connection += 1
            told = self._mailbox.offer(_Received(self._connection, self._resync(why)))
            assert told, "there was room before the connection was opened, and nobody else writes"
            self._requests = SnapshotRequests(session, self._endpoints, policy, self._take_snapshot)
            for symbol in self._symbols.values():
                self._requests.want(symbol)
            try:
                return await _first_of(self._read(socket), self._watch(), self._requests.run())
            finally:
                self._requests = None

    def _resync(self, why: str) -> tuple[Event, ...]:
        now_ns = self._clock()
        lost = f"; {self._turned_away} messages found no room" if self._turned_away else ""
        self._turned_away = 0
        return tuple(
            Quality(
                key=name,
                event_time_ns=now_ns,
                available_at_ns=now_ns,
                kind=QualityKind.RESYNC,
                detail=f"connection {self._connection} after: {why[:200]}{lost}",
            )
            for name in self.instruments
        )

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.ERROR:
                return f"the socket failed: {socket.exception()}"
            self._newest_s = time.monotonic()
            if not self._keep(self._received(message.data, "")):
                return f"the reader fell {self._policy.waiting_records_max} messages behind"
        return f"the venue closed the connection with code {socket.close_code}"

    def _received(self, body: str | bytes, symbol: str) -> _Received:
        received_at_ns = self._clock()
        try:
            event = parse_message(body, received_at_ns, self._endpoints.venue, symbol)
        except Unusable as refusal:
            raw = body if isinstance(body, bytes) else body.encode()
            return _Received(self._connection, (), str(refusal), raw[:RAW_BYTES_MAX])
        return _Received(self._connection, (event,))

    def _take_snapshot(self, symbol: str, body: bytes) -> bool:
        received = self._received(body, symbol)
        usable = bool(received.events) and isinstance(received.events[0], BookSnapshot)
        return self._keep(received) and usable

    def _keep(self, received: _Received) -> bool:
        """Put a message where the reader takes it; what finds no room is counted, and told by the next RESYNC."""
        kept = self._mailbox.offer(received)
        self._turned_away += not kept
        return kept

    async def _watch(self) -> str:
        """Return when the connection has been silent, or has lasted, for too long."""
        policy = self._policy
        opened_s = time.monotonic()
        step_s = min(_WATCH_S, policy.silence_timeout_s / 4, policy.lifetime_s / 4)
        while True:
            await asyncio.sleep(step_s)
            now_s = time.monotonic()
            if now_s - opened_s >= policy.lifetime_s:
                return f"it had lasted for {policy.lifetime_s:g} s"
            if now_s - max(opened_s, self._newest_s) >= policy.silence_timeout_s:
                return f"nothing came for {policy.silence_timeout_s:g} s"


async def _first_of(*works: Coroutine[Any, Any, str]) -> str:
    """Return what the first of them returns, or raise what it raises, with the others cancelled and ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
