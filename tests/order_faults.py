"""Orders over the real exchange process while something goes wrong at each of their states, and what must hold after.

``python tests/order_faults.py`` prints a line for each run and the count of violations; exit code 1 when there is one.
An order is sent, partly filled, changed, cancelled; another takes at once. The executor is killed as kill -9 kills: it
leaves what it had committed, and nothing of what it had in hand. It is killed between its commit and the request, and
after the request, at each state; so is the exchange; and the exchange's own script loses, doubles and delays.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import msgspec  # noqa: E402
from exchange_process import ExchangeProcess  # noqa: E402
from trading_desk import Desk, wide_limits  # noqa: E402

from agents.execution.orders import OrderState  # noqa: E402
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms  # noqa: E402
from agents.execution.transitions import LIVE  # noqa: E402
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES  # noqa: E402
from agents.sim.venue_state import Fault, FaultKind  # noqa: E402
from agents.stage import ShardState  # noqa: E402
from infra.venues.account_simulated import SimulatedAccountReader  # noqa: E402
from infra.venues.simulated import SimulatedExchangeClient  # noqa: E402
from schemas.event import Event, Heartbeat  # noqa: E402
from schemas.orders import (  # noqa: E402
    AmendRequested,
    CancelRequested,
    Fill,
    OrderStatus,
    QueryRequested,
    SubmitRequested,
)
from schemas.reconciliation import BooksRequested  # noqa: E402
from schemas.values import NS_PER_MS, TimeInForce, units  # noqa: E402

BTC = "SIM:BTCUSD"
RESTS, TAKES = "o-rests", "o-takes"
CONFIG = ExecutionConfig(
    instruments=SIM_INSTRUMENTS,
    accounts={"main": AccountTerms(capital=Decimal(100_000_000), currency="USD")},
    strategies={"alpha": StrategyTerms(account="main", instruments=tuple(SIM_INSTRUMENTS))},
    limits={"main": wide_limits("alpha", price_collar="0.9", capital=100_000_000)},
    submit_limit_ns=300 * NS_PER_MS,
    ack_timeout_ns=300 * NS_PER_MS,
    takeover_wait_ns=900 * NS_PER_MS,
    query_backoff_ns=(100 * NS_PER_MS, 200 * NS_PER_MS, 400 * NS_PER_MS),
)
_S = OrderStatus


class Killed(Exception):
    """The executor is no more."""


@dataclass(frozen=True)
class Moment:
    """When something happens: as an order has reached a state, before or after what follows is sent."""

    order_id: str
    status: OrderStatus
    sent: bool

    def __str__(self) -> str:
        return f"{self.status} {'after' if self.sent else 'before'} what follows is sent"


@dataclass
class Story:
    """One run: what goes wrong, and when. ``who`` is killed at ``moment``; ``faults`` are the exchange's script."""

    name: str
    who: str = ""
    moment: Moment | None = None
    faults: tuple[Fault, ...] = ()


@dataclass
class Verdict:
    """What came of a run."""

    story: Story
    violations: list[str]
    seconds: float
    happened: bool


@dataclass
class Truth:
    """What outlives the executor: what it committed, all that it ever sent and said, and how often it was killed."""

    committed: dict[str, bytes] = field(default_factory=dict)
    sent: list[Event] = field(default_factory=list)
    said: list[Event] = field(default_factory=list)
    kills: int = 0


