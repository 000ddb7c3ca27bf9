"""Binance spot as a venue port: what it says is passed on once, what it does not say is never guessed.

A request is sent once. The time that it carries is the caller's, taken before the caller made sure that it may still
send, so that the venue itself refuses what a stalled and replaced sender still has in hand. While the user data stream
is down, the clock in doubt, or the venue's limits used up, no order leaves; cancels and questions do.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import aiohttp
from msgspec.structs import replace

from infra.feeds.decimals import parse_units
from infra.settings_venues import BinanceSettings
from infra.venues.binance.amends import BinanceAmends
from infra.venues.binance.books import BinanceBooks
from infra.venues.binance.clock import VenueClock
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.filters import refusal
from infra.venues.binance.inquiry import UNREADABLE, Inquiry
from infra.venues.binance.orders import KnownOrders, NotSupported, parameters_of, symbol_of
from infra.venues.binance.profiles import Addresses
from infra.venues.binance.reports import KnownOrder, of_end, of_event, of_placed, report_of
from infra.venues.binance.rest import DUPLICATE, NO_SUCH_ORDER, Answer, BinanceRest, Outcome
from infra.venues.binance.stream import UserStream
from infra.venues.binance.upkeep import Upkeep
from infra.venues.binance.wire import AccountFound, Canceled, OrderFound, Placed, UserEvent, decode
from infra.venues.once import send_once
from infra.venues.own_reports import stamp_own
from infra.venues.simulated import VenueUnreachable
from schemas.decisions import DenyReason
from schemas.event import derive_id, stamp_identity
from schemas.market import InstrumentDefined
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.values import NS_PER_MS

_QUEUE_MAX: Final = 10_000
_CANCEL_REJECTED: Final = -2011
_NOT_TRADED: Final = "the instrument is not traded at this venue"
_ORDER: Final = "/api/v3/order"
_Asked = SubmitRequested | CancelRequested


class BinanceVenue:
    """A venue port for the instruments given; ``now`` is our clock (ns since 1970), which also stamps what comes in.

    ``strangers`` counts events on orders that this process knows nothing of: other people's on the same account.
    """

    def __init__(
        self,
        settings: BinanceSettings,
        addresses: Addresses,
        credentials: Credentials,
        instruments: Iterable[InstrumentDefined],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._addresses = addresses
        self._credentials = credentials
        self._instruments = {item.key: item for item in instruments}
        self._now = now
        self._clock = VenueClock(settings.clock_skew_max_ms * NS_PER_MS, settings.clock_interval_ms * NS_PER_MS)
        self._orders = KnownOrders()
        self._queue: asyncio.Queue[VenueReport | None] = asyncio.Queue(_QUEUE_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None
        self._epoch = 0
        self._session: aiohttp.ClientSession
        self._rest: BinanceRest
        self._inquiry: Inquiry
        self._amends: BinanceAmends
        self._upkeep: Upkeep
        self._stream: UserStream
        self.strangers = 0

    async def start(self, limit_s: float = 15.0) -> None:
        """Learn the venue's clock, rules and limits, and subscribe. Raises VenueUnreachable in one sentence."""
        settings, timeout_s = self._settings, self._settings.request_timeout_ms / 1000
        shared = (self._credentials, self._clock, self._now)
        window_ms = settings.recv_window_ms
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, middlewares=(send_once,))
        self._rest = BinanceRest(self._session, self._addresses.rest_url, *shared, recv_window_ms=window_ms)
        self._inquiry = Inquiry(self._rest, self._orders, self._now, self._put)
        self._amends = BinanceAmends(self._rest, self._orders, self._inquiry, self._put)
        self._upkeep = Upkeep(settings, self._instruments.values(), self._rest, self._clock, self._now)
        self._stream = UserStream(self._addresses.socket_url, *shared, recv_window_ms=window_ms, timeout_s=timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                await self._begin()
        except TimeoutError:
            await self.close()
            where = f"Binance ({self._addresses.profile})"
            raise VenueUnreachable(f"{where} was not ready within {limit_s:g} s: {self._stream.why}.") from None
        except VenueUnreachable:
            await self.close()
            raise

    async def _begin(self) -> None:
        await self._upkeep.begin()
        for work in (self._stream.follow(self._session, self._hear, self._catch_up), self._upkeep.run()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._end_reports)
            self._tasks.append(task)
        await self._stream.open.wait()

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        """Send an order once; ``now_ns`` is the time it carries. See VenuePort for what is reported."""
        if now_ns > request.not_after_ns:
            await self._say(request, ReportKind.NOT_SENT, now_ns, "too old at the socket")
            return
        order = self._orders.know(request)
        if order.sent:
            return
        order.sent = True
        order.arrives_until_ns = now_ns + self._settings.arrives_within_ms * NS_PER_MS
        reason = self._fence(epoch) or self._unacceptable(request)
        if reason is not None:
            self._end(order)
            await self._say(request, ReportKind.REJECTED, now_ns, reason)
            return
        reason = self.closed(now_ns)
        if reason is None:
            answer = await self._rest.signed(
                "POST", _ORDER, parameters_of(request), weight=1, now_ns=now_ns, order=True
            )
            if answer.outcome is not Outcome.NOT_SENT:
                await self._take_placed(request, order, answer)
                return
            reason = answer.why
        self._end(order)
        drifted = reason is not None and reason == self._clock.refusal(now_ns)
        await self._say(request, ReportKind.NOT_SENT, now_ns, reason, DenyReason.CLOCK_DRIFT if drifted else None)

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        """Ask for a cancel; a refusal is followed by what the venue has of the order, if it says so."""
        order = self._orders.know(request)
        reason = self._fence(epoch) if request.instrument in self._instruments else _NOT_TRADED
        if reason is not None:
            await self._say(request, ReportKind.CANCEL_REJECTED, now_ns, reason)
            return
        params = {"symbol": order.symbol, "origClientOrderId": order.client_id or order.order_id}
        answer = await self._rest.signed("DELETE", _ORDER, params, weight=1, now_ns=now_ns)
        if answer.refused and answer.code == _CANCEL_REJECTED:
            await self._say(request, ReportKind.CANCEL_REJECTED, now_ns, answer.why)
            await self._inquiry.tell_status(order, derive_id(request.event_id, "binance/after a cancel", 0))
        elif answer.outcome is not Outcome.DONE or not await self._take_canceled(order, answer.body):
            await self._say(request, ReportKind.TIMED_OUT, now_ns, answer.why or "the answer cannot be read")

    async def amend(self, request: AmendRequested, *, epoch: int, now_ns: int) -> None:
        """Make a working order smaller; anything else is refused here."""
        traded = None if request.instrument in self._instruments else _NOT_TRADED
        await self._amends.perform(request, traded or self._fence(epoch) or self.closed(now_ns), now_ns)

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        """Ask about an order; no whole answer, no report."""
        order = self._orders.know(request)
        if request.instrument in self._instruments:
            report = await self._inquiry.ask(order, "", now_ns)
        else:
            report = report_of(order, ReportKind.NOT_FOUND, now_ns, "", reason=_NOT_TRADED)
            self._end(order)
        if report is not None:
            stamp_identity(report, request.event_id, f"binance/status/{now_ns}", request.attempt)
            await self._put(report)

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        """Return all that Binance has of us on the instruments of ``request``, or None without a whole answer."""
        books = await BinanceBooks(self._rest, self._orders, self._instruments).read(request, now_ns)
        return books if books is None else replace(books, available_at_ns=self._now())

    def closed(self, now_ns: int) -> str | None:
        """Return why no order leaves at ``now_ns``, or None when the way is open."""
        if not self._stream.open.is_set():
            return f"the user data stream is down: {self._stream.why}"
        return self._clock.refusal(now_ns)

    async def tell_time(self, now_ns: int) -> bool:
        """Refuse: this venue keeps its own time."""
        del now_ns
        return False

    async def account(self) -> AccountFound | None:
        """Return the balances, or None without an answer."""
        return (await self._rest.account())[0]

    async def open_orders(self, instrument: str) -> list[OrderFound] | None:
        """Return what works on an instrument, whoever sent it, or None without an answer."""
        return await self._rest.open_orders(symbol_of(instrument))

    async def reports(self) -> AsyncIterator[VenueReport]:
        """Yield reports until ``close``."""
        while (report := await self._queue.get()) is not None:
            yield report
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Disconnect and end ``reports``."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._session.close()

    def _end_reports(self, task: "asyncio.Task[None]") -> None:
        """End ``reports``, with what ended a task if it was not ``close``; a full queue gives up its oldest."""
        if not task.cancelled():
            self._failure = task.exception()
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def _fence(self, epoch: int) -> str | None:
        if epoch < self._epoch:
            return f"fenced: epoch {epoch} is below {self._epoch}"
        self._epoch = epoch
        return None

    def _unacceptable(self, request: SubmitRequested) -> str | None:
        """Return why the venue would refuse the order, as far as that can be known here."""
        rules = self._upkeep.rules.get(symbol_of(request.instrument))
        if rules is None or request.instrument not in self._instruments:
            return _NOT_TRADED
        try:
            params = parameters_of(request)
        except NotSupported as error:
            return str(error)
        symbol = rules.symbol
        return refusal(request, params["type"], rules, self._orders.working(symbol), self._orders.waiting(symbol))

    async def _take_placed(self, request: SubmitRequested, order: KnownOrder, answer: Answer) -> None:
        now_ns = self._now()
        if answer.outcome is Outcome.DONE:
            try:
                reports = list(of_placed(order, decode(answer.body, Placed)))
            except UNREADABLE:
                await self._say(request, ReportKind.TIMED_OUT, now_ns, "the answer cannot be read")
                return
            self._orders.settle(order)
            for report in reports:
                await self._put(report)
        elif answer.refused and DUPLICATE not in answer.why and answer.code not in (NO_SUCH_ORDER, _CANCEL_REJECTED):
            self._end(order)
            await self._say(request, ReportKind.REJECTED, now_ns, answer.why)
        else:
            # With this id there is an order, or nobody knows: it is asked about.
            await self._say(request, ReportKind.TIMED_OUT, now_ns, answer.why)

    async def _take_canceled(self, order: KnownOrder, body: bytes) -> bool:
        """Tell the end of an order; return whether the answer could be read."""
        try:
            found = decode(body, Canceled)
            time_ns = self._now() if found.transactTime is None else found.transactTime * NS_PER_MS
            order.venue_order_id = found.orderId
            reports = list(of_end(order, found.status, time_ns, parse_units(found.executedQty), None))
        except UNREADABLE:
            return False
        self._orders.settle(order)
        for report in reports:
            await self._put(report)
        return True

    async def _hear(self, event: UserEvent) -> None:
        if event.e != "executionReport":
            return
        # A cancel has an id of its own; the order's stands beside it.
        canceled = event.x == "CANCELED" and event.C not in (None, "", "null")
        order = self._orders.get(event.C or "" if canceled else event.c)
        if order is None or order.symbol != event.s:
            self.strangers += 1
            return
        for report in list(of_event(order, event)):
            await self._put(report)
        self._orders.settle(order)

    async def _catch_up(self) -> None:
        # What was before the first connection is asked about by name, order by order.
        if self._stream.connections > 1:
            await self._inquiry.catch_up(self._stream.connections)

    def _end(self, order: KnownOrder) -> None:
        order.ended = True
        self._orders.settle(order)

    async def _say(
        self, request: _Asked, kind: ReportKind, now_ns: int, reason: str | None, denied: DenyReason | None = None
    ) -> None:
        """Queue what we know ourselves."""
        report = replace(report_of(self._orders.know(request), kind, now_ns, "", reason=reason), deny_reason=denied)
        stamp_own(report, request, kind)
        await self._put(report)

    async def _put(self, report: VenueReport) -> None:
        await self._queue.put(replace(report, available_at_ns=self._now()))
