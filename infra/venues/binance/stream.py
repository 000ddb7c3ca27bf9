"""The user data stream: what becomes of our orders, told by the venue over a signed subscription.

The venue gave up listen keys for spot in February 2026; a subscription belongs to its connection, needs nothing to be
kept alive, and ends with the connection or by an event that says so. Whatever ends it, the next connection is made,
and what was missed in between is somebody's to ask about before it counts as open.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import msgspec

from infra.venues.binance.clock import VenueClock
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.rest import TROUBLE
from infra.venues.binance.wire import SocketMessage, UserEvent, decode

_METHOD: Final = "userDataStream.subscribe.signature"
_PING_S: Final = 10.0
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MAX_S: Final = 20.0
_OVER: Final = frozenset({"eventStreamTerminated", "listenKeyExpired", "serverShutdown"})


class SubscriptionRefused(Exception):
    """The venue does not take our subscription; ``code`` is its reason."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}"[:200])
        self.code = code


class UserStream:
    """Follows the stream for ever. ``hear`` takes each event; ``catch_up`` runs beside it after every connection.

    ``open`` is set while there is a subscription and nothing before it is left to be asked about; ``why`` is what ended
    the newest connection.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        clock: VenueClock,
        now: Callable[[], int],
        *,
        recv_window_ms: int,
        timeout_s: float,
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._clock = clock
        self._now = now
        self._recv_window_ms = recv_window_ms
        self._timeout_s = timeout_s
        self._requests = 0
        self.open = asyncio.Event()
        self.connections = 0
        self.why = "never connected"

    async def follow(
        self,
        session: aiohttp.ClientSession,
        hear: Callable[[UserEvent], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        """Connect, and connect again whenever the connection ends, until cancelled."""
        failures = 0
        while True:
            before = self.connections
            try:
                self.why = await self._connected(session, hear, catch_up)
            except SubscriptionRefused as refusal:
                self.why = f"the subscription was refused: {refusal}"
            except msgspec.DecodeError:
                self.why = "the venue said something that cannot be read"
            except (*TROUBLE, ValueError, ArithmeticError) as error:
                self.why = type(error).__name__
            finally:
                self.open.clear()
            failures = 0 if self.connections > before else failures + 1
            whole_s = min(_BACKOFF_FIRST_S * 2.0 ** min(failures, 16), _BACKOFF_MAX_S)
            await asyncio.sleep(whole_s * (0.5 + random.random() / 2))

    async def _connected(
        self,
        session: aiohttp.ClientSession,
        hear: Callable[[UserEvent], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> str:
        """Live through one connection; return why it ended."""
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
        opening = session.ws_connect(self._url, heartbeat=_PING_S, max_msg_size=1 << 20, timeout=timeout)
        async with asyncio.timeout(self._timeout_s):
            socket = await opening
        async with socket:
            async with asyncio.timeout(self._timeout_s):
                early = await self._subscribe(socket)
            self.connections += 1
            for event in early:
                await hear(event)
            reading = asyncio.create_task(self._read(socket, hear))
            catching_up = asyncio.create_task(self._open_after(catch_up))
            try:
                await asyncio.wait({reading, catching_up}, return_when=asyncio.FIRST_COMPLETED)
                if catching_up.done():
                    catching_up.result()
                return await reading
            finally:
                for task in (reading, catching_up):
                    task.cancel()
                await asyncio.gather(reading, catching_up, return_exceptions=True)

    async def _open_after(self, catch_up: Callable[[], Awaitable[None]]) -> None:
        await catch_up()
        self.open.set()

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> list[UserEvent]:
        """Subscribe; return the events that came before the answer. Raises SubscriptionRefused."""
        self._requests += 1
        params: dict[str, str | int] = {
            "apiKey": self._credentials.key,
            "recvWindow": self._recv_window_ms,
            "timestamp": self._clock.timestamp_ms(self._now()),
        }
        # The venue sorts the parameters by name before it checks the signature.
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        signed = {**params, "signature": self._credentials.sign(payload)}
        await socket.send_json({"id": self._requests, "method": _METHOD, "params": signed})
        early: list[UserEvent] = []
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionResetError("the connection ended before the answer")
            found = decode(message.data, SocketMessage)
            if found.event is not None:
                early.append(found.event)
            elif found.id == self._requests:
                if found.status == 200:
                    return early
                problem = found.error
                raise SubscriptionRefused(*(problem.code, problem.msg) if problem else (0, f"status {found.status}"))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, hear: Callable[[UserEvent], Awaitable[None]]) -> str:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                return "the connection failed"
            event = decode(message.data, SocketMessage).event
            if event is None:
                continue
            if event.e in _OVER:
                return event.e
            await hear(event)
        return f"the venue closed the connection with code {socket.close_code}"
