"""The exchange's sockets: REST for requests, WebSockets for reports and market data, one clock that drives it all."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from agents.sim.venue_state import FaultKind
from infra.metrics.metric import EXCHANGE
from infra.metrics.of_engine import BUILD_INFO
from infra.metrics.registry import Metrics, our_version
from infra.venues.account_simulated import STATEMENT_PATH
from infra.venues.wire import (
    AmendBody,
    BooksBody,
    CancelBody,
    ClockBody,
    QueryBody,
    ReportLine,
    SnapshotAsked,
    SubmitBody,
    encode_market,
)
from schemas.values import NS_PER_S
from streams.exchange_core import ExchangeCore
from streams.exchange_gate import METRICS_PATH, Gate, Handler
from streams.exchange_statement import statement_of

_LONGEST_SLEEP_S: Final = 0.05
_QUEUE_MAX: Final = 10_000
_Body = TypeVar("_Body", bound=msgspec.Struct)


class _Reader:
    """One WebSocket: what is to be sent on it, and the transport to cut."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE_MAX)
        self._transport = request.transport

    def cut(self) -> None:
        """Drop the connection as a failing network does: without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    async def serve(self, hear: Callable[[bytes | str], None]) -> None:
        """Send what is queued and hear what is said, until the connection ends."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen(hear))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionError):
            while not self.socket.closed:
                await self.socket.send_bytes(await self.queue.get())

    async def _listen(self, hear: Callable[[bytes | str], None]) -> None:
        async for message in self.socket:
            if message.type is WSMsgType.BINARY or message.type is WSMsgType.TEXT:
                hear(message.data)


