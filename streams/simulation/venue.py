"""A venue whose own record is the truth, and a connection to it that lies about it.

``agents/sim``'s exchange matches the orders; what lies between it and the platform loses, delays, doubles and
reorders. The client keeps the promises of ``VenuePort``, as the one over HTTP does: too late is NOT_SENT, no answer
is TIMED_OUT, a query without an answer is silence, and a process that connects anew hears only what comes from then on.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from msgspec.structs import replace

from agents.sim.market import SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_books import books_of
from agents.sim.venue_state import VenueTerms
from infra.venues.own_reports import VenueRequest, own_report
from schemas.event import Event
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks
from streams.simulation.faults import Dice
from streams.simulation.process import SimulatedProcess
from streams.simulation.virtual_time import EPOCH_NS, VirtualLoop

_TRAVEL_S: Final = (0.001, 0.005)
_TIMEOUT_S: Final = 0.3
_LATE_S: Final = (0.05, 0.6)
_QUEUE_MAX: Final = 10_000


class EndingEngine(PopulationEngine):
    """A market that comes to its end: the book stays, and nobody else acts any more."""

    def __init__(self, market: SimulatedMarket) -> None:
        super().__init__(market)
        self.ended = False

    @property
    def next_time_ns(self) -> int | None:
        """Return when the market's next step is due, None after its end."""
        return None if self.ended else super().next_time_ns


