"""What the exchange turns away: unsigned requests, too many of them, and everybody while it is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from agents.sim.venue_state import Fault, FaultKind
from infra.settings import SettingsError, load_settings
from infra.venues.account_simulated import SimulatedAccountReader
from infra.venues.binance.credentials import Credentials
from infra.venues.signing import SIGNATURE, TIME, WINDOW_MS, refusal, signed_headers
from infra.venues.simulated import SimulatedExchangeClient, VenueUnreachable
from schemas.orders import ReportKind, SubmitRequested, VenueReport
from schemas.values import NS_PER_MS, NS_PER_S, OrderType, Side, TimeInForce, units
from streams.exchange_core import ExchangeConfig, ExchangeCore
from streams.exchange_server import ExchangeServer
from streams.venues import exchange_credentials

BTC = "SIM:BTCUSD"
OURS = Credentials("our-key", "our-secret")
NOW_MS = 1_700_000_000_000


def _submit(name: str) -> SubmitRequested:
    now_ns = time.time_ns()
    return SubmitRequested(
        key="main",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=f"{name:0>32}",
        order_id=name,
        client_order_id=f"{name}-1",
        instrument=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        limit_price=START_PRICES[BTC] + units("500"),
        quantity=units("0.01"),
        not_after_ns=now_ns + NS_PER_S,
    )


def _served(scenario: Callable[[ExchangeCore, str], Awaitable[None]], **changes: Any) -> None:
    """Run a scenario against the exchange's server in this process."""

    async def run() -> None:
        fields: dict[str, Any] = {"mode": "full", "instruments": tuple(SIM_INSTRUMENTS.values())}
        core = ExchangeCore(ExchangeConfig(start_prices=START_PRICES, **fields | changes), time.time_ns())
        server = ExchangeServer(core)
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        clock = asyncio.create_task(server.run())
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            await asyncio.wait_for(scenario(core, url), 20)
        finally:
            clock.cancel()
            await asyncio.gather(clock, return_exceptions=True)
            await runner.cleanup()

    asyncio.run(run())


async def _client(url: str, credentials: Credentials | None = None) -> SimulatedExchangeClient:
    client = SimulatedExchangeClient(url, clock=time.time_ns, credentials=credentials)
    await client.start(1.0)
    return client


async def _send(client: SimulatedExchangeClient, name: str) -> None:
    await client.submit(_submit(name), epoch=1, now_ns=time.time_ns())


async def _told(client: SimulatedExchangeClient, order_id: str) -> VenueReport:
    async for report in client.reports():
        if report.order_id == order_id:
            return report
    raise AssertionError(order_id)


