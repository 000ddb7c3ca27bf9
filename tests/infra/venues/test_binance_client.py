"""The Binance adapter as a whole: how it starts, or does not, what it sends, and what it makes of refusals."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from binance_venue_server import KEY, SECRET, Script, client_for, running_binance, settings_for

from agents.sim.instruments import SIM_INSTRUMENTS
from infra.settings import Settings, load_settings
from infra.settings_sources import SettingsError
from infra.venues.binance.client import BinanceVenue
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.profiles import addresses_of
from infra.venues.routed import RoutedVenues
from infra.venues.simulated import VenueUnreachable
from schemas.orders import CancelRequested, OrderStatus, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units
from streams.composition import compose
from streams.engine.ports import WorkerFailed
from streams.launch import build_worker
from streams.venues import check_venue, needs_simulated, on_binance, open_venue

BTC, ETH = "SIM:BTCUSD", "SIM:ETHUSD"


def _run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def _submit(order_id: str = "o1", **changes: Any) -> SubmitRequested:
    now_ns = time.time_ns()
    fields: dict[str, Any] = {
        "key": "main",
        "event_time_ns": now_ns,
        "available_at_ns": now_ns,
        "event_id": f"{order_id:0>32}",
        "order_id": order_id,
        "instrument": BTC,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "limit_price": units("40000"),
        "quantity": units("0.01"),
        "not_after_ns": now_ns + NS_PER_S,
    }
    return SubmitRequested(**fields | changes)


def _about(kind: type[Any], order_id: str, instrument: str = BTC) -> Any:
    now_ns = time.time_ns()
    fields = {"key": "main", "event_time_ns": now_ns, "available_at_ns": now_ns, "event_id": f"{order_id:1>32}"}
    more = {"attempt": 1} if kind is QueryRequested else {}
    return kind(**fields, order_id=order_id, instrument=instrument, **more)


async def _first(reports: AsyncIterator[VenueReport], *kinds: ReportKind) -> VenueReport:
    while (report := await anext(reports)).kind not in kinds:
        pass
    return report


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (Script(skew_ms=5_000), "Binance cannot be traded on: the clocks are up to"),
        (Script(can_trade=False), "The Binance account of our key may not trade"),
        (Script(changed_filters={"PRICE_FILTER": {"minPrice": "0", "maxPrice": "0", "tickSize": "0.3"}}), "tick_size"),
        (Script(subscriptions=[-2015] * 99), "was not ready within 0.6 s: the subscription was refused: -2015"),
        (Script(weight_limit=0), "Binance cannot be traded on: the venue's clock is not known"),
    ],
)
def test_a_venue_that_is_not_as_it_must_be_is_not_traded_on(script: Script, sentence: str) -> None:
    async def test() -> None:
        async with running_binance(script) as (_, url):
            with pytest.raises(VenueUnreachable) as refused:
                await client_for(url).start(0.6)
            assert sentence in str(refused.value)
            assert KEY not in str(refused.value) and SECRET not in str(refused.value)

    _run(test)


def test_a_wrong_secret_and_a_venue_that_is_not_there_are_told_apart() -> None:
    async def test() -> None:
        async with running_binance() as (_, url):
            settings = settings_for(url)
            strangers = BinanceVenue(
                settings, addresses_of(settings), Credentials(KEY, "wrong"), SIM_INSTRUMENTS.values()
            )
            with pytest.raises(VenueUnreachable, match="does not take our key: 400 -1022 Signature"):
                await strangers.start()
        with pytest.raises(VenueUnreachable, match="clock is not known"):
            await client_for("http://127.0.0.1:1").start()

    _run(test)


def test_orders_of_every_kind_meet_the_market() -> None:
    async def test() -> None:
        async with running_binance() as (server, url):
            client = client_for(url)
            await client.start()
            reports = client.reports()
            taking: dict[str, Any] = {"time_in_force": TimeInForce.IOC, "limit_price": units("61000")}
            fok = taking | {"time_in_force": TimeInForce.FOK, "quantity": units("90")}
            market = {"order_type": OrderType.MARKET, "limit_price": None, "time_in_force": TimeInForce.IOC}
            for order_id, changes, last in (
                ("market", market, ReportKind.TRADE),
                ("ioc", taking, ReportKind.TRADE),
                ("fok", fok, ReportKind.EXPIRED),
                ("maker", {"time_in_force": TimeInForce.POST_ONLY}, ReportKind.ACCEPTED),
            ):
                await client.submit(_submit(order_id, **changes), epoch=1, now_ns=time.time_ns())
                told = [await _first(reports, ReportKind.ACCEPTED)]
                while told[-1].kind is not last:
                    told.append(await anext(reports))
                assert {report.order_id for report in told} == {order_id}
            kinds = [params["type"] for method, _, params in server.requests if method == "POST"]
            assert kinds == ["MARKET", "LIMIT", "LIMIT", "LIMIT_MAKER"]
            crossing = _submit("crossing", **taking | {"time_in_force": TimeInForce.POST_ONLY})
            await client.submit(crossing, epoch=1, now_ns=time.time_ns())
            refused = await _first(reports, ReportKind.REJECTED)
            assert refused.reason == "400 -2010 Order would immediately match and take."
            await client.close()

    _run(test)


def test_what_the_venue_would_refuse_is_not_sent() -> None:
    async def test() -> None:
        async with running_binance() as (server, url):
            client = client_for(url)
            await client.start()
            reports = client.reports()
            for order_id, changes, reason in (
                (
                    "tick",
                    {"limit_price": units("40000.1")},
                    "PRICE_FILTER: the price is not a multiple of the increment",
                ),
                ("small", {"quantity": units("0.0001")}, "NOTIONAL: 4 is outside 10 to 9000000"),
                ("long" * 10, {}, "cannot be an order's id at this venue"),
                ("other", {"instrument": "EXT:BTCUSD"}, "the instrument is not traded at this venue"),
            ):
                await client.submit(_submit(order_id, **changes), epoch=1, now_ns=time.time_ns())
                report = await anext(reports)
                assert report.kind is ReportKind.REJECTED and reason in (report.reason or "")
            await client.query(_about(QueryRequested, "other", "EXT:BTCUSD"), now_ns=time.time_ns())
            assert (await anext(reports)).kind is ReportKind.NOT_FOUND
            await client.cancel(_about(CancelRequested, "other", "EXT:BTCUSD"), epoch=1, now_ns=time.time_ns())
            assert (await anext(reports)).kind is ReportKind.CANCEL_REJECTED
            assert not [item for item in server.requests if item[1] == "/api/v3/order"]
            await client.close()

    _run(test)


def test_an_id_that_works_at_the_venue_already_is_asked_about_and_not_taken_for_refused() -> None:
    async def test() -> None:
        async with running_binance() as (server, url):
            former, later = client_for(url), client_for(url)
            await former.start()
            await former.submit(_submit(), epoch=1, now_ns=time.time_ns())
            await former.close()
            await later.start()
            reports = later.reports()
            await later.submit(_submit(), epoch=2, now_ns=time.time_ns())
            assert (await anext(reports)).kind is ReportKind.TIMED_OUT
            await later.query(_about(QueryRequested, "o1"), now_ns=time.time_ns())
            assert (await _first(reports, ReportKind.STATUS)).status is OrderStatus.NEW
            assert len(server.of_client("o1")) == 1
            await later.close()

    _run(test)


def test_orders_of_a_former_life_are_followed_once_they_have_been_asked_about() -> None:
    async def test() -> None:
        async with running_binance() as (server, url):
            former, later = client_for(url), client_for(url)
            await former.start()
            for order_id in ("o1", "o2"):
                await former.submit(_submit(order_id), epoch=1, now_ns=time.time_ns())
            await former.close()
            await later.start()
            reports = later.reports()
            await later.query(_about(QueryRequested, "o1"), now_ns=time.time_ns())
            assert (await anext(reports)).kind is ReportKind.STATUS
            for order_id in ("o2", "o1"):
                await later.cancel(_about(CancelRequested, order_id), epoch=2, now_ns=time.time_ns())
            assert [(await anext(reports)).kind for _ in range(2)] == [ReportKind.CANCELED] * 2
            working = await later.open_orders(BTC)
            assert working == []
            account = await later.account()
            assert account is not None and {"USD"} <= {item.asset for item in account.balances}
            await later.close()
            assert len(server.orders) == 2

    _run(test)


def test_a_cancel_of_an_older_epoch_is_not_sent() -> None:
    async def test() -> None:
        async with running_binance() as (server, url):
            client = client_for(url)
            await client.start()
            await client.submit(_submit(), epoch=7, now_ns=time.time_ns())
            await client.cancel(_about(CancelRequested, "o1"), epoch=6, now_ns=time.time_ns())
            report = await _first(client.reports(), ReportKind.CANCEL_REJECTED)
            assert report.reason == "fenced: epoch 6 is below 7"
            assert server.of_client("o1")[0].order.live
            await client.close()

    _run(test)


class Quiet:
    """A venue that reports what it is asked, or breaks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: asyncio.Queue[VenueReport | None] = asyncio.Queue()
        self.broken: Exception | None = None

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        await self._say(request, f"submit {epoch}")

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        await self._say(request, f"cancel {epoch}")

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        await self._say(request, "query")

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        return None

    async def tell_time(self, now_ns: int) -> bool:
        return self.name == "rest"

    async def reports(self) -> AsyncIterator[VenueReport]:
        while (report := await self.queue.get()) is not None:
            yield report
        if self.broken is not None:
            raise self.broken

    async def close(self) -> None:
        self.queue.put_nowait(None)

    async def _say(self, request: Any, what: str) -> None:
        report = VenueReport(
            key=self.name,
            event_time_ns=0,
            available_at_ns=0,
            order_id=request.order_id,
            instrument=request.instrument,
            kind=ReportKind.ACCEPTED,
            reason=what,
        )
        await self.queue.put(report)