class LyingVenue:
    """The exchange in virtual time. ``submitted`` and ``amended`` count how often each request has arrived."""

    def __init__(self, loop: VirtualLoop, terms: VenueTerms, engine: EndingEngine, dice: Dice) -> None:
        self.core = SimulatedVenue(terms, engine)
        self.engine = engine
        self.dice = dice
        self.submitted: Counter[str] = Counter()
        self.amended: Counter[str] = Counter()
        self.market: asyncio.Queue[list[Event]] = asyncio.Queue()
        self.market_events = 0
        self._loop = loop
        self._listeners: list[VenueClient] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to move by itself."""
        self.catch_up()

    def catch_up(self) -> None:
        """Do what is due by now, tell it, and set the timer for what comes next."""
        for report in self.core.advance(self._loop.now_ns()):
            for listener in self._listeners:
                listener.hear(report)
        events = self.engine.take_events()
        if events:
            self.market_events += len(events)
            self.market.put_nowait(events)
        due_ns = self.core.next_due_ns
        if self._timer is not None:
            self._timer.cancel()
        if due_ns is not None:
            self._timer = self._loop.call_at((due_ns - EPOCH_NS) / 1e9 + 1e-6, self.catch_up)

    def listen(self, client: "VenueClient") -> None:
        """Tell a client every report from now on; the one before it has gone."""
        self._listeners = [listener for listener in self._listeners if not listener.process.dead]
        self._listeners.append(client)

    def forget(self, client: "VenueClient") -> None:
        """Tell a client nothing more."""
        self._listeners = [listener for listener in self._listeners if listener is not client]


class VenueClient:
    """One process's connection, a ``VenuePort``."""

    def __init__(self, loop: VirtualLoop, venue: LyingVenue, process: SimulatedProcess) -> None:
        self.process = process
        self._loop = loop
        self._venue = venue
        self._queue: asyncio.Queue[VenueReport | None] = asyncio.Queue(_QUEUE_MAX)
        self._heard_s = 0.0

    async def start(self) -> None:
        """Connect."""
        await self.process.gate()
        await asyncio.sleep(self._venue.dice.delay_s(*_TRAVEL_S))
        self._venue.listen(self)

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        """Send an order once, or report NOT_SENT, or report TIMED_OUT when it is not known to have arrived."""
        if now_ns > request.not_after_ns:
            self._tell(request, ReportKind.NOT_SENT, now_ns, "too old at the socket")
            return
        arrived = await self._travel()
        if arrived:
            self._venue.catch_up()
            self._venue.submitted[request.order_id] += 1
            self._venue.core.submit(request, self._loop.now_ns(), epoch, now_ns)
            self._venue.catch_up()
        if not await self._answered(arrived):
            self._tell(request, ReportKind.TIMED_OUT, self._loop.now_ns(), "no answer to the submit")

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        """Ask for a cancel, or report TIMED_OUT."""
        del now_ns
        arrived = await self._travel()
        if arrived:
            self._venue.catch_up()
            self._venue.core.cancel(request, self._loop.now_ns(), epoch)
            self._venue.catch_up()
        if not await self._answered(arrived):
            self._tell(request, ReportKind.TIMED_OUT, self._loop.now_ns(), "no answer to the cancel")

    async def amend(self, request: AmendRequested, *, epoch: int, now_ns: int) -> None:
        """Ask for new terms once, or report that it was not sent, or TIMED_OUT."""
        if now_ns > request.not_after_ns:
            self._tell(request, ReportKind.REPLACE_REJECTED, now_ns, "too old at the socket")
            return
        arrived = await self._travel()
        if arrived:
            self._venue.catch_up()
            self._venue.amended[request.amend_id] += 1
            self._venue.core.amend(request, self._loop.now_ns(), epoch, now_ns)
            self._venue.catch_up()
        if not await self._answered(arrived):
            self._tell(request, ReportKind.TIMED_OUT, self._loop.now_ns(), "no answer to the amend")

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        """Ask about an order; the answer may never come, or late, and then says what was so when it was given."""
        del now_ns
        if not await self._travel() or self._venue.dice.befalls("query_unanswered"):
            return
        self._venue.catch_up()
        answer = self._venue.core.query(request, self._loop.now_ns())
        if self._venue.dice.befalls("query_late"):
            self._loop.call_later(self._venue.dice.delay_s(*_LATE_S), self._put, answer)
        else:
            await asyncio.sleep(self._venue.dice.delay_s(*_TRAVEL_S))
            await self.process.gate()
            self._put(answer)

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        """Return what the venue has of us, or None when question or answer is lost; the answer may come late."""
        del now_ns
        if not await self._travel() or self._venue.dice.befalls("query_unanswered"):
            await asyncio.sleep(_TIMEOUT_S)
            await self.process.gate()
            return None
        self._venue.catch_up()
        answer = books_of(self._venue.core.state, request, self._loop.now_ns())
        late = self._venue.dice.befalls("query_late")
        await asyncio.sleep(self._venue.dice.delay_s(*(_LATE_S if late else _TRAVEL_S)))
        await self.process.gate()
        return replace(answer, available_at_ns=self._loop.now_ns())

    async def tell_time(self, now_ns: int) -> bool:
        """Refuse: this venue has a clock of its own."""
        raise AssertionError(f"a venue on virtual time is not told that it is {now_ns}")

    def hear(self, report: VenueReport) -> None:
        """Take a report off the wire: at once, late (behind later ones), or twice; or one on a stranger's order."""
        dice = self._venue.dice
        if dice.befalls("report_stray"):
            self._put(replace(report, order_id=f"not-ours-{report.order_id}"))
        if dice.befalls("report_late"):
            self._loop.call_later(dice.delay_s(*_LATE_S), self._put, report)
            return
        self._put(report)
        if dice.befalls("report_doubled"):
            self._loop.call_later(dice.delay_s(*_TRAVEL_S), self._put, report)

    async def reports(self) -> AsyncIterator[VenueReport]:
        """Yield what is heard, until ``close``."""
        while (report := await self._queue.get()) is not None:
            await self.process.gate()
            yield report

    async def close(self) -> None:
        """Disconnect."""
        self._venue.forget(self)
        self._queue.put_nowait(None)

    async def _travel(self) -> bool:
        """Let a request travel; return whether it arrived."""
        await self.process.gate()
        await asyncio.sleep(self._venue.dice.delay_s(*_TRAVEL_S))
        # What has left the socket arrives, whatever becomes of the process.
        return not self._venue.dice.befalls("request_lost")

    async def _answered(self, arrived: bool) -> bool:
        if not arrived or self._venue.dice.befalls("response_lost"):
            await asyncio.sleep(_TIMEOUT_S)
            await self.process.gate()
            return False
        await asyncio.sleep(self._venue.dice.delay_s(*_TRAVEL_S))
        await self.process.gate()
        return True

    def _tell(self, request: VenueRequest, kind: ReportKind, now_ns: int, reason: str) -> None:
        self._put(own_report(request, kind, now_ns, reason))

    def _put(self, report: VenueReport) -> None:
        if not self.process.dead:
            self._queue.put_nowait(replace(report, available_at_ns=self._loop.now_ns()))
