"""The client of the simulated exchange: a venue port over HTTP and a WebSocket, with a time limit on everything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import msgspec
from msgspec.structs import replace

from infra.venues.binance.credentials import Credentials
from infra.venues.once import send_once
from infra.venues.own_reports import VenueRequest, own_report
from infra.venues.simulated_rest import TROUBLE, Answer, ExchangeRest
from infra.venues.wire import AmendBody, BooksBody, CancelBody, ClockBody, QueryBody, ReportLine, SubmitBody
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks

_QUEUE_MAX: Final = 10_000
_BACKOFF_FIRST_S: Final = 0.05
_BACKOFF_MAX_S: Final = 2.0


class VenueUnreachable(Exception):
    """The exchange could not be reached at the start, in one clear sentence."""


class SimulatedExchangeClient:
    """A venue port. ``clock`` stamps what comes in (wall clock); None keeps the exchange's own times (captures).

    An order that arrives more than ``window_ns`` after the time that it carries is to be refused. With ``credentials``
    every request is signed. While the exchange says *too many requests* none is made: an order ends as NOT_SENT then,
    and a cancel or a question is put again by whoever wants it.

    ``start`` opens the report stream at its present end: what happened before is asked about, order by order.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], int] | None,
        timeout_s: float = 1.0,
        window_ns: int | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._clock = clock
        self._window_ns = window_ns
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._rest: ExchangeRest | None = None
        self._queue: asyncio.Queue[VenueReport | None] = asyncio.Queue(_QUEUE_MAX)
        self._last_sequence: int | None = None
        self._streaming = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self.reconnects = 0

    async def start(self, limit_s: float = 10.0) -> None:
        """Connect to the report stream. Raises VenueUnreachable when that takes longer than ``limit_s``."""
        self._session = aiohttp.ClientSession(timeout=self._timeout, middlewares=(send_once,))
        self._rest = ExchangeRest(self._session, self._url, self._credentials)
        self._task = asyncio.create_task(self._follow_reports())
        self._task.add_done_callback(self._end_reports)
        try:
            async with asyncio.timeout(limit_s):
                await self._streaming.wait()
        except TimeoutError:
            await self.close()
            raise VenueUnreachable(f"The exchange at {self._url} did not answer within {limit_s:g} s.") from None

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        """Send an order once, or report NOT_SENT, or report TIMED_OUT when it is not known to have arrived."""
        if now_ns > request.not_after_ns:
            await self._report(request, ReportKind.NOT_SENT, now_ns, "too old at the socket")
            return
        body = SubmitBody(request, epoch, now_ns, self._window_ns)
        answer = await self._ask("POST", "/v1/order", body)
        if answer.refused:
            await self._report(request, ReportKind.NOT_SENT, now_ns, answer.refused)
        elif not answer.content:
            await self._report(request, ReportKind.TIMED_OUT, now_ns, "no answer to the submit")

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        """Ask for a cancel, or report TIMED_OUT."""
        body = CancelBody(request, epoch, now_ns)
        if not await self._call("DELETE", f"/v1/order/{request.order_id}", body):
            await self._report(request, ReportKind.TIMED_OUT, now_ns, "no answer to the cancel")

    async def amend(self, request: AmendRequested, *, epoch: int, now_ns: int) -> None:
        """Ask for new terms once, or report that it was not sent, or TIMED_OUT."""
        if now_ns > request.not_after_ns:
            await self._report(request, ReportKind.REPLACE_REJECTED, now_ns, "too old at the socket")
            return
        body = AmendBody(request, epoch, now_ns, self._window_ns)
        if not await self._call("PUT", f"/v1/order/{request.order_id}", body):
            await self._report(request, ReportKind.TIMED_OUT, now_ns, "no answer to the amend")

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        """Ask about an order; no answer, no report."""
        answer = await self._call("GET", f"/v1/order/{request.order_id}", QueryBody(request, now_ns))
        if answer:
            await self._queue.put(self._stamped(msgspec.json.decode(answer, type=VenueReport)))

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        """Return all that the exchange has of us, or None without an answer."""
        answer = await self._call("POST", "/v1/books", BooksBody(request, now_ns))
        if answer is None:
            return None
        books = msgspec.json.decode(answer, type=VenueBooks)
        return books if self._clock is None else replace(books, available_at_ns=self._clock())

    async def tell_time(self, now_ns: int) -> bool:
        """Tell an exchange that replays a capture what time it is; return whether it heard."""
        return bool(await self._call("POST", "/v1/clock", ClockBody(now_ns)))

    async def statement(self, path: str = "/v1/account") -> Any:
        """Return the exchange's own record (/v1/account, /v1/orders or /v1/fills), or None without an answer."""
        answer = await self._call("GET", path, None)
        return msgspec.json.decode(answer) if answer else None

    async def reports(self) -> AsyncIterator[VenueReport]:
        """Yield reports until ``close``. Raises msgspec.DecodeError when the exchange says what nobody understands."""
        while (report := await self._queue.get()) is not None:
            yield report
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Disconnect and end ``reports``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _end_reports(self, task: "asyncio.Task[None]") -> None:
        """End ``reports``, with what ended the stream if it was not ``close``; a full queue gives up its oldest."""
        if not task.cancelled():
            self._failure = task.exception()
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def _call(self, method: str, path: str, body: msgspec.Struct | None) -> bytes | None:
        """Return the answer's bytes, or None when there was none in time or it was no success."""
        return (await self._ask(method, path, body)).content

    async def _ask(self, method: str, path: str, body: msgspec.Struct | None) -> Answer:
        assert self._rest is not None, "start comes first"
        return await self._rest.ask(method, path, body)

    async def _report(self, request: VenueRequest, kind: ReportKind, now_ns: int, reason: str) -> None:
        """Queue what we know ourselves."""
        await self._queue.put(self._stamped(own_report(request, kind, now_ns, reason)))

    def _stamped(self, report: VenueReport) -> VenueReport:
        return report if self._clock is None else replace(report, available_at_ns=self._clock())

    async def _follow_reports(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                await self._stream_once()
                backoff_s = _BACKOFF_FIRST_S
            except TROUBLE:
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
            self.reconnects += 1
            await asyncio.sleep(backoff_s)

    async def _stream_once(self) -> None:
        assert self._session is not None and self._rest is not None
        after = "newest" if self._last_sequence is None else str(self._last_sequence)
        path = f"/v1/reports?after={after}"
        headers = self._rest.headers("GET", path)
        # A heartbeat of its own notices a peer that vanished without a word.
        async with self._session.ws_connect(self._url + path, heartbeat=2.0, max_msg_size=0, headers=headers) as stream:
            async with asyncio.timeout(self._timeout_s):
                hello = await stream.receive_json()
            self._last_sequence = int(hello["after"])
            self._streaming.set()
            async for message in stream:
                if message.type is not aiohttp.WSMsgType.TEXT and message.type is not aiohttp.WSMsgType.BINARY:
                    break
                line = msgspec.json.decode(message.data, type=ReportLine)
                if line.sequence > self._last_sequence:
                    await self._queue.put(self._stamped(line.report))
                    self._last_sequence = line.sequence