def test_each_request_goes_to_the_venue_of_its_instrument_and_all_reports_come_back() -> None:
    async def test() -> None:
        binance, rest = Quiet("binance"), Quiet("rest")
        venues = RoutedVenues({"BINANCE": binance}, rest)
        reports = venues.reports()
        for instrument, name in (("BINANCE:BTCUSDT", "binance"), ("BINANCE_USDM:BTCUSDT", "rest"), (BTC, "rest")):
            await venues.submit(_submit(instrument=instrument), epoch=3, now_ns=0)
            await venues.cancel(_about(CancelRequested, "o1", instrument), epoch=3, now_ns=0)
            await venues.query(_about(QueryRequested, "o1", instrument), now_ns=0)
            told = [await anext(reports) for _ in range(3)]
            assert [(report.key, report.reason) for report in told] == [
                (name, "submit 3"),
                (name, "cancel 3"),
                (name, "query"),
            ]
        assert await venues.tell_time(0) is True
        await venues.close()
        assert [report async for report in reports] == []

    _run(test)


def test_a_venue_that_breaks_breaks_all() -> None:
    async def test() -> None:
        broken, rest = Quiet("binance"), Quiet("rest")
        broken.broken = ValueError("it said what nobody understands")
        reports = RoutedVenues({"BINANCE": broken}, rest).reports()
        broken.queue.put_nowait(None)
        with pytest.raises(ValueError, match="nobody understands"):
            await anext(reports)

    _run(test)


