"""The execution worker: approved orders to the venue after their commit, the venue's reports back as inputs.

The companion sends each committed request once and never again: what is not known to have arrived is UNKNOWN and
is asked about. An order leaves only while the sender may send (``sending_right.py``), and else ends as NOT_SENT.
Reports enter the shard's queue and are journaled with their bytes.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import psycopg

from infra.people import ReadPeople, reader_of
from infra.postgres.latencies import record_latencies
from infra.postgres.session import KeptSession
from infra.venues import VenuePort
from schemas.changes import Examined
from schemas.control import ControlCommand
from schemas.decisions import DenyReason
from schemas.event import Event, derive_id
from schemas.orders import (
    AmendRequested,
    CancelRequested,
    Claimed,
    QueryRequested,
    ReportKind,
    SubmitRequested,
    VenueReport,
)
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.topics import MARKET_MARK, ORDER_APPROVED
from schemas.values import NS_PER_MS, NS_PER_S
from streams.commands import PostgresCommands, follow_commands
from streams.composition import Run, build_stage
from streams.engine.ports import Inlet, StageHosting, StageKind
from streams.observers.execution import VenueTimes
from streams.sending_right import PostgresClaims, Refusal, SendingRight
from streams.venue_requests import Lanes, WaitingRequests

OpenVenue = Callable[[], Awaitable[VenuePort]]
_LATENCIES_KEPT: Final = 10_000
_LATENCY_INTERVAL_S: Final = 1.0
LOG: Final = logging.getLogger("tradermind.execution")
_ALERT: Final = "%s is not reconciled under epoch %d (question %d): nothing new is traded; see tradermind reconcile"
_ALERT_EVERY: Final = 12
"""From the third question on, which with the pauses between them is about once a minute."""
_CLOCK_STEP_NS: Final = 100 * NS_PER_MS
_TOLD_MAX: Final = 10_000
"""More than a batch can ask for: what does not fit ends the worker."""
_STALE_POLL_S: Final = 0.01
_STALE: Final = Refusal(DenyReason.NOT_SENT_IN_TIME, "it was not known in time whether it may be sent")

INJECTED: Final = (VenueReport, VenueBooks, Claimed, ControlCommand, Examined)
_INPUTS: Final = (ORDER_APPROVED, MARKET_MARK)
"""No commands: they come from the rows alone, so that nobody can slip one in, or make one be passed over, on Kafka."""


class Latencies(Protocol):
    """Where it is written how long orders took."""

    async def write(self, rows: Sequence[tuple[str, int]]) -> None:
        """Keep (order id, ns from the tick to the socket). Raises psycopg.OperationalError."""

    async def close(self) -> None:
        """Let go of it."""


class PostgresLatencies:
    """Latencies as rows of the platform's database."""

    def __init__(self, dsn: str) -> None:
        self._database = KeptSession(dsn)

    async def write(self, rows: Sequence[tuple[str, int]]) -> None:
        """Keep rows."""
        await record_latencies(self._database, rows)

    async def close(self) -> None:
        """Give the session back."""
        await self._database.close()