class Executor:
    """An execution stage on the wall clock that commits before it sends, and may end at any moment."""

    def __init__(self, exchange: ExchangeProcess, truth: Truth, moment: Moment | None, who: str) -> None:
        self.exchange = exchange
        self.truth = truth
        self._moment, self._who = moment, who
        self.desk = Desk(CONFIG, now_ns=time.time_ns())
        self.epoch = truth.kills + 1
        self._client = SimulatedExchangeClient(exchange.url, clock=time.time_ns, timeout_s=0.3)
        self._tasks: list[asyncio.Task[None]] = []
        self._line: asyncio.Queue[Event] = asyncio.Queue()
        self.killed = asyncio.Event()
        self.strikes = 0
        self._sending = False

    async def start(self) -> None:
        """Take over: read what was committed, and claim."""
        if self.truth.committed:
            self.desk.state = ShardState()
            for key, content in self.truth.committed.items():
                kind = self.desk.stage.state_type(key)
                self.desk.state.restore(key, msgspec.msgpack.decode(content, type=kind))
        await self._client.start()
        self._tasks = [asyncio.create_task(work) for work in (self._listen(), self._beat(), self._send())]
        self.desk.now_ns = time.time_ns()
        self.take(self.desk.claim, self.epoch)

    def take(self, step: Callable[..., Sequence[Event]], *given: Any, **more: Any) -> None:
        """Step, commit, and put what is to be sent in line; ends it here and now if that is its moment."""
        if self.killed.is_set():
            return
        self.desk.now_ns = max(self.desk.now_ns, time.time_ns())
        outputs = step(*given, **more)
        for key in self.desk.state.touched:
            self.truth.committed.pop(key, None)
            if key in self.desk.state:
                self.truth.committed[key] = msgspec.msgpack.encode(self.desk.state[key])
        self.desk.state.touched.clear()
        self.truth.said += outputs
        for event in outputs:
            self._line.put_nowait(event)
        self._maybe(sent=False)
        if self._line.empty() and not self._sending:
            self._maybe(sent=True)

    def order(self, order_id: str) -> OrderState | None:
        """Return an order, None as long as there is none."""
        found: OrderState | None = self.desk.state.get(f"order/{order_id}")
        return found

    def _maybe(self, *, sent: bool) -> None:
        moment = self._moment
        order = None if moment is None else self.order(moment.order_id)
        if moment is None or order is None or order.status is not moment.status or sent is not moment.sent:
            return
        self._moment = None
        self.strikes += 1
        if self._who == "exchange":
            self.exchange.kill()
            self.exchange.restart()
        else:
            self.killed.set()

    async def _send(self) -> None:
        while True:
            event = await self._line.get()
            if self.killed.is_set():
                return
            self._sending = True
            now_ns = time.time_ns()
            if isinstance(event, SubmitRequested | AmendRequested | CancelRequested):
                self.truth.sent.append(event)
            if isinstance(event, SubmitRequested):
                await self._client.submit(event, epoch=self.epoch, now_ns=now_ns)
            elif isinstance(event, AmendRequested):
                await self._client.amend(event, epoch=self.epoch, now_ns=now_ns)
            elif isinstance(event, CancelRequested):
                await self._client.cancel(event, epoch=self.epoch, now_ns=now_ns)
            elif isinstance(event, QueryRequested):
                await self._client.query(event, now_ns=now_ns)
            elif isinstance(event, BooksRequested):
                books = await self._client.books(event, now_ns=now_ns)
                if books is not None:
                    self.take(self.desk.give, books)
            self._sending = False
            if self._line.empty():
                self._maybe(sent=True)

    async def _listen(self) -> None:
        async for report in self._client.reports():
            self.take(self.desk.give, report)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            now_ns = time.time_ns()
            beat = Heartbeat(key="market.event", event_time_ns=now_ns, available_at_ns=now_ns)
            self.take(self.desk.give, beat)

    async def end(self) -> None:
        """Let go, in order or not."""
        for task in self._tasks:
            task.cancel()
        for task in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(task, Exception) and not self.killed.is_set():
                raise task
        await self._client.close()