def _settings(tmp_path: Path, url: str, **changes: Any) -> Settings:
    for name, text in (("key", KEY), ("secret", SECRET)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    overrides: dict[str, Any] = {
        "feed.kind": "binance",
        "feed.instruments": ["BINANCE:ETHUSD"],
        "instruments.BINANCE:ETHUSD": {
            **{"tick_size": "0.05", "lot_size": "0.001", "quantity_min": "0.001", "quantity_max": 1000},
            **{"base_currency": "ETH", "quote_currency": "USD", "maker_fee_rate": 0, "taker_fee_rate": "0.001"},
        },
        "venues.binance.api_key_file": str(tmp_path / "key"),
        "venues.binance.secret_file": str(tmp_path / "secret"),
        "venues.binance.rest_url": url,
        "venues.binance.socket_url": url.replace("http", "ws", 1) + "/ws-api/v3",
    }
    return load_settings(None, overrides | changes, {})


def test_a_run_trades_instruments_of_binance_there_once_it_is_configured(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_binance() as (server, url):
            run = compose(_settings(tmp_path, url))
            assert on_binance(run) == ("BINANCE:ETHUSD",) and not needs_simulated(run)
            check_venue(run)
            venue = await open_venue(run)
            order = _submit(instrument="BINANCE:ETHUSD", limit_price=units("2000"), quantity=units("0.1"))
            await venue.submit(order, epoch=1, now_ns=time.time_ns())
            assert (await anext(venue.reports())).instrument == "BINANCE:ETHUSD"
            assert server.of_client("o1")[0].instrument.symbol == "ETHUSD"
            await venue.close()

    _run(test)


def test_without_binance_in_the_settings_nothing_goes_there(tmp_path: Path) -> None:
    run = compose(load_settings(None, {}, {}))
    assert on_binance(run) == () and needs_simulated(run)
    with pytest.raises(SettingsError, match=r"venue\.url is missing"):
        check_venue(run)
    settings = _settings(tmp_path, "http://127.0.0.1:1")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(SettingsError, match="has mode 0644"):
        check_venue(compose(settings))


def test_a_worker_of_the_real_exchange_does_not_even_begin_unconfirmed(tmp_path: Path) -> None:
    real = {"venues.binance.profile": "production", "venues.binance.rest_url": "https://api.binance.com"}
    # The shipped champion is signed by a key that everybody has.
    real |= {"models.allow_development_key": False, "strategies.committee.policy": "baseline"}
    run = compose(_settings(tmp_path, "http://127.0.0.1:1", **real))
    with pytest.raises(SettingsError, match="orders would be real"):
        build_worker(run, _engine_of(run), ["execution"])

    async def test() -> None:
        with pytest.raises(WorkerFailed, match="orders would be real") as failed:
            await open_venue(run)
        assert failed.value.exit_code == 2

    _run(test)


def _engine_of(run: Any) -> Any:
    """What the engine knows, of which nothing is used before the venue has been judged."""
    del run
    from streams.engine.ports import EngineSettings

    return EngineSettings(
        bootstrap="127.0.0.1:1", dsn="", instrument_partitions=4, settings_hash="", code_version="", codec=None
    )