class ExchangeServer:
    """Serves one exchange. A reader that falls too far behind is disconnected, and resumes or resynchronises."""

    def __init__(self, core: ExchangeCore) -> None:
        self._core = core
        self._metrics = Metrics(EXCHANGE, [EXCHANGE]).with_process()
        self._metrics.put(BUILD_INFO, 1, EXCHANGE, our_version(), "none", "none")
        self._wake = asyncio.Event()
        self._report_readers: set[_Reader] = set()
        self._market_readers: set[_Reader] = set()
        self._disconnects = core.disconnects
        self._submits = 0
        self._gate = Gate(core.config, self.disconnect)

    def application(self) -> web.Application:
        """Return the web application."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._gate.let_in(request, handler)

        app = web.Application(client_max_size=1 << 20, middlewares=[gate])
        app.add_routes(
            [
                web.post("/v1/order", self._submit),
                web.delete("/v1/order/{id}", self._cancel),
                web.put("/v1/order/{id}", self._amend),
                web.get("/v1/order/{id}", self._query),
                web.post("/v1/books", self._books),
                web.get("/v1/orders", self._orders),
                web.get("/v1/fills", self._fills),
                web.get("/v1/account", self._account),
                web.get(STATEMENT_PATH, self._statement),
                web.post("/v1/clock", self._clock),
                web.get("/v1/reports", self._reports),
                web.get("/v1/market", self._market),
                web.get(METRICS_PATH, self._tell),
            ]
        )
        return app

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        text, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def run(self) -> None:
        """Keep time until cancelled. A replay moves only when it is told to."""
        while True:
            self._catch_up()
            due_ns = self._core.next_due_ns
            wait_s = _LONGEST_SLEEP_S
            if due_ns is not None and self._core.config.mode == "full":
                wait_s = min(max((due_ns - time.time_ns()) / NS_PER_S, 0.0005), _LONGEST_SLEEP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()

    def _catch_up(self) -> None:
        self._advance(time.time_ns() if self._core.config.mode == "full" else self._core.now_ns)

    def _advance(self, now_ns: int) -> None:
        reports, events = self._core.advance(now_ns)
        for sequence, report in reports:
            self._publish(self._report_readers, msgspec.json.encode(ReportLine(sequence, report)))
        if events:
            self._publish(self._market_readers, encode_market(events))
        if self._core.disconnects != self._disconnects:
            self._disconnects = self._core.disconnects
            self.disconnect()

    def _publish(self, readers: set[_Reader], message: bytes) -> None:
        for reader in tuple(readers):
            if reader.queue.full():
                readers.discard(reader)
                reader.cut()
            else:
                reader.queue.put_nowait(message)

    def disconnect(self) -> None:
        """Drop every reader."""
        for readers in (self._report_readers, self._market_readers):
            for reader in readers:
                reader.cut()
            readers.clear()

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, SubmitBody)
        self._catch_up()
        self._core.submit(body)
        self._submits += 1
        self._wake.set()
        faults = self._core.config.faults
        if any(fault.kind is FaultKind.DROP_RESPONSE and fault.befalls(self._submits) for fault in faults):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return _json({"received": True}, 202)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, CancelBody)
        self._catch_up()
        self._core.cancel(body)
        self._wake.set()
        return _json({"received": True}, 202)

    async def _amend(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, AmendBody)
        self._catch_up()
        self._core.amend(body)
        self._wake.set()
        return _json({"received": True}, 202)

    async def _query(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, QueryBody)
        # What is due comes before the answer: "not found" must not be said of a request that is about to be taken.
        self._catch_up()
        return _json(self._core.query(body))

    async def _books(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, BooksBody)
        # As for a question: what is due comes first, so that orders, fills and positions are of one moment.
        self._catch_up()
        return _json(self._core.books(body))

    async def _orders(self, request: web.Request) -> web.StreamResponse:
        orders = self._core.orders()
        return _json([order for order in orders if order.live] if "open" in request.query else orders)

    async def _fills(self, _: web.Request) -> web.StreamResponse:
        fills = [
            {"order_id": order.order_id, "account": order.account, "instrument": order.instrument, "side": order.side}
            | msgspec.to_builtins(fill)
            for order in self._core.orders()
            for fill in order.fills
            if not fill.busted
        ]
        return _json(fills)

    async def _account(self, _: web.Request) -> web.StreamResponse:
        return _json(self._core.venue.state.accounts)

    async def _statement(self, _: web.Request) -> web.StreamResponse:
        # What is due comes first, so that orders, fills and accounts are of one moment.
        self._catch_up()
        return _json(statement_of(self._core.venue.state))

    async def _clock(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, ClockBody)
        if self._core.config.mode != "replay":
            raise web.HTTPConflict(text="this exchange keeps its own time")
        self._advance(body.now_ns)
        return _json({"now_ns": self._core.now_ns})

    async def _reports(self, request: web.Request) -> web.StreamResponse:
        newest = self._core.venue.state.report_sequence
        asked = request.query.get("after", "0")
        if asked != "newest" and not asked.isdecimal():
            raise web.HTTPBadRequest(text="after is a sequence number or 'newest'")
        after = newest if asked == "newest" else int(asked)
        socket = web.WebSocketResponse(heartbeat=5.0)
        await socket.prepare(request)
        await socket.send_json({"after": after})
        for sequence, report in tuple(self._core.history):
            if after < sequence:
                await socket.send_bytes(msgspec.json.encode(ReportLine(sequence, report)))
                after = sequence
        # What came while the past was being sent; nothing is awaited until the reader is registered.
        reader = _Reader(request, socket)
        for sequence, report in self._core.history:
            if after < sequence:
                reader.queue.put_nowait(msgspec.json.encode(ReportLine(sequence, report)))
        self._report_readers.add(reader)
        try:
            await reader.serve(lambda _: None)
        finally:
            self._report_readers.discard(reader)
        return socket

    async def _market(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=5.0)
        await socket.prepare(request)
        reader = _Reader(request, socket)
        for item in self._core.config.instruments:
            self._send_book(reader, item.key)
        self._market_readers.add(reader)
        try:
            await reader.serve(lambda message: self._hear(reader, message))
        finally:
            self._market_readers.discard(reader)
        return socket

    def _hear(self, reader: _Reader, message: bytes | str) -> None:
        try:
            asked = msgspec.json.decode(message, type=SnapshotAsked)
        except msgspec.DecodeError:
            reader.cut()
            return
        self._send_book(reader, asked.snapshot)

    def _send_book(self, reader: _Reader, instrument: str) -> None:
        book = self._core.snapshot(instrument)
        if book is not None and not reader.queue.full():
            reader.queue.put_nowait(encode_market([book]))


async def _read(request: web.Request, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f"{error}") from None


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
