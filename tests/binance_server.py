"""A local Binance: replays a recorded capture as combined stream and REST depth, with the faults that real ones have.

Its REST answer is the true book at the moment of asking: the recorded snapshot with every difference applied that was
streamed since (and the recorded snapshot itself as long as the stream is older than it).
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web

from infra.feeds.binance.endpoints import Endpoints
from infra.feeds.binance.parse import SPOT

_DEPTH_PATH = "/api/v3/depth"
_AT_ONCE = 50


@dataclass
class Faults:
    """What goes wrong. Counts of messages are per connection; lists are used up from the front.

    ``disconnect_after`` ends one connection each (``abruptly``: without a closing handshake); ``lost_between`` are the
    messages that the venue sent while nobody was connected. ``garbage_at`` are numbers of recorded messages that are
    preceded by garbage. ``statuses`` are answered to the first REST requests, ``handshakes`` to the first WebSocket
    ones. ``mute_after`` messages in all, nothing more comes, though the socket lives.
    """

    disconnect_after: list[int] = field(default_factory=list)
    abruptly: bool = False
    lost_between: int = 0
    garbage_at: frozenset[int] = frozenset()
    garbage: str = '{"stream":"btcusdt@trade","data":{"e":"trade","p":NaN}}'
    snapshot_delay_s: float = 0.0
    statuses: list[int] = field(default_factory=list)
    retry_after_s: float = 0.0
    rest_garbage: int = 0
    handshakes: list[int] = field(default_factory=list)
    mute_after: int | None = None
    ping_s: float | None = None


class BinanceServer:
    """One running local venue. ``sent`` are the bodies per connection; ``asked`` the REST requests' times (loop)."""

    def __init__(self, capture: Path, limit: int, faults: Faults) -> None:
        self.faults = faults
        self.sent: list[list[str]] = []
        self.asked: list[float] = []
        self.queries: list[str] = []
        self.agreed_closes = 0
        self._next = 0
        self._bodies: list[str] = []
        self._book: dict[str, Any] = {}
        with gzip.open(capture, "rt", encoding="ascii") as lines:
            for line in lines:
                body = line.partition(" ")[2].rstrip("\n")
                if "lastUpdateId" in body:
                    self._book = json.loads(body)
                elif len(self._bodies) < limit:
                    self._bodies.append(body)
                if len(self._bodies) == limit and self._book:
                    break
        self._sides = {side: dict(self._book.get(side, [])) for side in ("bids", "asks")}

    @property
    def exhausted(self) -> bool:
        """Whether every recorded message was streamed (or lost)."""
        return self._next >= len(self._bodies)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Stream from where the last connection ended."""
        self.queries.append(request.query_string)
        if self.faults.handshakes:
            return _answer(self.faults.handshakes.pop(0))
        socket = web.WebSocketResponse(heartbeat=self.faults.ping_s)
        await socket.prepare(request)
        sent: list[str] = []
        self.sent.append(sent)
        until = self.faults.disconnect_after.pop(0) if self.faults.disconnect_after else None
        listening = asyncio.ensure_future(socket.receive())
        try:
            await self._replay(socket, sent, until, listening)
        finally:
            listening.cancel()
        if until is not None and len(sent) >= until:
            for body in self._bodies[self._next : self._next + self.faults.lost_between]:
                self._apply(body)
            self._next += self.faults.lost_between
            if self.faults.abruptly:
                assert request.transport is not None
                request.transport.abort()
            else:
                await socket.close(code=WSCloseCode.GOING_AWAY)
        else:
            self.agreed_closes += 1
        return socket

    async def _replay(
        self, socket: web.WebSocketResponse, sent: list[str], until: int | None, listening: "asyncio.Future[Any]"
    ) -> None:
        faults = self.faults
        while not listening.done() and (until is None or len(sent) < until):
            if self.exhausted or (faults.mute_after is not None and self._next >= faults.mute_after):
                await asyncio.wait([listening], timeout=0.05)
                continue
            body = self._bodies[self._next]
            if self._next in faults.garbage_at:
                await socket.send_str(faults.garbage)
                sent.append(faults.garbage)
            await socket.send_str(body)
            sent.append(body)
            self._next += 1
            self._apply(body)
            if self._next % _AT_ONCE == 0:
                await asyncio.sleep(0.001)

    def _apply(self, body: str) -> None:
        if '"depthUpdate"' not in body or not self._book:
            return
        update = json.loads(body)["data"]
        if update["u"] <= self._book["lastUpdateId"]:
            return
        self._book["lastUpdateId"] = update["u"]
        for side, name in (("bids", "b"), ("asks", "a")):
            for price, quantity in update[name]:
                if float(quantity):
                    self._sides[side][price] = quantity
                else:
                    self._sides[side].pop(price, None)

    async def depth(self, request: web.Request) -> web.StreamResponse:
        """Answer with the book as it is when the answer leaves."""
        self.asked.append(asyncio.get_running_loop().time())
        assert request.query["symbol"] == "BTCUSDT"
        await asyncio.sleep(self.faults.snapshot_delay_s)
        if self.faults.statuses:
            return _answer(self.faults.statuses.pop(0), {"Retry-After": str(self.faults.retry_after_s)})
        if self.faults.rest_garbage:
            self.faults.rest_garbage -= 1
            return web.Response(text='{"code":-1003,"msg":"busy"}')
        bids = sorted(self._sides["bids"].items(), key=lambda level: -float(level[0]))
        asks = sorted(self._sides["asks"].items(), key=lambda level: float(level[0]))
        limit = int(request.query["limit"])
        return web.json_response(
            {"lastUpdateId": self._book["lastUpdateId"], "bids": bids[:limit], "asks": asks[:limit]}
        )


def _answer(status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text="no", headers=headers)


@asynccontextmanager
async def binance_server(
    capture: Path, limit: int = 10_000, faults: Faults | None = None, venue: str = SPOT
) -> AsyncIterator[tuple[BinanceServer, Endpoints]]:
    """Serve the first ``limit`` messages of a capture on a free port; give the server and its addresses."""
    server = BinanceServer(capture, limit, faults or Faults())
    app = web.Application()
    app.router.add_get("/stream", server.stream)
    app.router.add_get(_DEPTH_PATH, server.depth)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield server, Endpoints(venue, f"ws://{host}:{port}", f"http://{host}:{port}", _DEPTH_PATH)
    finally:
        await runner.cleanup()
