"""The exchange over its sockets: its orders survive a kill, its answers may get lost, and one intent is one order."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from captures import USDM_20240808
from exchange_process import ROOT, ExchangeProcess, running_exchange
from msgspec.structs import force_setattr
from trading_desk import Desk, wide_limits

from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from agents.sim.venue_state import Fault, FaultKind
from infra.feeds.simulated import SimulatedFeed
from infra.venues.account_simulated import SimulatedAccountReader
from infra.venues.simulated import SimulatedExchangeClient
from infra.venues.wire import SubmitBody
from schemas.event import Event, Heartbeat
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, QualityKind, Quote, Trade
from schemas.orders import CancelRequested, OrderStatus, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.values import NS_PER_MS, NS_PER_S, OrderType, Side, TimeInForce, units
from streams.exchange_core import ExchangeConfig, ExchangeCore, RecordDamaged

BTC = "SIM:BTCUSD"
LOT = units("0.01")
CONFIG = ExecutionConfig(
    instruments=SIM_INSTRUMENTS,
    accounts={"main": AccountTerms(capital=Decimal(1_000_000), currency="USD")},
    strategies={"alpha": StrategyTerms(account="main", instruments=tuple(SIM_INSTRUMENTS))},
    limits={"main": wide_limits("alpha", price_collar="0.9")},
    takeover_wait_ns=2_500 * NS_PER_MS,
)


class WallDesk:
    """An execution stage that lives on the wall clock and trades over the client, as the worker's shell does."""

    def __init__(self, client: SimulatedExchangeClient, epoch: int = 1) -> None:
        self.client = client
        self.epoch = epoch
        self.desk = Desk(CONFIG, now_ns=time.time_ns())
        self.submits: list[SubmitRequested] = []
        self.tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]

    async def perform(self, outputs: Any) -> None:
        for event in outputs:
            if isinstance(event, SubmitRequested):
                self.submits.append(event)
                await self.client.submit(event, epoch=self.epoch, now_ns=time.time_ns())
            elif isinstance(event, CancelRequested):
                await self.client.cancel(event, epoch=self.epoch, now_ns=time.time_ns())
            elif isinstance(event, QueryRequested):
                await self.client.query(event, now_ns=time.time_ns())

    async def approve(self, order_id: str, **changes: Any) -> None:
        self.desk.now_ns = time.time_ns()
        terms: dict[str, Any] = {"instrument": BTC, "quantity": LOT, "decision_mid": START_PRICES[BTC]}
        terms["limit_price"] = START_PRICES[BTC] + units("500")
        await self.perform(self.desk.approve(order_id, **terms | changes))

    async def until(self, holds: Callable[[], bool], limit_s: float = 15.0) -> None:
        limit = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < limit, [event.status for event in self.desk.events if hasattr(event, "status")]
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()

    async def _listen(self) -> None:
        async for report in self.client.reports():
            await self.perform(self.desk.give(report))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            now_ns = time.time_ns()
            await self.perform(
                self.desk.give(Heartbeat(key="market.event", event_time_ns=now_ns, available_at_ns=now_ns))
            )

    def status(self, order_id: str) -> OrderStatus:
        return self.desk.order(order_id).status


async def _desk(url: str, **changes: Any) -> WallDesk:
    client = SimulatedExchangeClient(url, clock=time.time_ns, **changes)
    await client.start()
    return WallDesk(client)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 60.0)

    asyncio.run(bounded())


def _assert_agreement(desk: Desk, accounts: dict[str, Any], fills: list[dict[str, Any]]) -> None:
    """Positions, cash and the set of fills are the exchange's own, exactly."""
    record = accounts.get("main", {"positions": {}, "cash": {}})
    ours: dict[str, int] = {}
    for key, position in desk.account.positions.items():
        name = key.split("|")[1]
        ours[name] = ours.get(name, 0) + position.quantity
    assert {key: held for key, held in ours.items() if held} == {k: v for k, v in record["positions"].items() if v}
    cash = sum((p.cash_flow + p.funding for p in desk.account.positions.values()), Decimal(0))
    assert cash == Decimal(record["cash"].get("USD", 0))
    mine = {fill for key in desk.state if key.startswith("order/") for fill in desk.state[key].fill_ids}
    assert mine == {fill["fill_id"] for fill in fills}


