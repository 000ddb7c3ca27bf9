"""What the sender must know before an order leaves, and what becomes of an order of which it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from infra.postgres.commands import StoredCommand
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.decisions import DenyReason
from schemas.event import Event
from schemas.orders import CancelRequested, ReportKind, SubmitRequested, VenueReport
from schemas.values import NS_PER_MS, Level, OrderType, Side, TimeInForce
from streams.execution import VenueCompanion
from streams.sending_right import AGE_MAX_S, SendingRight
from streams.simulation.parts import Unforgetting
from streams.simulation.virtual_time import VirtualLoop, run_virtually


class Database:
    """The rows that the executor reads: people's commands and its claim. ``away``: nobody answers."""

    def __init__(self) -> None:
        self.rows: list[ControlCommand] = []
        self.epoch = 3
        self.away = False

    def order(self, level: Level, scope: ScopeKind = ScopeKind.GLOBAL, target: str = "*") -> None:
        number = len(self.rows) + 1
        self.rows.append(
            ControlCommand(
                key=f"c{number}",
                event_time_ns=1,
                available_at_ns=1,
                event_id=f"c{number}",
                command_id=f"c{number}",
                author="ann",
                reason="drill",
                action=ControlAction.SET_LEVEL,
                scope=scope,
                target=target,
                level=level,
                ordinal=number,
            )
        )

    async def after(self, ordinal: int) -> list[StoredCommand]:
        self._answer()
        return [StoredCommand(row.ordinal, row) for row in self.rows if row.ordinal > ordinal]

    async def newest_epoch(self) -> int:
        self._answer()
        return self.epoch

    async def close(self) -> None:
        """Nothing to close."""

    def _answer(self) -> None:
        if self.away:
            raise psycopg.OperationalError("away")


class Venue:
    """Hears what is sent. While ``busy``, whoever sends waits with the request at the socket."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.heard: list[tuple[str, int]] = []
        self.now_ns = now_ns
        self.free = asyncio.Event()
        self.free.set()

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        self.heard.append((request.order_id, now_ns))
        await self.free.wait()

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        self.heard.append((f"cancel {request.order_id}", now_ns))

    async def reports(self) -> Any:
        await asyncio.Event().wait()
        yield

    async def close(self) -> None:
        """Nothing to close."""


class Inlet:
    """Keeps the reports that are injected."""

    def __init__(self) -> None:
        self.reports: list[VenueReport] = []

    async def inject(self, event: Event) -> None:
        if isinstance(event, VenueReport):
            self.reports.append(event)


class Sender:
    """A companion at work in virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.database = Database()
        self.venue = Venue(loop.now_ns)
        self.inlet = Inlet()
        self.right = SendingRight(self.database, self.database)

        async def open_venue() -> Any:
            return self.venue

        self.companion = VenueCompanion(open_venue, Unforgetting(), self.right, on_capture=False, now_ns=loop.now_ns)

    async def send(self, order_id: str, commands_through: int = 0, life_ms: int = 500, *, closes: bool = False) -> None:
        now_ns = self.loop.now_ns()
        request = SubmitRequested(
            key="main",
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id=f"{order_id:0>32}",
            order_id=order_id,
            instrument="SIM:BTCUSD",
            strategy="alpha",
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            limit_price=1,
            quantity=1,
            not_after_ns=now_ns + life_ms * NS_PER_MS,
            commands_through=commands_through,
            reduce_only=closes,
        )
        await self.companion.perform([request], [0])

    @property
    def sent(self) -> list[str]:
        return [what for what, _ in self.venue.heard]

    @property
    def kept_back(self) -> list[tuple[str, ReportKind, DenyReason | None]]:
        return [(report.order_id, report.kind, report.deny_reason) for report in self.inlet.reports]


def play(scenario: Callable[[Sender], Awaitable[None]]) -> None:
    loop = VirtualLoop()

    async def run() -> None:
        sender = Sender(loop)
        await sender.companion.start(sender.inlet, 3)
        await asyncio.sleep(0.05)
        await scenario(sender)
        await sender.companion.stop()

    run_virtually(loop, run())


