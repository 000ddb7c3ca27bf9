"""The venue client against a hand-written server that answers late, wrongly, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from aiohttp import web

from infra.venues.simulated import SimulatedExchangeClient, VenueUnreachable
from infra.venues.wire import ReportLine
from schemas.orders import CancelRequested, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce

NOW = 1_700_000_000 * NS_PER_S


def _submit() -> SubmitRequested:
    return SubmitRequested(
        key="main",
        event_time_ns=NOW,
        available_at_ns=NOW,
        event_id="a" * 32,
        order_id="o1",
        instrument="SIM:BTCUSD",
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        limit_price=100,
        quantity=1,
        not_after_ns=NOW,
    )


def _report(number: int) -> bytes:
    report = VenueReport(
        key="main",
        event_time_ns=NOW + number,
        available_at_ns=NOW + number,
        event_id=f"{number:032x}",
        order_id="o1",
        instrument="SIM:BTCUSD",
        kind=ReportKind.ACCEPTED,
    )
    return msgspec.json.encode(ReportLine(number, report))


class Server:
    """Answers orders by ``answer``; its report stream sends ``batches``, one per connection, and then hangs up."""

    def __init__(
        self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]], batches: list[list[bytes]]
    ) -> None:
        self.answer = answer
        self.batches = batches
        self.asked_after: list[str] = []

    async def start(self) -> str:
        app = web.Application()
        app.add_routes([web.route("*", "/v1/order{tail:.*}", self.answer), web.get("/v1/reports", self._reports)])
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def _reports(self, request: web.Request) -> web.StreamResponse:
        asked = request.query["after"]
        self.asked_after.append(asked)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"after": 4 if asked == "newest" else int(asked)})
        if not self.batches:
            await asyncio.sleep(30)
        for message in self.batches.pop(0):
            await socket.send_bytes(message)
        await socket.close()
        return socket


async def _fails(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def _sleeps(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def _take(client: SimulatedExchangeClient, count: int) -> list[VenueReport]:
    found: list[VenueReport] = []
    async for report in client.reports():
        found.append(report)
        if len(found) == count:
            break
    return found


def _with(server: Server, test: Callable[[SimulatedExchangeClient], Awaitable[None]]) -> None:
    async def run() -> None:
        url = await server.start()
        client = SimulatedExchangeClient(url, clock=None, timeout_s=0.3)
        try:
            await client.start()
            await asyncio.wait_for(test(client), 10.0)
        finally:
            await client.close()
            await server.runner.cleanup()

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("answer", [_fails, _sleeps])
def test_whatever_is_no_success_is_a_time_out(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
    async def test(client: SimulatedExchangeClient) -> None:
        await client.submit(_submit(), epoch=1, now_ns=NOW)
        cancel = CancelRequested(
            key="main",
            event_time_ns=NOW,
            available_at_ns=NOW,
            event_id="b" * 32,
            order_id="o1",
            instrument="SIM:BTCUSD",
        )
        await client.cancel(cancel, epoch=1, now_ns=NOW)
        query = QueryRequested(
            key="main", event_time_ns=NOW, available_at_ns=NOW, order_id="o1", instrument="SIM:BTCUSD", attempt=1
        )
        await client.query(query, now_ns=NOW)
        reports = await _take(client, 2)
        assert [report.kind for report in reports] == [ReportKind.TIMED_OUT, ReportKind.TIMED_OUT]
        assert len({report.event_id for report in reports}) == 2
        assert await client.statement("/v1/orders") is None

    _with(Server(answer, []), test)


def test_a_request_past_its_limit_never_reaches_the_socket() -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        raise AssertionError("nothing may be sent")

    async def test(client: SimulatedExchangeClient) -> None:
        await client.submit(_submit(), epoch=1, now_ns=NOW + 1)
        (report,) = await _take(client, 1)
        assert report.kind is ReportKind.NOT_SENT

    _with(Server(refuse, []), test)


def test_the_stream_resumes_after_the_last_report_and_drops_what_it_has_seen() -> None:
    async def test(client: SimulatedExchangeClient) -> None:
        reports = await _take(client, 4)
        assert [report.event_time_ns - NOW for report in reports] == [5, 6, 7, 8]

    server = Server(_fails, [[_report(5), _report(6)], [_report(6), _report(7)], [_report(8)]])
    _with(server, test)
    assert server.asked_after[:3] == ["newest", "6", "7"]


def test_a_report_that_nobody_understands_ends_the_stream_loudly() -> None:
    async def test(client: SimulatedExchangeClient) -> None:
        with pytest.raises(msgspec.DecodeError):
            await _take(client, 2)

    _with(Server(_fails, [[_report(5), b'{"sequence":6,"report":{}}']]), test)


def test_an_exchange_that_is_not_there_is_one_sentence() -> None:
    async def run() -> None:
        client = SimulatedExchangeClient("http://127.0.0.1:9", clock=None)
        with pytest.raises(VenueUnreachable, match="did not answer within"):
            await client.start(0.3)

    asyncio.run(run())
