"""Start-up reconciliation against the exchange as a process: missed reports, orphans, strangers, a dead exchange."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace as changed
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from captures import USDM_20240808
from exchange_process import ExchangeProcess, running_exchange
from msgspec.structs import replace
from trading_desk import Desk, instrument, wide_limits

from agents.execution.reconciliation_state import Doubt, OrphanPolicy, ReconciliationState
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from agents.sim.venue_state import Fault, FaultKind
from infra.venues.simulated import SimulatedExchangeClient
from schemas.client_ids import client_order_id
from schemas.event import Event, Heartbeat
from schemas.order_ids import order_id_of
from schemas.orders import CancelRequested, OrderEvent, QueryRequested, SubmitRequested
from schemas.reconciliation import BooksRequested
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units

pytestmark = pytest.mark.slow

BTC = "SIM:BTCUSD"
LOT = units("0.01")
LOW = START_PRICES[BTC] - units("3000")
CONFIG = ExecutionConfig(
    instruments=SIM_INSTRUMENTS,
    accounts={"main": AccountTerms(capital=Decimal(1_000_000), currency="USD")},
    strategies={"alpha": StrategyTerms(account="main", instruments=tuple(SIM_INSTRUMENTS))},
    limits={"main": wide_limits("alpha", price_collar="0.9")},
)
MISSED = (Fault(kind=FaultKind.DROP_REPORTS, every=2), Fault(kind=FaultKind.DROP_ACK, every=3))


class Holder:
    """One holder of the shard: a desk under an epoch, which performs what it is asked over a client of its own."""

    def __init__(self, client: SimulatedExchangeClient, desk: Desk, epoch: int) -> None:
        self.client, self.desk, self.epoch = client, desk, epoch

    async def perform(self, outputs: Iterable[Event]) -> None:
        for event in outputs:
            now_ns = time.time_ns()
            if isinstance(event, SubmitRequested):
                await self.client.submit(event, epoch=self.epoch, now_ns=now_ns)
            elif isinstance(event, CancelRequested):
                await self.client.cancel(event, epoch=self.epoch, now_ns=now_ns)
            elif isinstance(event, QueryRequested):
                await self.client.query(event, now_ns=now_ns)
            elif isinstance(event, BooksRequested):
                books = await self.client.books(event, now_ns=now_ns)
                if books is not None:
                    await self.perform(self.desk.give(books))

    async def claim(self) -> None:
        self.desk.now_ns = time.time_ns()
        await self.beat()
        await self.perform(self.desk.claim(self.epoch))

    async def beat(self) -> None:
        now_ns = self.desk.now_ns = time.time_ns()
        beat = Heartbeat(key="market.event", event_time_ns=now_ns, available_at_ns=now_ns)
        await self.perform(self.desk.give(beat))

    async def approve(self, order_id: str, **changes: Any) -> None:
        self.desk.now_ns = time.time_ns()
        terms: dict[str, Any] = {"instrument": BTC, "quantity": LOT, "decision_mid": START_PRICES[BTC]}
        terms["limit_price"] = START_PRICES[BTC] + units("500")
        await self.perform(self.desk.approve(order_id, **terms | changes))

    async def until(self, holds: Callable[[], bool], limit_s: float = 10.0) -> None:
        limit = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < limit, self.standing.missing()
            await asyncio.sleep(0.02)
            await self.hear()
            await self.beat()

    async def hear(self) -> None:
        while not self.client._queue.empty():
            report = self.client._queue.get_nowait()
            assert report is not None
            # What is said of an orphan that is nobody's here would be a dead letter.
            if self.desk.stage is not None and f"order/{report.order_id}" in self.desk.state:
                await self.perform(self.desk.give(report))

    @property
    def standing(self) -> ReconciliationState:
        found = self.desk.stage.reconciliation(self.desk.state)
        assert found is not None
        return found

    @property
    def clean(self) -> bool:
        return bool(self.standing.clean_at_ns)


async def _holder(url: str, before: Desk | None, epoch: int, config: ExecutionConfig = CONFIG) -> Holder:
    """Return the next holder: it has what its predecessor has committed, and hears what is said from now on."""
    client = SimulatedExchangeClient(url, clock=time.time_ns)
    await client.start()
    desk = Desk(config, now_ns=time.time_ns())
    if before is not None:
        for key, value in before.state.items():
            kind = desk.stage.state_type(key)
            desk.state.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind))
    return Holder(client, desk, epoch)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 40.0)

    asyncio.run(bounded())


async def _agrees(holder: Holder) -> None:
    """The exchange's positions, cash and fills are ours."""
    accounts = await holder.client.statement("/v1/account")
    fills = await holder.client.statement("/v1/fills")
    record = accounts.get("main", {"positions": {}, "cash": {}})
    ours = {key.split("|")[1]: item.quantity for key, item in holder.desk.account.positions.items() if item.quantity}
    assert ours == {key: held for key, held in record["positions"].items() if held}
    cash = sum((item.cash_flow for item in holder.desk.account.positions.values()), Decimal(0))
    assert cash == Decimal(record["cash"].get("USD", 0))
    mine = {fill for key in holder.desk.state if key.startswith("order/") for fill in holder.desk.state[key].fill_ids}
    assert mine == {fill["fill_id"] for fill in fills}