class Play:
    """One story, from the first order to the comparison of both sides' books."""

    def __init__(self, story: Story, exchange: ExchangeProcess) -> None:
        self.story = story
        self.exchange = exchange
        self.truth = Truth()
        self.executor = Executor(exchange, self.truth, story.moment, story.who)

    async def run(self) -> list[str]:
        """Play, and return what does not hold."""
        await self.executor.start()
        await self._clean()
        mid = START_PRICES[BTC]
        # What is to be met while it is NEW must not be filled before that.
        far = self.story.moment is not None and self.story.moment.status is _S.NEW
        price = mid - units("3000") if far else mid + units("2")
        rests: dict[str, Any] = {"limit_price": price, "time_in_force": TimeInForce.GTC}
        await self._approve(RESTS, quantity=units("60"), **rests)
        await self._until(lambda: self._over(RESTS) or (self._settled(RESTS) and (far or self._filled(RESTS) > 0)))
        smaller = self._filled(RESTS) + units("30")
        await self._approve("amend-down", amends=RESTS, quantity=smaller // 1_000_000 * 1_000_000, **rests)
        await self._until(lambda: self._settled(RESTS))
        await self._approve("cancel", quantity=0, cancels=(RESTS,))
        await self._clean()
        await self._approve(TAKES, quantity=units("0.5"), limit_price=mid + units("500"))
        await self._until(lambda: all(self._over(name) for name in (RESTS, TAKES)))
        await asyncio.sleep(0.3)
        await self._clean()
        violations = await self._compare()
        await self.executor.end()
        return violations

    async def _approve(self, order_id: str, **changes: Any) -> None:
        """Let risk approve: the same approval comes again after a take-over, as a log is read again."""
        terms: dict[str, Any] = {"instrument": BTC, "decision_mid": START_PRICES[BTC], **changes}
        before = self.truth.kills
        self.executor.take(self.executor.desk.approve, order_id, **terms)
        await asyncio.sleep(0)
        await self._revive()
        if self.truth.kills > before:
            self.executor.take(self.executor.desk.approve, order_id, **terms)

    async def _revive(self) -> None:
        while self.executor.killed.is_set():
            await self.executor.end()
            self.truth.kills += 1
            self.executor = Executor(self.exchange, self.truth, None, "")
            await self.executor.start()

    async def _until(self, holds: Callable[[], bool], limit_s: float = 25.0) -> None:
        limit = time.monotonic() + limit_s
        while not holds() or self.executor.killed.is_set():
            assert time.monotonic() < limit, f"stuck: {self._told()}"
            await self._revive()
            await asyncio.sleep(0.01)

    def _told(self) -> str:
        orders = (self.executor.order(name) for name in (RESTS, TAKES))
        return ", ".join(f"{order.order_id} {order.status} {order.filled_quantity}" for order in orders if order)

    async def _clean(self) -> None:
        await self._until(lambda: bool(self.executor.desk.state["reconciliation"].clean_at_ns))

    def _filled(self, order_id: str) -> int:
        order = self.executor.order(order_id)
        # What was filled and taken back has been filled.
        return 0 if order is None else order.filled_quantity + order.busted_quantity

    def _settled(self, order_id: str) -> bool:
        order = self.executor.order(order_id)
        return order is not None and (order.final or order.status in (_S.NEW, _S.PARTIALLY_FILLED))

    def _over(self, order_id: str) -> bool:
        order = self.executor.order(order_id)
        return order is not None and order.final

    async def _compare(self) -> list[str]:
        """Return every law that does not hold: one request per intent, one end per order, the venue's own books."""
        wrong: list[str] = []
        sent = [getattr(event, "amend_id", event.order_id) for event in self.truth.sent if not _is_cancel(event)]  # type: ignore[attr-defined]
        if len(sent) != len(set(sent)):
            wrong.append(f"an intent was sent twice: {sorted(sent)}")
        stated = await SimulatedAccountReader(self.exchange.url).account_statement()
        theirs = {order.order_id: order for order in stated.orders}
        if len(theirs) != len(stated.orders):
            wrong.append("one intent is two orders at the venue")
        fills = {fill.fill_id for fill in stated.fills}
        mine: set[str] = set()
        for name in (RESTS, TAKES):
            order = self.executor.order(name)
            assert order is not None
            mine |= {fill_id for fill_id, fill in order.booked.items() if not fill.busted}
            other = theirs.get(name)
            if other is None and order.status not in (_S.NOT_SENT, _S.DENIED):
                wrong.append(f"{name} is {order.status}, and the venue does not have it")
            if other is not None and (other.status, other.quantity, other.filled_quantity) != (
                order.status,
                order.quantity,
                order.filled_quantity,
            ):
                wrong.append(f"{name}: {order.status} {order.quantity} {order.filled_quantity}, theirs {other}")
            if order.status in LIVE or order.exposed_quantity:
                wrong.append(f"{name} still works")
        if mine != fills:
            wrong.append(f"fills: {sorted(mine ^ fills)}")
        wrong += self._books(stated.positions or {}, stated.cash or {})
        booked = [event.fill_id for event in self.truth.said if isinstance(event, Fill)]
        if len(booked) != len(set(booked)):
            wrong.append("a fill was told twice")
        return wrong

    def _books(self, positions: dict[str, int], cash: dict[str, Decimal]) -> list[str]:
        account = self.executor.desk.account
        held = sum(position.quantity for position in account.positions.values())
        flow = sum((p.cash_flow + p.funding for p in account.positions.values()), Decimal(0))
        wrong = []
        if held != positions.get(f"main|{BTC}", 0):
            wrong.append(f"position {held}, theirs {positions}")
        if flow != cash.get("main|USD", Decimal(0)):
            wrong.append(f"cash {flow}, theirs {cash}")
        totals: dict[str, Decimal] = {}
        for key, amount in account.balances.items():
            asset = key.rpartition("|")[2]
            totals[asset] = totals.get(asset, Decimal(0)) + amount
        if any(totals.values()):
            wrong.append("the ledger does not sum to 0")
        return wrong


def _is_cancel(event: Event) -> bool:
    return isinstance(event, CancelRequested)


def stories() -> list[Story]:
    """Return every run: each state x who is killed x before or after the request, and each fault of the script."""
    found = [
        Story(f"{who} killed: {moment}", who, moment)
        for who in ("executor", "exchange")
        for status in (_S.PENDING_NEW, _S.NEW, _S.PARTIALLY_FILLED, _S.PENDING_REPLACE, _S.PENDING_CANCEL)
        for sent in (False, True)
        for moment in (Moment(RESTS, status, sent),)
    ]
    unknown = (Fault(kind=FaultKind.DROP_ACK, order_number=1), Fault(kind=FaultKind.DROP_REPORTS, order_number=1))
    found += [
        Story(f"{who} killed: {moment}", who, moment, unknown)
        for who in ("executor", "exchange")
        for moment in (Moment(RESTS, _S.UNKNOWN, False), Moment(RESTS, _S.UNKNOWN, True))
    ]
    late_ns = 700 * NS_PER_MS
    script = {
        "acknowledgement dropped": (Fault(kind=FaultKind.DROP_ACK, every=1),),
        "every report dropped": (Fault(kind=FaultKind.DROP_REPORTS, every=1),),
        "every fill twice": (Fault(kind=FaultKind.DUPLICATE_FILLS, every=1),),
        "reports late": (Fault(kind=FaultKind.DELAY_REPORTS, order_number=1, delay_ns=late_ns),),
        "disconnected amid the fills": (Fault(kind=FaultKind.DISCONNECT, every=1),),
        "answer to the request lost": (Fault(kind=FaultKind.DROP_RESPONSE, every=1),),
        "request lost": (Fault(kind=FaultKind.LOSE_REQUEST, order_number=2),),
        "amend lost": (Fault(kind=FaultKind.LOSE_AMEND, every=1),),
        "answer to the amend dropped": (Fault(kind=FaultKind.DROP_REPLACED, every=1),),
        "fills taken back": (Fault(kind=FaultKind.BUST_FILLS, every=1, delay_ns=150 * NS_PER_MS),),
        "fills taken back, reports dropped": (
            Fault(kind=FaultKind.BUST_FILLS, every=1, delay_ns=150 * NS_PER_MS),
            Fault(kind=FaultKind.DROP_REPORTS, order_number=1),
        ),
    }
    return found + [Story(f"script: {name}", faults=faults) for name, faults in script.items()]


def play(story: Story, folder: Path) -> Verdict:
    """Play a story on an exchange of its own."""
    began = time.monotonic()
    exchange = ExchangeProcess(
        folder, faults=story.faults, receive_window_ns=400 * NS_PER_MS, latency_ns=40 * NS_PER_MS
    )
    happened = True

    async def run() -> list[str]:
        nonlocal happened
        one = Play(story, exchange)
        try:
            found = await asyncio.wait_for(one.run(), 90)
        except AssertionError as error:
            found = [str(error) or "an assertion"]
        happened = story.moment is None or one.truth.kills + one.executor.strikes > 0
        return found

    try:
        violations = asyncio.run(run())
    finally:
        if exchange.process.poll() is None:
            exchange.stop()
    return Verdict(story, violations, time.monotonic() - began, happened)


def _played(story: Story, tries: int = 3) -> Verdict:
    """Play a story until its moment comes: a state may be over before the answer to what was sent in it."""
    with tempfile.TemporaryDirectory() as folder:
        verdict = play(story, Path(folder))
    return verdict if verdict.happened or verdict.violations or tries == 1 else _played(story, tries - 1)


def main() -> int:
    """Play every story and print what came of it."""
    parser = argparse.ArgumentParser(description="Orders under faults, over the real exchange process.")
    parser.add_argument("--only", default="", help="play the runs whose name has this in it")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is played")
    given = parser.parse_args()
    count = violations = missed = 0
    for story in [story for story in stories() if given.only in story.name] * given.rounds:
        verdict = _played(story)
        count += 1
        violations += len(verdict.violations)
        missed += not verdict.happened
        told = "; ".join(verdict.violations) or ("ok" if verdict.happened else "ok, but it never came to that")
        sys.stdout.write(f"{story.name:<72} {verdict.seconds:5.1f} s  {told}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{count} runs, {violations} violations, {missed} in which the moment did not come\n")
    return 1 if violations or missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
