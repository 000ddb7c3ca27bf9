"""What 200 intents want, and a venue that lets happen to the order of each what its intent says."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from money_events import ONE

from schemas.event import Event, derive_id
from schemas.orders import CancelRequested, ReportKind, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.values import ZERO
from streams.engine.ports import Inlet

TAKING: Final = ("fill", "part", "expire", "reject")
RESTING: Final = ("rest", "fill later", "part later")


@dataclass(frozen=True, slots=True)
class Intent:
    """What one strategy wants: how much of an instrument (signed units), and what becomes of its order."""

    strategy: str
    instrument: str
    quantity: int
    fate: str

    @property
    def rests(self) -> bool:
        """Whether its order lies in the book."""
        return self.fate in RESTING


class VenueInMemory:
    """Takes orders and lets happen to each what its intent says. It is execution's companion."""

    def __init__(self, wanted: Mapping[str, Intent], dice: random.Random, tasks: "set[asyncio.Task[None]]") -> None:
        self._wanted = wanted
        self._dice = dice
        self._tasks = tasks
        self._inlet: Inlet
        self.taken: list[SubmitRequested] = []
        self._orders: dict[str, SubmitRequested] = {}
        self._serial = 0
        self.books_told = asyncio.Event()

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Begin."""
        del epoch
        self._inlet = inlet

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Take requests; what comes of them comes later."""
        del origins
        for request in requests:
            if isinstance(request, SubmitRequested):
                self.taken.append(request)
                self._orders[request.order_id] = request
                self._later(self._fulfil(request))
            elif isinstance(request, CancelRequested):
                self._later(self._cancel(self._orders[request.order_id]))
            elif isinstance(request, BooksRequested):
                told = {"venue": request.venue, "epoch": request.epoch, "attempt": request.attempt, "orders": ()}
                times = {"event_time_ns": request.available_at_ns, "available_at_ns": request.available_at_ns}
                self._later(self._tell(VenueBooks(key=request.venue, **times, **told)))

    def reached(self, now_ns: int) -> None:
        """It has no clock."""

    async def stop(self) -> None:
        """Nothing to give back."""

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fulfil(self, order: SubmitRequested) -> None:
        fate = self._wanted[order.strategy].fate
        await self._pause()
        if fate == "reject":
            await self._report(order, ReportKind.REJECTED, reason="no")
            return
        await self._report(order, ReportKind.ACCEPTED)
        await self._pause()
        if fate in ("part", "part later"):
            await self._trade(order, order.quantity * 2 // 5)
        elif fate in ("fill", "fill later"):
            await self._trade(order, order.quantity)
        if fate in ("part", "expire"):
            await self._pause()
            await self._report(order, ReportKind.EXPIRED)

    async def _cancel(self, order: SubmitRequested) -> None:
        await self._pause()
        if self._dice.random() < 0.3:
            # The fill was under way when the cancel came.
            await self._trade(order, order.quantity)
            await self._report(order, ReportKind.CANCEL_REJECTED)
        else:
            await self._report(order, ReportKind.CANCELED)

    async def _trade(self, order: SubmitRequested, quantity: int) -> None:
        facts = {"last_price": 100 * ONE, "last_quantity": quantity, "fee": ZERO, "fee_currency": "USD"}
        await self._report(order, ReportKind.TRADE, fill_id=f"fill-{self._serial}", **facts)

    async def _report(self, order: SubmitRequested, kind: ReportKind, **facts: Any) -> None:
        times = {"event_time_ns": order.available_at_ns, "available_at_ns": order.available_at_ns}
        ours = {"order_id": order.order_id, "instrument": order.instrument, "venue_order_id": f"v-{order.order_id}"}
        await self._tell(VenueReport(key=order.key, kind=kind, **times, **ours, **facts))

    async def _tell(self, event: Event) -> None:
        self._serial += 1
        identity = derive_id("venue", "report", self._serial)
        await self._inlet.inject(msgspec.structs.replace(event, event_id=identity))
        if isinstance(event, VenueBooks):
            self.books_told.set()

    async def _pause(self) -> None:
        await asyncio.sleep(self._dice.choice((0.0, 0.0005, 0.002, 0.01)))