class VenueCompanion:
    """Performs venue requests, those on one instrument in the order of their commits, and injects what comes back."""

    def __init__(
        self,
        open_venue: OpenVenue,
        latencies: Latencies,
        right: SendingRight,
        *,
        on_capture: bool,
        now_ns: Callable[[], int] = time.time_ns,
        people: ReadPeople | None = None,
    ) -> None:
        self._open_venue = open_venue
        self._record = latencies
        self._right = right
        self._on_capture = on_capture
        self._people = people
        self.times = VenueTimes()
        self._now_ns = now_ns
        self._venue: VenuePort
        self._epoch = 0
        self._requests = WaitingRequests()
        self._told: asyncio.Queue[VenueReport | VenueBooks] = asyncio.Queue(_TOLD_MAX)
        self._told_ns = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._latencies: deque[tuple[str, int]] = deque(maxlen=_LATENCIES_KEPT)

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Connect to the venue and begin."""
        self._epoch = self._right.held_epoch = epoch
        self._venue = await self._open_venue()
        # People's commands come straight from where they are written: a kill must not wait for a broker.
        commands = follow_commands(self._right, self._people, inlet.inject)
        works = (self._send(), self._receive(inlet), self._tell(inlet), self._write_latencies(), commands)
        self._tasks = [asyncio.ensure_future(work) for work in works]

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Take committed requests; they are sent in order by a task of their own, so that the batch goes on.

        With too many waiting it does not, and takes no further input, until the venue has answered some; a venue that
        answers none for as long as a partition may stand still ends the worker by that.
        """
        for request, origin in zip(requests, origins, strict=True):
            while self._requests.full:
                await self._room()
            self._fail_with_a_task()
            self._requests.add(request, origin)

    async def _room(self) -> None:
        """Wait until the sender has taken something out, or has ended."""
        room = asyncio.ensure_future(self._requests.room())
        try:
            await asyncio.wait({room, self._tasks[0]}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
        self._fail_with_a_task()

    def _fail_with_a_task(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    def reached(self, now_ns: int) -> None:
        """On a capture, pass the capture's time on to the venue, whose book moves with it."""
        if self._on_capture and now_ns - self._told_ns >= _CLOCK_STEP_NS:
            self._told_ns = now_ns
            self._requests.tell_time(now_ns)

    async def stop(self) -> None:
        """End and let go of the venue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._record.close()
        await self._right.close()
        if self._tasks:
            await self._venue.close()

    async def _send(self) -> None:
        if not self._on_capture:
            await Lanes(self._requests, self._perform).run()
        while True:
            # A venue that is told the time hears it and everything else in one line.
            request, origin = await self._requests.next()
            if request is None:
                await self._venue.tell_time(origin)
            else:
                await self._perform(request, origin)
                self._requests.over(request)

    async def _perform(self, request: Event, origin: int) -> None:
        now_ns = self._time_of(request)
        if isinstance(request, SubmitRequested | AmendRequested):
            await self._order(request, origin)
        elif isinstance(request, CancelRequested):
            await self._venue.cancel(request, epoch=self._epoch, now_ns=now_ns)
        elif isinstance(request, QueryRequested):
            await self._venue.query(request, now_ns=now_ns)
        elif isinstance(request, BooksRequested):
            if request.attempt % _ALERT_EVERY == 3:
                LOG.warning(_ALERT, request.venue, request.epoch, request.attempt)
            books = await self._venue.books(request, now_ns=now_ns)
            if books is not None:
                self._told.put_nowait(books)

    async def _order(self, request: SubmitRequested | AmendRequested, origin: int) -> None:
        """Send an order, or what is to be changed of one, or keep it back for good."""
        while True:
            # Before the checks: whoever is stalled after them, and replaced, is refused by the venue for this time.
            now_ns = self._time_of(request)
            refusal = self._right.refusal(request)
            if refusal is None and self._right.fresh():
                break
            if refusal is not None or now_ns > request.not_after_ns:
                self._told.put_nowait(_not_sent(request, now_ns, refusal or _STALE))
                return
            await asyncio.sleep(_STALE_POLL_S)
        if isinstance(request, AmendRequested):
            await self._venue.amend(request, epoch=self._epoch, now_ns=now_ns)
            return
        if origin:
            took_ns = self._now_ns() - origin
            self._latencies.append((request.order_id, took_ns))
            self.times.tick_to_order_s.append(took_ns / NS_PER_S)
        self.times.sent(request.order_id, request.instrument)
        await self._venue.submit(request, epoch=self._epoch, now_ns=now_ns)

    def _time_of(self, request: Event) -> int:
        # On a capture time is the capture's: the request's own is when the capture's clock saw it.
        return request.available_at_ns if self._on_capture else self._now_ns()

    async def _tell(self, inlet: Inlet) -> None:
        # A task of its own: a full shard waits for the sender, which therefore must never wait for the shard.
        while True:
            await inlet.inject(await self._told.get())

    async def _receive(self, inlet: Inlet) -> None:
        async for report in self._venue.reports():
            self.times.heard(report.order_id)
            await inlet.inject(report)

    async def _write_latencies(self) -> None:
        while True:
            await asyncio.sleep(_LATENCY_INTERVAL_S)
            rows = list(self._latencies)
            if rows:
                try:
                    await self._record.write(rows)
                except psycopg.OperationalError:
                    continue
                for _ in rows:
                    self._latencies.popleft()


def _not_sent(request: SubmitRequested | AmendRequested, now_ns: int, refusal: Refusal) -> VenueReport:
    kind = ReportKind.REPLACE_REJECTED if isinstance(request, AmendRequested) else ReportKind.NOT_SENT
    return VenueReport(
        key=request.key,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=derive_id(request.event_id, f"sender/{kind}", 0),
        cause_id=request.event_id,
        order_id=request.order_id,
        instrument=request.instrument,
        kind=kind,
        reason=refusal.text,
        deny_reason=refusal.reason,
        amend_id=request.amend_id if isinstance(request, AmendRequested) else None,
    )


def hosting(run: Run, open_venue: OpenVenue, dsn: str, times: VenueTimes | None = None) -> StageHosting:
    """Return how a worker hosts the execution stage; ``times`` is where its companion writes how long orders take."""

    def companion() -> VenueCompanion:
        made = VenueCompanion(
            open_venue,
            PostgresLatencies(dsn),
            SendingRight(PostgresCommands(dsn), PostgresClaims(dsn, "execution", "0")),
            on_capture=run.on_capture,
            people=reader_of(run.settings.people.allow_list_file),
        )
        made.times = made.times if times is None else times
        return made

    return StageHosting(
        make_stage=lambda: build_stage(run, "execution"),
        name="execution",
        topics=_INPUTS,
        kind=StageKind.OUTBOX,
        wall_clock=not run.on_capture,
        event_types=INJECTED,
        companion=companion,
    )