@pytest.mark.parametrize(
    ("scope", "target", "stopped"),
    [
        (ScopeKind.GLOBAL, "*", True),
        (ScopeKind.ACCOUNT, "main", True),
        (ScopeKind.STRATEGY, "alpha", True),
        (ScopeKind.INSTRUMENT, "SIM:BTCUSD", True),
        (ScopeKind.ACCOUNT, "other", False),
        (ScopeKind.STRATEGY, "beta", False),
        (ScopeKind.INSTRUMENT, "SIM:ETHUSD", False),
    ],
)
@pytest.mark.parametrize(
    ("level", "reason"), [(Level.HALTED, DenyReason.KILLED), (Level.REDUCING, DenyReason.REDUCE_ONLY)]
)
def test_an_order_decided_before_a_halt_in_its_scope_does_not_leave(
    scope: ScopeKind, target: str, stopped: bool, level: Level, reason: DenyReason
) -> None:
    async def scenario(sender: Sender) -> None:
        sender.venue.free.clear()
        await sender.send("at the socket")
        await sender.send("behind it")
        await asyncio.sleep(0.01)
        sender.database.order(level, scope, target)
        await asyncio.sleep(0.15)
        sender.venue.free.set()
        await asyncio.sleep(0.05)
        assert sender.sent == (["at the socket"] if stopped else ["at the socket", "behind it"])
        assert sender.kept_back == ([("behind it", ReportKind.NOT_SENT, reason)] if stopped else [])

    play(scenario)


def test_what_was_decided_after_the_halt_is_the_stage_s_to_judge() -> None:
    async def scenario(sender: Sender) -> None:
        sender.database.order(Level.HALTED)
        sender.database.order(Level.ACTIVE)
        await asyncio.sleep(0.25)
        await sender.send("between the two", commands_through=1)
        await sender.send("before both")
        await asyncio.sleep(0.05)
        assert sender.sent == ["between the two"]
        assert sender.kept_back == [("before both", ReportKind.NOT_SENT, DenyReason.KILLED)]

    play(scenario)


@pytest.mark.parametrize(("level", "leaves"), [(Level.REDUCING, True), (Level.HALTED, False)])
def test_what_closes_a_position_yields_to_a_kill_alone(level: Level, leaves: bool) -> None:
    async def scenario(sender: Sender) -> None:
        sender.database.order(level)
        await asyncio.sleep(0.25)
        await sender.send("closes", closes=True)
        await sender.send("opens")
        await asyncio.sleep(0.05)
        assert sender.sent == (["closes"] if leaves else [])

    play(scenario)


def test_whoever_cannot_hear_of_kills_sends_nothing() -> None:
    async def scenario(sender: Sender) -> None:
        sender.database.away = True
        await asyncio.sleep(AGE_MAX_S - 0.2)
        await sender.send("while it is known")
        await asyncio.sleep(0.3)
        await sender.send("not in time", life_ms=200)
        await asyncio.sleep(0.3)
        assert sender.kept_back == [("not in time", ReportKind.NOT_SENT, DenyReason.NOT_SENT_IN_TIME)]
        await sender.send("in time", life_ms=400)
        sender.database.away = False
        await asyncio.sleep(0.3)
        assert sender.sent == ["while it is known", "in time"]
        assert len(sender.kept_back) == 1

    play(scenario)


def test_whoever_was_replaced_sends_nothing_more() -> None:
    async def scenario(sender: Sender) -> None:
        sender.database.epoch = 4
        await asyncio.sleep(0.15)
        await sender.send("too late")
        await asyncio.sleep(0.1)
        assert sender.sent == []
        (report,) = sender.inlet.reports
        assert (report.kind, report.reason) == (ReportKind.NOT_SENT, "epoch 4 holds the shard now")

    play(scenario)


def test_the_time_that_a_request_carries_is_no_younger_than_what_it_was_checked_against() -> None:
    """A sender that waits for news of its claim takes the time anew before it looks again, never after."""

    async def scenario(sender: Sender) -> None:
        sender.database.away = True
        await asyncio.sleep(AGE_MAX_S + 0.2)
        await sender.send("waits")
        await asyncio.sleep(0.2)
        sender.database.away = False
        back_ns = sender.loop.now_ns()
        await asyncio.sleep(0.2)
        ((what, carried_ns),) = sender.venue.heard
        assert what == "waits"
        assert back_ns <= carried_ns <= sender.loop.now_ns()

    play(scenario)


def test_no_order_asks_the_database() -> None:
    async def scenario(sender: Sender) -> None:
        before = sender.right.readings
        for number in range(900):
            await sender.send(f"o{number}")
        await asyncio.sleep(1.0)
        assert len(sender.sent) == 900
        assert sender.right.readings - before <= 11, "ten times a second, however many orders there are"

    play(scenario)