async def _open_at(holder: Holder) -> set[str]:
    return {order["order_id"] for order in await holder.client.statement("/v1/orders?open=1")}


def test_whoever_takes_over_has_the_exchange_s_books_before_anything_new_leaves(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await _holder(exchange.url, None, 1)
        await first.claim()
        assert first.clean, "an exchange that has nothing of us agrees at once"
        for number in range(12):
            resting = number % 3 == 0
            price = LOW if resting else START_PRICES[BTC] + units("500")
            kind = TimeInForce.GTC if resting else TimeInForce.IOC
            side = Side.BUY if number % 2 or resting else Side.SELL
            await first.approve(
                f"o{number}", time_in_force=kind, limit_price=price if side is Side.BUY else LOW, side=side
            )
            await asyncio.sleep(0.02)
            await first.hear()
        await first.client.close()  # Half of the reports were lost, and nobody hears the rest.
        second = await _holder(exchange.url, first.desk, 2)
        second.desk.now_ns = time.time_ns()
        questions = second.desk.claim(2)
        await second.approve("too-early")
        (denied,) = [
            event for event in second.desk.events if isinstance(event, OrderEvent) and event.order_id == "too-early"
        ]
        assert "RECONCILING" in denied.deny_reasons
        await second.perform(questions)
        await second.until(lambda: second.clean)
        await _agrees(second)
        before = {key: msgspec.msgpack.encode(second.desk.state[key]) for key in ("account/main",)}
        third = await _holder(exchange.url, second.desk, 3)
        await third.claim()
        assert third.clean
        assert {key: msgspec.msgpack.encode(third.desk.state[key]) for key in before} == before, "twice is once"
        await third.approve("in-time")
        assert any(isinstance(event, SubmitRequested) for event in third.desk.events)
        await second.client.close()
        await third.client.close()

    with running_exchange(tmp_path, faults=MISSED) as exchange:
        _run(scenario)


async def _stray(url: str, order_id: str, client_id: str) -> None:
    """Put a resting order there as a life of ours that nobody remembers would have, or a stranger."""
    client = SimulatedExchangeClient(url, clock=time.time_ns)
    await client.start()
    now_ns = time.time_ns()
    request = SubmitRequested(
        key="main",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=f"{order_id:0>32}"[:32],
        order_id=order_id,
        instrument=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        limit_price=LOW,
        quantity=LOT,
        not_after_ns=now_ns + NS_PER_S,
        client_order_id=client_id,
        strategy="alpha",
    )
    await client.submit(request, epoch=1, now_ns=now_ns)
    await asyncio.sleep(0.1)
    await client.close()


@pytest.mark.parametrize("policy", list(OrphanPolicy))
def test_orders_that_the_books_do_not_know_meet_the_policy_and_a_stranger_s_is_left_alone(
    tmp_path: Path, policy: OrphanPolicy
) -> None:
    name = order_id_of("a decision that nobody remembers", ("main", "alpha"))

    async def scenario() -> None:
        await _stray(exchange.url, name, client_order_id(name, 1))
        await _stray(exchange.url, "web_4f7b", "web_4f7b")
        holder = await _holder(exchange.url, None, 2, changed(CONFIG, orphan_orders=policy))
        assert await _open_at(holder) == {name, "web_4f7b"}
        await holder.claim()
        if policy is OrphanPolicy.HALT:
            await asyncio.sleep(0.2)
            await holder.beat()
            assert not holder.clean
            kinds = {(item.kind, item.name) for item in holder.standing.missing()}
            assert kinds == {(Doubt.ORPHAN_ORDER, name), (Doubt.FOREIGN_ORDER, "web_4f7b")}
            assert await _open_at(holder) == {name, "web_4f7b"}
            await holder.approve("o1")
            assert not any(isinstance(event, SubmitRequested) for event in holder.desk.events)
        else:
            await holder.until(lambda: holder.clean)
            assert [(item.kind, item.name) for item in holder.standing.missing()] == [(Doubt.FOREIGN_ORDER, "web_4f7b")]
        if policy is OrphanPolicy.CANCEL:
            await holder.until(lambda: holder.desk.order(name).final)
            assert await _open_at(holder) == {"web_4f7b"}
        if policy is OrphanPolicy.ADOPT:
            assert (holder.desk.order(name).strategy, holder.desk.order(name).final) == ("alpha", False)
            assert await _open_at(holder) == {name, "web_4f7b"}
            await holder.perform(holder.desk.approve("c1", quantity=0, cancels=(name,)))
            await holder.until(lambda: holder.desk.order(name).final)
        await _agrees(holder)
        await holder.client.close()

    with running_exchange(tmp_path) as exchange:
        _run(scenario)


def test_an_exchange_that_is_away_is_asked_until_it_answers(tmp_path: Path) -> None:
    async def scenario(exchange: ExchangeProcess) -> None:
        first = await _holder(exchange.url, None, 1)
        await first.claim()
        await first.approve("rests", time_in_force=TimeInForce.GTC, limit_price=LOW)
        await asyncio.sleep(0.1)
        second = await _holder(exchange.url, first.desk, 2)
        exchange.kill()
        await second.claim()
        await asyncio.sleep(0.7)
        await second.beat()
        assert not second.clean
        assert [(item.kind, item.name) for item in second.standing.missing()] == [(Doubt.NOT_ANSWERED, "SIM")]
        exchange.restart()
        await second.until(lambda: second.clean)
        assert second.desk.order("rests").venue_order_id is not None
        await _agrees(second)
        await first.client.close()
        await second.client.close()

    with running_exchange(tmp_path) as exchange:
        _run(lambda: scenario(exchange))


def test_on_a_capture_the_books_are_asked_for_and_told_at_the_capture_s_time(tmp_path: Path) -> None:
    start_ns = 1_723_161_255 * NS_PER_S
    name, key = f"{1:032x}", "BINANCE_USDM:BTCUSDT"
    usdm = instrument(key, lot_size=units("0.001"), quantity_min=units("0.001"), quote_currency="USDT", shortable=True)

    def asked(now_ns: int, attempt: int) -> BooksRequested:
        times = {"event_time_ns": now_ns, "available_at_ns": now_ns, "since_ns": 0}
        terms: dict[str, Any] = {"venue": "BINANCE_USDM", "instruments": (key,), "client_ids": ()}
        return BooksRequested(key="BINANCE_USDM", event_id="b" * 32, epoch=1, attempt=attempt, **terms, **times)

    async def scenario() -> None:
        client = SimulatedExchangeClient(exchange.url, clock=None)
        await client.start()
        # Before the capture has begun there is no time, and nothing.
        books = await client.books(asked(1, 1), now_ns=1)
        assert books is not None
        assert (books.orders, books.positions, books.available_at_ns) == ((), {}, 1)
        now_ns = start_ns + 20 * NS_PER_S
        assert await client.tell_time(now_ns)
        request = replace(_market(name, now_ns), instrument=key, quantity=units("0.5"))
        await client.submit(request, epoch=1, now_ns=now_ns)
        assert await client.tell_time(now_ns + NS_PER_S)
        books = await client.books(asked(now_ns + NS_PER_S, 2), now_ns=now_ns + NS_PER_S)
        assert books is not None
        assert books.available_at_ns == now_ns + NS_PER_S, "no clock but the capture's"
        assert books.positions == {f"main|{key}": units("0.5")}
        assert [(told.order_id, told.filled_quantity) for told in books.orders] == [(name, units("0.5"))]
        await client.close()

    captured: dict[str, Any] = {"mode": "replay", "captures": (str(USDM_20240808),), "start_prices": {}}
    with running_exchange(tmp_path, instruments=(usdm,), **captured) as exchange:
        _run(scenario)


def _market(name: str, now_ns: int) -> SubmitRequested:
    return SubmitRequested(
        key="main",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=name,
        order_id=name,
        instrument=BTC,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        limit_price=None,
        quantity=LOT,
        not_after_ns=now_ns + NS_PER_S,
        client_order_id=client_order_id(name, 1),
    )