async def _check(desk: WallDesk) -> None:
    accounts = await desk.client.statement("/v1/account")
    fills = await desk.client.statement("/v1/fills")
    _assert_agreement(desk.desk, accounts, fills)


def test_orders_fill_rest_and_are_cancelled_over_loopback(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = await _desk(exchange.url)
        await desk.approve("take")
        low = START_PRICES[BTC] - units("3000")
        await desk.approve("rest", time_in_force=TimeInForce.GTC, limit_price=low)
        await desk.until(lambda: desk.status("take") is OrderStatus.FILLED)
        await desk.until(lambda: desk.status("rest") is OrderStatus.NEW)
        await desk.approve("stop", quantity=0, cancels=("rest",))
        await desk.until(lambda: desk.status("rest") is OrderStatus.CANCELED)
        await desk.approve("odd", quantity=LOT + 1)
        await desk.until(lambda: desk.status("odd") is OrderStatus.DENIED, 1.0)
        await _check(desk)
        stated = await SimulatedAccountReader(exchange.url).account_statement()
        mine = {name: desk.desk.order(name) for name in ("take", "rest")}
        assert {item.order_id: item.status for item in stated.orders} == {k: order.status for k, order in mine.items()}
        assert [fill.fill_id for fill in stated.fills] == mine["take"].fill_ids
        assert stated.positions == {f"main|{BTC}": LOT}
        await desk.end()

    with running_exchange(tmp_path) as exchange:
        _run(scenario)
        assert exchange.stop() == 0


@pytest.mark.slow
def test_a_lost_answer_and_lost_reports_end_in_one_order_by_asking(tmp_path: Path) -> None:
    faults = (
        Fault(kind=FaultKind.DROP_RESPONSE, order_number=1),
        Fault(kind=FaultKind.DROP_REPORTS, order_number=1),
        Fault(kind=FaultKind.LOSE_REQUEST, order_number=2),
        Fault(kind=FaultKind.DUPLICATE_FILLS, order_number=3),
        Fault(kind=FaultKind.DISCONNECT, order_number=4),
        Fault(kind=FaultKind.DELAY_REPORTS, order_number=5, delay_ns=1_500 * NS_PER_MS),
    )

    async def scenario() -> None:
        desk = await _desk(exchange.url)
        await desk.approve("o1")
        await desk.until(lambda: desk.status("o1") is OrderStatus.FILLED)
        seen = [event.status for event in desk.desk.order_events("o1")]
        assert OrderStatus.UNKNOWN in seen
        for number in range(2, 6):
            await desk.approve(f"o{number}")
            await asyncio.sleep(0.1)
        await desk.until(lambda: all(desk.status(f"o{n}") is OrderStatus.FILLED for n in (3, 4, 5)))
        await desk.until(lambda: desk.status("o2") is OrderStatus.NOT_SENT)
        await asyncio.sleep(0.5)
        await _check(desk)
        orders = await desk.client.statement("/v1/orders")
        assert sorted(order["order_id"] for order in orders) == ["o1", "o3", "o4", "o5"]
        assert len(desk.submits) == 5, "nothing is ever sent twice"
        assert desk.client.reconnects >= 1
        await desk.end()

    with running_exchange(tmp_path, faults=faults) as exchange:
        _run(scenario)


@pytest.mark.slow
def test_a_killed_exchange_comes_back_with_every_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = await _desk(exchange.url)
        low = START_PRICES[BTC] - units("3000")
        for number in range(20):
            await desk.approve(f"t{number}")
            await desk.approve(f"r{number}", time_in_force=TimeInForce.GTC, limit_price=low - number * units("1"))
        await desk.until(lambda: desk.status("r0") is OrderStatus.NEW)
        exchange.kill()
        exchange.restart()
        await desk.approve("after")
        await desk.until(lambda: all(desk.desk.order(f"t{n}").final for n in range(20)), 20.0)
        working = lambda: [n for n in range(20) if desk.status(f"r{n}") is OrderStatus.NEW]  # noqa: E731
        await desk.until(lambda: all(desk.status(f"r{n}") is not OrderStatus.UNKNOWN for n in range(20)), 20.0)
        assert 0 in working(), "an acknowledged order rests again"
        await desk.approve("stop", quantity=0, cancels=tuple(f"r{n}" for n in range(20)))
        await desk.until(lambda: all(desk.desk.order(f"r{n}").final for n in range(20)))
        await desk.until(lambda: desk.desk.order("after").final)
        await _check(desk)
        orders = await desk.client.statement("/v1/orders")
        sent = {submit.order_id for submit in desk.submits}
        assert {order["order_id"] for order in orders} <= sent
        await desk.end()

    with running_exchange(tmp_path) as exchange:
        _run(scenario)


def test_a_holder_of_an_older_epoch_is_fenced_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = await _desk(exchange.url)
        desk.epoch = 7
        await desk.approve("new")
        await desk.until(lambda: desk.status("new") is OrderStatus.FILLED)
        desk.epoch = 6
        await desk.approve("old")
        await desk.until(lambda: desk.status("old") is OrderStatus.REJECTED)
        assert "fenced" in (desk.desk.order_events("old")[-1].reason or "")
        orders = await desk.client.statement("/v1/orders")
        assert orders[0]["venue_order_id"] == "7-1"
        await desk.end()

    with running_exchange(tmp_path) as exchange:
        _run(scenario)


def test_a_request_that_is_too_old_is_not_sent_and_one_that_arrives_late_is_rejected(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = await _desk(exchange.url)
        request = SubmitRequested(
            key="main",
            event_time_ns=0,
            available_at_ns=0,
            event_id="1" * 32,
            order_id="late",
            instrument=BTC,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            limit_price=START_PRICES[BTC],
            quantity=LOT,
            not_after_ns=time.time_ns() - 1,
        )
        got: list[VenueReport] = []
        desk.desk.give = lambda report: got.append(report) or ()  # type: ignore[method-assign,assignment,func-returns-value]
        await desk.client.submit(request, epoch=1, now_ns=time.time_ns())
        await desk.until(lambda: any(isinstance(r, VenueReport) and r.kind is ReportKind.NOT_SENT for r in got))
        force_setattr(request, "not_after_ns", time.time_ns() + NS_PER_S)
        await desk.client.submit(request, epoch=1, now_ns=time.time_ns() - 3 * NS_PER_S)
        await desk.until(lambda: any(isinstance(r, VenueReport) and r.kind is ReportKind.REJECTED for r in got))
        await desk.end()

    with running_exchange(tmp_path) as exchange:
        _run(scenario)


def test_a_request_taken_before_an_outage_is_judged_by_the_time_it_gets_through(tmp_path: Path) -> None:
    """Else it could be carried out after its absence had been reported, when nobody reckons with it any more."""
    config = ExchangeConfig(
        mode="full",
        instruments=tuple(SIM_INSTRUMENTS.values()),
        start_prices=START_PRICES,
        record=str(tmp_path / "record"),
    )
    start_ns = 1_700_000_000 * NS_PER_S
    for number, outage_ns in enumerate((NS_PER_S, 10 * NS_PER_S)):
        request = SubmitRequested(
            key="main",
            event_time_ns=start_ns,
            available_at_ns=start_ns,
            order_id=f"o{number}",
            instrument=BTC,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            limit_price=START_PRICES[BTC] + units("100"),
            quantity=LOT,
            not_after_ns=start_ns + NS_PER_S,
        )
        before = ExchangeCore(config, start_ns)
        before.submit(SubmitBody(request, 1, start_ns))
        before.close()
        with (tmp_path / "record").open("ab") as record:
            record.write(b'{"type":"queued","half a li')
        start_ns += outage_ns
        after = ExchangeCore(config, start_ns)
        after.advance(start_ns + NS_PER_S)
        order = after.venue.state.orders[request.order_id]
        after.close()
        expected = OrderStatus.FILLED if outage_ns < config.receive_window_ns else OrderStatus.REJECTED
        assert order.status is expected
        start_ns += NS_PER_S
    (tmp_path / "record").write_bytes(b"nonsense\n")
    with pytest.raises(RecordDamaged, match="damaged"):
        ExchangeCore(config, start_ns)


@pytest.mark.slow
def test_nobody_there_is_a_time_out_and_never_a_rejection(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = await _desk(exchange.url, timeout_s=0.3)
        exchange.kill()
        await desk.approve("o1")
        await desk.until(lambda: desk.status("o1") is OrderStatus.UNKNOWN)
        exchange.restart()
        await desk.until(lambda: desk.status("o1") is OrderStatus.NOT_SENT)
        await desk.end()

    with running_exchange(tmp_path) as exchange:
        _run(scenario)


@pytest.mark.slow
def test_the_market_data_opens_with_a_book_and_goes_on_without_a_gap(tmp_path: Path) -> None:
    async def collect(feed: SimulatedFeed, count: int) -> list[Event]:
        found: list[Event] = []
        async for record in feed.records():
            assert record.refused is None
            found.extend(record.events)
            if len(found) > 40 and not any(isinstance(event, BookSnapshot) for event in found[10:]):
                assert await feed.request_snapshot(BTC)
            if len(found) >= count:
                await feed.close()
                break
        return found

    async def scenario() -> None:
        feed = SimulatedFeed(exchange.url, (BTC,), clock=time.time_ns)
        events = await asyncio.wait_for(collect(feed, 120), 30.0)
        assert isinstance(events[0], Quality)
        assert events[0].kind is QualityKind.RESYNC
        assert isinstance(events[1], BookSnapshot)
        assert {type(event) for event in events} >= {DepthUpdate, Quote, Trade, BookSnapshot}
        newest = events[1].update_id
        for event in events[2:]:
            if isinstance(event, DepthUpdate) and event.last_update_id > newest:
                assert event.first_update_id == newest + 1
                newest = event.last_update_id
            elif isinstance(event, BookSnapshot):
                assert event.update_id == newest, "a snapshot on demand stands in its place in the stream"
        assert sum(isinstance(event, BookSnapshot) for event in events) >= 2

    with running_exchange(tmp_path) as exchange:
        _run(scenario)


def _usdm() -> InstrumentDefined:
    return msgspec.structs.replace(
        SIM_INSTRUMENTS[BTC],
        key="BINANCE_USDM:BTCUSDT",
        tick_size=units("0.1"),
        lot_size=units("0.001"),
        quantity_min=units("0.001"),
        quote_currency="USDT",
    )


def test_on_a_capture_orders_meet_the_recorded_book_at_the_clients_time(tmp_path: Path) -> None:
    start_ns = 1723161255 * NS_PER_S

    async def scenario() -> None:
        client = SimulatedExchangeClient(exchange.url, clock=None)
        await client.start()
        now_ns = start_ns + 20 * NS_PER_S
        assert await client.tell_time(now_ns)
        request = SubmitRequested(
            key="main",
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id="2" * 32,
            order_id="o1",
            instrument="BINANCE_USDM:BTCUSDT",
            side=Side.BUY,
            order_type=OrderType.MARKET,
            time_in_force=TimeInForce.IOC,
            limit_price=None,
            quantity=units("0.5"),
            not_after_ns=now_ns + NS_PER_S,
        )
        await client.submit(request, epoch=1, now_ns=now_ns)
        assert await client.tell_time(now_ns + NS_PER_S)
        got: list[VenueReport] = []

        async def read() -> None:
            async for report in client.reports():
                got.append(report)
                if report.kind is ReportKind.TRADE and report.status is OrderStatus.FILLED:
                    return

        await asyncio.wait_for(read(), 10.0)
        assert got[0].kind is ReportKind.ACCEPTED
        assert now_ns < got[0].available_at_ns < now_ns + NS_PER_S
        prices = [report.last_price for report in got if report.last_price]
        assert all(units("50000") < price < units("70000") for price in prices)
        assert sum(report.last_quantity or 0 for report in got) == units("0.5")
        await client.close()

    with running_exchange(
        tmp_path, mode="replay", instruments=(_usdm(),), captures=(str(USDM_20240808),), start_prices={}
    ) as exchange:
        _run(scenario)


def test_a_taken_port_and_bad_settings_are_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = {"mode": "full", "instruments": [], "port": taken.getsockname()[1]}
        for content, expected in ((config, "cannot listen"), ({"mode": "replay", "instruments": []}, "captures")):
            (tmp_path / "config.json").write_bytes(msgspec.json.encode(content))
            command = [sys.executable, "-m", "streams.exchange", "--config", str(tmp_path / "config.json")]
            done = subprocess.run(
                [*command, "--port-file", str(tmp_path / "port")],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert done.returncode == 2
            assert expected in done.stderr
            assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    ExchangeProcess(tmp_path).stop()
    arguments = ["-m", "streams.exchange", "--config", str(tmp_path / "config.json")]
    arguments += ["--port-file", str(tmp_path / "port2")]
    starter = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, *{arguments!r}]); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    limit = time.monotonic() + 20
    while not (tmp_path / "port2").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(5)
    parent.stdout.close()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < limit, "an orphaned exchange must end"
        time.sleep(0.05)