def _keys(tmp_path: Path, secret: str = "our-secret") -> dict[str, Any]:
    for name, content in (("key", "our-key"), ("secret", secret)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    return {"api_key_file": str(tmp_path / "key"), "secret_file": str(tmp_path / "secret")}


@pytest.mark.slow
def test_with_a_key_only_signed_requests_are_heard(tmp_path: Path) -> None:
    async def scenario(core: ExchangeCore, url: str) -> None:
        client = await _client(url, OURS)
        await _send(client, "o1")
        assert (await _told(client, "o1")).kind is ReportKind.ACCEPTED
        statement = await SimulatedAccountReader(url, credentials=OURS).account_statement()
        assert [order.order_id for order in statement.orders] == ["o1"]
        for stranger in (None, Credentials("our-key", "another"), Credentials("another", "our-secret")):
            with pytest.raises(VenueUnreachable):
                await _client(url, stranger)
            with pytest.raises(VenueUnreachable, match="HTTP 401"):
                await SimulatedAccountReader(url, credentials=stranger).account_statement()
        async with aiohttp.ClientSession() as session:
            paths = ("POST /v1/order", "DELETE /v1/order/o1", "GET /v1/order/o1", "POST /v1/books", "GET /v1/orders")
            for line in (*paths, "GET /v1/fills", "GET /v1/account", "POST /v1/clock", "GET /v1/reports"):
                method, path = line.split()
                async with session.request(method, url + path) as response:
                    assert response.status == 401, line
            async with session.ws_connect(url + "/v1/market") as market:
                assert (await market.receive()).type is aiohttp.WSMsgType.BINARY, "market data is for everybody"
        assert list(core.venue.state.orders) == ["o1"]
        await client.close()

    _served(scenario, **_keys(tmp_path))


def test_a_signature_holds_for_its_request_and_for_a_while() -> None:
    request = ("POST", "/v1/order?x=1", b"{}")
    headers = signed_headers(OURS, *request, NOW_MS)
    assert refusal(OURS, headers, request, NOW_MS + WINDOW_MS) is None
    assert refusal(OURS, headers, request, NOW_MS + WINDOW_MS + 1) is not None
    assert refusal(OURS, headers, request, NOW_MS - WINDOW_MS - 1) is not None
    for other in (("DELETE", *request[1:]), ("POST", "/v1/order?x=2", b"{}"), (*request[:2], b"{ }")):
        assert refusal(OURS, headers, other, NOW_MS) is not None
    assert refusal(OURS, headers | {TIME: str(NOW_MS + 1)}, request, NOW_MS) is not None
    for bad in ("", "é", "0" * 64):
        assert refusal(OURS, headers | {SIGNATURE: bad}, request, NOW_MS) is not None
    assert refusal(OURS, headers | {TIME: "x"}, request, NOW_MS) is not None


def test_one_key_file_without_the_other_stops_the_start(tmp_path: Path) -> None:
    settings = load_settings(None, {"venue.api_key_file": _keys(tmp_path)["api_key_file"]})
    with pytest.raises(SettingsError, match="belong together"):
        exchange_credentials(settings)


def test_who_is_told_to_come_later_sends_nothing_until_then() -> None:
    wait_ns = 400 * NS_PER_MS
    faults = (Fault(kind=FaultKind.THROTTLE, order_number=2, delay_ns=wait_ns),)

    async def scenario(core: ExchangeCore, url: str) -> None:
        client = await _client(url)
        for name in ("o1", "o2", "o3"):
            await _send(client, name)
        began = time.monotonic()
        reports = [await _told(client, name) for name in ("o2", "o3")]
        assert [report.kind for report in reports] == [ReportKind.NOT_SENT] * 2
        assert (reports[0].reason or "").startswith("429")
        await asyncio.sleep(max(0.0, 0.45 - (time.monotonic() - began)))
        await _send(client, "o4")
        assert (await _told(client, "o4")).kind is ReportKind.ACCEPTED
        assert list(core.venue.state.orders) == ["o1", "o4"]
        await client.close()

    _served(scenario, faults=faults)


def test_above_its_rate_the_exchange_says_when_to_come_again() -> None:
    async def scenario(core: ExchangeCore, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            answers = []
            for _ in range(30):
                async with session.get(url + "/v1/account") as response:
                    answers.append((response.status, response.headers.get("Retry-After")))
            statuses = [status for status, _ in answers]
            assert statuses[:5] == [200] * 5
            assert 429 in statuses[5:]
            waits = [float(text) for _, text in answers if text is not None]
            assert all(0 < wait_s <= 0.21 for wait_s in waits)
            await asyncio.sleep(0.5)
            async with session.get(url + "/v1/account") as response:
                assert response.status == 200
        assert core.config.requests_per_s == 5

    _served(scenario, requests_per_s=5)


def test_while_the_exchange_is_away_nothing_is_answered_and_afterwards_it_is_as_before() -> None:
    faults = (Fault(kind=FaultKind.OUTAGE, order_number=2, delay_ns=600 * NS_PER_MS),)

    async def scenario(core: ExchangeCore, url: str) -> None:
        client = await _client(url)
        await _send(client, "o1")
        assert (await _told(client, "o1")).kind is ReportKind.ACCEPTED
        await _send(client, "o2")
        await _send(client, "o3")
        assert [(await _told(client, name)).kind for name in ("o2", "o3")] == [ReportKind.TIMED_OUT] * 2
        assert await client.statement() is None
        assert client.reconnects >= 1, "its readers were cut off"
        await asyncio.sleep(0.9)
        await _send(client, "o4")
        assert (await _told(client, "o4")).kind is ReportKind.ACCEPTED
        assert list(core.venue.state.orders) == ["o1", "o4"]
        await client.close()

    _served(scenario, faults=faults)
