"""A local Binance spot: its REST and WebSocket API over the simulated exchange's matching, with faults by script.

Field names and types are those of the venue's documents. Signatures and times are checked as the venue checks them. As
there, an order's id is free again once the order is over: whoever sends it twice gets two orders, which `orders` shows.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import WSMsgType, web

from agents.sim.engine import VenueOrder
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from infra.settings_venues import BinanceSettings
from infra.venues.binance.client import BinanceVenue
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.profiles import addresses_of
from infra.venues.wire import AmendBody, CancelBody, SubmitBody
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Trade
from schemas.orders import (
    AmendRequested,
    CancelRequested,
    OrderStatus,
    ReportKind,
    SubmitRequested,
    VenueFill,
    VenueReport,
)
from schemas.values import NS_PER_MS, Liquidity, OrderType, Side, TimeInForce, to_decimal, units
from streams.exchange_core import ExchangeConfig, ExchangeCore

KEY = "k" * 32 + "PUBLIC"
SECRET = "s" * 32 + "SECRET"
_ENDED = {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED}
_EXECUTION = {
    ReportKind.ACCEPTED: "NEW",
    ReportKind.TRIGGERED: "NEW",
    ReportKind.TRADE: "TRADE",
    ReportKind.CANCELED: "CANCELED",
    ReportKind.REPLACED: "REPLACED",
    ReportKind.EXPIRED: "EXPIRED",
}
_TYPES = {
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "MARKET": OrderType.MARKET,
    "STOP_LOSS": OrderType.STOP,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
}
_REFUSALS = {
    "stop price would": (-2010, "Stop price would trigger immediately."),
    "stop price": (-1013, "Filter failure: PRICE_FILTER"),
    "quantity": (-1013, "Filter failure: LOT_SIZE"),
    "price": (-1013, "Filter failure: PRICE_FILTER"),
    "notional": (-1013, "Filter failure: NOTIONAL"),
    "insufficient": (-2010, "Account has insufficient balance for requested action."),
    "a post-only": (-2010, "Order would immediately match and take."),
}


@dataclass
class Script:
    """What goes wrong. The lists are used up from the front, one entry for each request of their kind.

    Of a request: "drop" (done, then the connection is cut), "hang" (done, never answered), "error" (done, then 504),
    "lost" (not done, then 504), "limited" (429 and Retry-After), "banned" (418 and Retry-After), "orders" (-1015),
    "garbage" (done, answered with what is none), "missing" (-2013), "behind" (executions left out).
    ``cut_on`` names the executions at which the user streams are cut instead of told.
    """

    submits: list[str] = field(default_factory=list)
    every_submit: str = ""
    cancels: list[str] = field(default_factory=list)
    amends: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    trades: list[str] = field(default_factory=list)
    open_orders: list[str] = field(default_factory=list)
    all_orders: list[str] = field(default_factory=list)
    subscriptions: list[int] = field(default_factory=list)
    cut_on: list[str] = field(default_factory=list)
    tell_twice: bool = False
    skew_ms: int = 0
    retry_after_s: int = 1
    weight_limit: int = 6000
    order_limit: int = 100
    changed_filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    can_trade: bool = True

    def next(self, kind: str) -> str:
        """Return what befalls this request."""
        entries: list[str] = getattr(self, kind)
        if entries:
            return entries.pop(0)
        return self.every_submit if kind == "submits" else ""


@dataclass
class Listed:
    """An order in the venue's list. ``number`` is its id there, ``core_id`` the simulated exchange's."""

    number: int
    client_id: str
    core_id: str
    instrument: InstrumentDefined
    kind: str
    order: VenueOrder
    time_ms: int


class _Refused(Exception):
    def __init__(self, code: int, message: str, status: int = 400) -> None:
        self.code, self.message, self.status = code, message, status


def _text(value: int) -> str:
    return f"{to_decimal(value):.8f}"


class BinanceVenueServer:
    """One running venue. ``orders`` are all it ever took; ``during_pause`` counts what came although it may not."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.orders: list[Listed] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.during_pause = 0
        self.subscribed = 0
        self.used_weight = 0
        self.order_count = 0
        self._paused_until_ns = 0
        self._by_core: dict[str, Listed] = {}
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._readers: dict[web.WebSocketResponse, list[str]] = {}
        config = ExchangeConfig(
            mode="full",
            instruments=tuple(SIM_INSTRUMENTS.values()),
            start_prices=START_PRICES,
            latency_ns=0,
            jitter_ns=0,
            receive_window_ns=1 << 62,
        )
        self.core = ExchangeCore(config, time.time_ns())
        self._instruments = {item.symbol: item for item in SIM_INSTRUMENTS.values()}

    def application(self) -> web.Application:
        """Return the web application."""
        app = web.Application()
        routes: list[tuple[str, str, Callable[..., Any], str, int]] = [
            ("GET", "/api/v3/time", self._time, "", 1),
            ("GET", "/api/v3/exchangeInfo", self._exchange_info, "", 20),
            ("GET", "/api/v3/account", self._account, "account", 20),
            ("POST", "/api/v3/order", self._place, "submits", 1),
            ("DELETE", "/api/v3/order", self._cancel, "cancels", 1),
            ("PUT", "/api/v3/order/amend/keepPriority", self._amend, "amends", 4),
            ("GET", "/api/v3/order", self._order, "queries", 4),
            ("GET", "/api/v3/openOrders", self._open_orders, "open_orders", 6),
            ("GET", "/api/v3/allOrders", self._all_orders, "all_orders", 20),
            ("GET", "/api/v3/myTrades", self._trades, "trades", 5),
        ]
        for method, path, answer, kind, weight in routes:
            app.router.add_route(method, path, self._handler(answer, kind, weight))
        app.router.add_get("/ws-api/v3", self._socket)
        app.router.add_get("/stream", self._market)
        app.router.add_get("/api/v3/depth", self._depth)
        return app

    async def run(self) -> None:
        """Keep the market going until cancelled."""
        while True:
            await self._advance()
            await asyncio.sleep(0.01)

    def of_client(self, client_id: str) -> list[Listed]:
        """Return every order that was ever taken under an id."""
        return [listed for listed in self.orders if listed.client_id == client_id]

    def cut_streams(self) -> None:
        """Cut every user stream as a failing network does."""
        for request in self._sockets.values():
            if request.transport is not None:
                request.transport.abort()
        self._sockets.clear()

    async def end_streams(self, kind: str = "eventStreamTerminated") -> None:
        """End every subscription; the connections stay."""
        for socket in tuple(self._sockets):
            await socket.send_json({"subscriptionId": 0, "event": {"e": kind, "E": self._now_ms()}})
        self._sockets.clear()

    def _now_ms(self) -> int:
        return time.time_ns() // NS_PER_MS + self.script.skew_ms

    def _handler(self, answer: Callable[..., Any], kind: str, weight: int) -> Callable[..., Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self.script.next(kind) if kind and kind != "account" else ""
            self.during_pause += time.time_ns() < self._paused_until_ns
            self.used_weight += weight
            try:
                params = dict(parse_qsl(request.rel_url.raw_query_string))
                self.requests.append((request.method, request.path, params))
                if kind:
                    self._check(request, params)
                if fault in ("limited", "banned") or self.used_weight > self.script.weight_limit:
                    self._paused_until_ns = time.time_ns() + self.script.retry_after_s * 1_000_000_000
                    raise _Refused(-1003, "Too much request weight used.", 418 if fault == "banned" else 429)
                self._befall(fault)
                body = await answer(params, fault)
            except _Refused as refusal:
                return self._answer({"code": refusal.code, "msg": refusal.message}, refusal.status)
            return await self._deliver(request, body, fault)

        return handle

    @staticmethod
    def _befall(fault: str) -> None:
        if fault == "lost":
            raise _Refused(-1007, "Timeout waiting for response from backend server.", 504)
        if fault == "missing":
            raise _Refused(-2013, "Order does not exist.")
        if fault == "orders":
            raise _Refused(-1015, "Too many new orders; current limit is 100 orders per 10 SECOND.", 429)

    async def _deliver(self, request: web.Request, body: Any, fault: str) -> web.StreamResponse:
        if fault == "drop" and request.transport is not None:
            request.transport.abort()
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "error":
            return self._answer({"code": -1007, "msg": "Send status unknown; execution status unknown."}, 504)
        if fault == "garbage":
            return web.Response(text="<html>", status=200)
        return self._answer(body, 200)

    def _answer(self, body: Any, status: int) -> web.Response:
        headers = {"X-MBX-USED-WEIGHT-1M": str(self.used_weight), "X-MBX-ORDER-COUNT-10S": str(self.order_count)}
        if status in (418, 429) and body["code"] == -1003:
            headers["Retry-After"] = str(self.script.retry_after_s)
        return web.json_response(body, status=status, headers=headers)

    def _check(self, request: web.Request, params: dict[str, str]) -> None:
        if request.headers.get("X-MBX-APIKEY") != KEY:
            raise _Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        payload, _, signature = request.rel_url.raw_query_string.rpartition("&signature=")
        self._check_signature(payload, signature)
        self._check_time(int(params["timestamp"]), int(params.get("recvWindow", "5000")))

    @staticmethod
    def _check_signature(payload: str, signature: str) -> None:
        expected = hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise _Refused(-1022, "Signature for this request is not valid.")

    def _check_time(self, timestamp_ms: int, window_ms: int) -> None:
        now_ms = self._now_ms()
        if timestamp_ms >= now_ms + 1000:
            raise _Refused(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - timestamp_ms > window_ms:
            raise _Refused(-1021, "Timestamp for this request is outside of the recvWindow.")

    async def _time(self, params: dict[str, str], fault: str) -> Any:
        del params, fault
        return {"serverTime": self._now_ms()}

    async def _exchange_info(self, params: dict[str, str], fault: str) -> Any:
        del fault
        wanted = msgspec.json.decode(params["symbols"], type=list[str])
        unknown = [symbol for symbol in wanted if symbol not in self._instruments]
        if unknown:
            raise _Refused(-1121, "Invalid symbol.")
        return {
            "timezone": "UTC",
            "serverTime": self._now_ms(),
            "rateLimits": [
                _limit("REQUEST_WEIGHT", "MINUTE", 1, self.script.weight_limit),
                _limit("ORDERS", "SECOND", 10, self.script.order_limit),
                _limit("ORDERS", "DAY", 1, 200_000),
                _limit("RAW_REQUESTS", "MINUTE", 5, 61_000),
            ],
            "exchangeFilters": [],
            "symbols": [self._symbol(self._instruments[symbol]) for symbol in wanted],
        }

    def _symbol(self, item: InstrumentDefined) -> dict[str, Any]:
        lots = {"minQty": _text(item.quantity_min), "maxQty": _text(item.quantity_max)}
        filters: dict[str, dict[str, Any]] = {
            "PRICE_FILTER": {
                "minPrice": "0.01000000",
                "maxPrice": "1000000.00000000",
                "tickSize": _text(item.tick_size),
            },
            "LOT_SIZE": {**lots, "stepSize": _text(item.lot_size)},
            "MARKET_LOT_SIZE": {"minQty": "0.00000000", "maxQty": "50.00000000", "stepSize": "0.00000000"},
            "NOTIONAL": {
                "minNotional": f"{item.notional_min:.8f}",
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            "MAX_NUM_ORDERS": {"maxNumOrders": 200},
            "MAX_NUM_ALGO_ORDERS": {"maxNumAlgoOrders": 5},
        }
        filters |= self.script.changed_filters
        return {
            "symbol": item.symbol,
            "status": "TRADING",
            "baseAsset": item.base_currency,
            "baseAssetPrecision": 8,
            "quoteAsset": item.quote_currency,
            "quotePrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"],
            "isSpotTradingAllowed": True,
            "filters": [{"filterType": name, **values} for name, values in filters.items()],
            "permissions": [],
        }

    async def _account(self, params: dict[str, str], fault: str) -> Any:
        del params, fault
        account = self.core.venue.state.accounts.get("binance")
        held = {"USD": Decimal(1_000_000)}
        if account is not None:
            for currency, amount in account.cash.items():
                held[currency] = held.get(currency, Decimal(0)) + amount
            for key, quantity in account.positions.items():
                held[SIM_INSTRUMENTS[key].base_currency] = to_decimal(quantity)
        balances = [{"asset": asset, "free": f"{amount:.8f}", "locked": "0.00000000"} for asset, amount in held.items()]
        return {
            "makerCommission": 0,
            "takerCommission": 2,
            "canTrade": self.script.can_trade,
            "canWithdraw": False,
            "canDeposit": False,
            "updateTime": self._now_ms(),
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
            "uid": 1,
        }

    async def _place(self, params: dict[str, str], fault: str) -> Any:
        del fault
        await self._advance()
        client_id = params["newClientOrderId"]
        if any(listed.order.live for listed in self.of_client(client_id)):
            raise _Refused(-2010, "Duplicate order sent.")
        instrument = self._instruments.get(params["symbol"])
        if instrument is None:
            raise _Refused(-1121, "Invalid symbol.")
        now_ns, core_id = time.time_ns(), f"{client_id}#{len(self.orders)}"
        self.core.submit(SubmitBody(_request(params, core_id, instrument, now_ns), 1, now_ns))
        reports = await self._step(now_ns)
        order = self.core.venue.state.orders[core_id]
        if order.status is OrderStatus.REJECTED:
            await self._tell(reports)
            refused = next(
                (value for start, value in _REFUSALS.items() if (order.reason or "").startswith(start)), None
            )
            raise _Refused(*(refused or (-2010, order.reason or "")))
        self.order_count += 1
        number = 1000 + len(self.orders)
        listed = Listed(number, client_id, core_id, instrument, params["type"], order, now_ns // NS_PER_MS)
        self.orders.append(listed)
        self._by_core[core_id] = listed
        body = self._full(listed)
        await self._tell(reports)
        return body

    def _full(self, listed: Listed) -> dict[str, Any]:
        fills = [
            {
                "price": _text(fill.price),
                "qty": _text(fill.quantity),
                "commission": f"{fill.fee:.8f}",
                "commissionAsset": fill.fee_currency,
                "tradeId": _trade_id(fill),
            }
            for fill in listed.order.fills
        ]
        return {
            "symbol": listed.instrument.symbol,
            "orderId": listed.number,
            "orderListId": -1,
            "clientOrderId": listed.client_id,
            "transactTime": listed.time_ms,
            **_amounts(listed),
            "workingTime": listed.time_ms,
            "fills": fills,
            "selfTradePreventionMode": "EXPIRE_MAKER",
        }

    async def _cancel(self, params: dict[str, str], fault: str) -> Any:
        del fault
        await self._advance()
        listed = next((item for item in self.of_client(params["origClientOrderId"]) if item.order.live), None)
        if listed is None:
            raise _Refused(-2011, "Unknown order sent.")
        now_ns = time.time_ns()
        times = {"event_time_ns": now_ns, "available_at_ns": now_ns}
        request = CancelRequested(key="binance", order_id=listed.core_id, instrument=listed.instrument.key, **times)
        self.core.cancel(CancelBody(request, 1, now_ns))
        reports = await self._step(now_ns)
        await self._tell(reports)
        return {
            "symbol": listed.instrument.symbol,
            "origClientOrderId": listed.client_id,
            "orderId": listed.number,
            "orderListId": -1,
            "clientOrderId": f"cancel{listed.number}",
            "transactTime": now_ns // NS_PER_MS,
            **_amounts(listed),
            "selfTradePreventionMode": "EXPIRE_MAKER",
        }

    async def _amend(self, params: dict[str, str], fault: str) -> Any:
        del fault
        await self._advance()
        listed = next((item for item in self.of_client(params["origClientOrderId"]) if item.order.live), None)
        if listed is None:
            raise _Refused(-2013, "Order does not exist.")
        quantity, order = units(params["newQty"]), listed.order
        if quantity >= order.quantity or quantity <= order.filled_quantity:
            raise _Refused(-2038, "The requested action would change no state; rejecting.")
        assert order.limit_price is not None
        now_ns = time.time_ns()
        request = AmendRequested(
            key="binance",
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            order_id=listed.core_id,
            amend_id=f"amend{len(self.requests)}",
            instrument=listed.instrument.key,
            side=order.side,
            limit_price=order.limit_price,
            quantity=quantity,
            former_price=order.limit_price,
            former_quantity=order.quantity,
            not_after_ns=now_ns + 1_000_000_000,
        )
        self.core.amend(AmendBody(request, 1, now_ns))
        await self._tell(await self._step(now_ns))
        listed.client_id = params["newClientOrderId"]
        return {
            "transactTime": now_ns // NS_PER_MS,
            "executionId": 75,
            "amendedOrder": {
                "symbol": listed.instrument.symbol,
                "orderId": listed.number,
                "orderListId": -1,
                "origClientOrderId": params["origClientOrderId"],
                "clientOrderId": listed.client_id,
                "price": _text(order.limit_price),
                "qty": _text(order.quantity),
                "executedQty": _text(order.filled_quantity),
                "preventedQty": "0.00000000",
                "quoteOrderQty": "0.00000000",
                "cumulativeQuoteQty": _amounts(listed)["cummulativeQuoteQty"],
                "status": str(order.status),
                "timeInForce": _time_in_force(listed),
                "type": listed.kind,
                "side": str(order.side),
                "workingTime": listed.time_ms,
                "selfTradePreventionMode": "EXPIRE_MAKER",
            },
        }

    async def _order(self, params: dict[str, str], fault: str) -> Any:
        del fault
        await self._advance()
        found = self.of_client(params["origClientOrderId"])
        if not found:
            raise _Refused(-2013, "Order does not exist.")
        return self._found(found[-1])

    async def _open_orders(self, params: dict[str, str], fault: str) -> Any:
        del fault
        await self._advance()
        listed = [item for item in self.orders if item.order.live and item.instrument.symbol == params["symbol"]]
        return [self._found(item) for item in listed]

    async def _all_orders(self, params: dict[str, str], fault: str) -> Any:
        del fault
        await self._advance()
        of_symbol = [item for item in self.orders if item.instrument.symbol == params["symbol"]]
        first, since_ms = int(params.get("orderId", "0")), int(params.get("startTime", "0"))
        later = [item for item in of_symbol if item.number >= first and item.time_ms >= since_ms]
        return [self._found(item) for item in later[: int(params["limit"])]]

    def _found(self, listed: Listed) -> dict[str, Any]:
        return {
            "symbol": listed.instrument.symbol,
            "orderId": listed.number,
            "orderListId": -1,
            "clientOrderId": listed.client_id,
            **_amounts(listed),
            "stopPrice": _text(listed.order.stop_price or 0),
            "icebergQty": "0.00000000",
            "time": listed.time_ms,
            "updateTime": self._now_ms(),
            "isWorking": not listed.order.waiting,
            "workingTime": listed.time_ms,
            "selfTradePreventionMode": "EXPIRE_MAKER",
        }

    async def _trades(self, params: dict[str, str], fault: str) -> Any:
        await self._advance()
        asked = params.get("orderId")
        of_symbol = (item for item in self.orders if item.instrument.symbol == params["symbol"])
        orders = [item for item in of_symbol if asked is None or item.number == int(asked)]
        first, most = int(params.get("fromId", "0")), int(params["limit"])
        since_ns = int(params.get("startTime", "0")) * NS_PER_MS
        fills = [(listed, fill) for listed in orders for fill in listed.order.fills if fill.event_time_ns >= since_ns]
        trades = [(listed, fill) for listed, fill in fills if _trade_id(fill) >= first]
        trades.sort(key=lambda pair: _trade_id(pair[1]))
        return [_trade(*pair) for pair in trades[: -1 if fault == "behind" else most]]

    async def _advance(self) -> None:
        await self._tell(await self._step(time.time_ns()))

    async def _step(self, now_ns: int) -> list[tuple[int, VenueReport]]:
        """Let the market go on to ``now_ns`` and tell its readers; return the reports on our orders."""
        reports, events = self.core.advance(now_ns)
        for event in events:
            stream = _stream_of(event)
            for socket, wanted in tuple(self._readers.items()):
                if stream is not None and stream["stream"] in wanted:
                    with suppress(ConnectionError):
                        await socket.send_json(stream)
        return reports

    async def _market(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._readers[socket] = request.query["streams"].split("/")
        async for _ in socket:
            pass
        self._readers.pop(socket, None)
        return socket

    async def _depth(self, request: web.Request) -> web.StreamResponse:
        book = self.core.snapshot(self._instruments[request.query["symbol"]].key)
        assert book is not None
        bids, asks = _sides(book)
        return web.json_response({"lastUpdateId": book.update_id, "bids": bids, "asks": asks})

    async def _tell(self, reports: list[tuple[int, VenueReport]]) -> None:
        for _, report in reports:
            listed = self._by_core.get(report.order_id)
            execution = _EXECUTION.get(report.kind)
            if listed is None or execution is None:
                continue
            if self.script.cut_on and self.script.cut_on[0] == execution:
                self.script.cut_on.pop(0)
                self.cut_streams()
            message = {"subscriptionId": 0, "event": self._event(listed, report, execution)}
            for socket in tuple(self._sockets):
                for _ in range(2 if self.script.tell_twice else 1):
                    with suppress(ConnectionError):
                        await socket.send_json(message)

    def _event(self, listed: Listed, report: VenueReport, execution: str) -> dict[str, Any]:
        trade = execution == "TRADE"
        canceled = execution == "CANCELED"
        price = listed.order.limit_price or 0
        return {
            "e": "executionReport",
            "E": self._now_ms(),
            "s": listed.instrument.symbol,
            "c": f"cancel{listed.number}" if canceled else listed.client_id,
            "S": str(listed.order.side),
            "o": listed.kind,
            "f": _time_in_force(listed),
            "q": _text(listed.order.quantity),
            "p": _text(price),
            "P": _text(listed.order.stop_price or 0),
            "F": "0.00000000",
            "g": -1,
            "C": listed.client_id if canceled else "",
            "x": execution,
            "X": str(report.status),
            "r": "NONE",
            "i": listed.number,
            "l": _text(report.last_quantity or 0),
            "z": _text(report.filled_quantity or 0),
            "L": _text(report.last_price or 0),
            "n": f"{report.fee:.8f}" if trade else "0",
            "N": report.fee_currency if trade else None,
            "T": report.event_time_ns // NS_PER_MS,
            "t": int((report.fill_id or "-1").rpartition("-")[2]) if trade else -1,
            "I": 8_641_984,
            "w": not trade and (report.triggered or not listed.order.order_type.waits),
            "m": report.liquidity is Liquidity.MAKER,
            "M": False,
            "O": listed.time_ms,
            "Z": "0.00000000",
            "Y": "0.00000000",
            "Q": "0.00000000",
            "W": listed.time_ms,
            "V": "EXPIRE_MAKER",
        }

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            asked = msgspec.json.decode(message.data)
            try:
                await self._subscribe(asked["method"], dict(asked["params"]))
            except _Refused as refusal:
                error = {"code": refusal.code, "msg": refusal.message}
                await socket.send_json({"id": asked["id"], "status": refusal.status, "error": error, "rateLimits": []})
                continue
            self.subscribed += 1
            await socket.send_json(
                {"id": asked["id"], "status": 200, "result": {"subscriptionId": 0}, "rateLimits": []}
            )
            self._sockets[socket] = request
        self._sockets.pop(socket, None)
        return socket

    async def _subscribe(self, method: str, params: dict[str, Any]) -> None:
        if self.script.subscriptions:
            raise _Refused(self.script.subscriptions.pop(0), "refused by script")
        if method != "userDataStream.subscribe.signature" or params.get("apiKey") != KEY:
            raise _Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        signature = params.pop("signature")
        self._check_signature("&".join(f"{name}={params[name]}" for name in sorted(params)), signature)
        self._check_time(int(params["timestamp"]), int(params.get("recvWindow", 5000)))


def _sides(book: BookSnapshot | DepthUpdate) -> list[list[tuple[str, str]]]:
    sides = (book.bid_prices, book.bid_quantities), (book.ask_prices, book.ask_quantities)
    return [[(_text(price), _text(size)) for price, size in zip(*side, strict=True)] for side in sides]


def _stream_of(event: Event) -> dict[str, Any] | None:
    """Return a market event of the simulated exchange as a message of a combined stream; None for what has none."""
    symbol = event.key.partition(":")[2]
    time_ms = event.event_time_ns // NS_PER_MS
    if isinstance(event, DepthUpdate):
        bids, asks = _sides(event)
        ids = {"U": event.first_update_id, "u": event.last_update_id}
        data = {"e": "depthUpdate", "E": time_ms, "s": symbol, **ids, "b": bids, "a": asks}
        return {"stream": f"{symbol.lower()}@depth@100ms", "data": data}
    if isinstance(event, Trade):
        told = {"t": int(event.trade_id.rpartition("-")[2]), "p": _text(event.price), "q": _text(event.quantity or 0)}
        data = {"e": "trade", "E": time_ms, "T": time_ms, "s": symbol, **told, "m": event.aggressor is Side.SELL}
        return {"stream": f"{symbol.lower()}@trade", "data": data}
    return None


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _trade_id(fill: VenueFill) -> int:
    return int(fill.fill_id.rpartition("-")[2])


def _time_in_force(listed: Listed) -> str:
    force = listed.order.time_in_force
    return "GTC" if force is TimeInForce.POST_ONLY or listed.kind == "MARKET" else str(force)


def _amounts(listed: Listed) -> dict[str, str]:
    order = listed.order
    quote = sum((to_decimal(fill.price) * to_decimal(fill.quantity) for fill in order.fills), Decimal(0))
    return {
        "price": _text(order.limit_price or 0),
        "origQty": _text(order.quantity),
        "executedQty": _text(order.filled_quantity),
        "origQuoteOrderQty": "0.00000000",
        "cummulativeQuoteQty": f"{quote:.8f}",
        "status": str(order.status),
        "timeInForce": _time_in_force(listed),
        "type": listed.kind,
        "side": str(order.side),
    }


def _trade(listed: Listed, fill: VenueFill) -> dict[str, Any]:
    return {
        "symbol": listed.instrument.symbol,
        "id": _trade_id(fill),
        "orderId": listed.number,
        "orderListId": -1,
        "price": _text(fill.price),
        "qty": _text(fill.quantity),
        "quoteQty": f"{to_decimal(fill.price) * to_decimal(fill.quantity):.8f}",
        "commission": f"{fill.fee:.8f}",
        "commissionAsset": fill.fee_currency,
        "time": fill.event_time_ns // NS_PER_MS,
        "isBuyer": listed.order.side is Side.BUY,
        "isMaker": fill.liquidity is Liquidity.MAKER,
        "isBestMatch": True,
    }


def _request(params: dict[str, str], core_id: str, instrument: InstrumentDefined, now_ns: int) -> SubmitRequested:
    """Return the order in the simulated exchange's words. An order of a kind that needs more than it has is refused."""
    kind = params["type"]
    if kind not in _TYPES:
        raise _Refused(-1116, "Invalid orderType.")
    limited = kind in ("LIMIT", "STOP_LOSS_LIMIT")
    if limited and "timeInForce" not in params:
        raise _Refused(-1102, "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed.")
    if not limited and "timeInForce" in params:
        raise _Refused(-1106, "Parameter 'timeInForce' sent when not required.")
    if (kind in ("MARKET", "STOP_LOSS")) == ("price" in params):
        raise _Refused(-1106, "Parameter 'price' sent when not required.")
    if kind.startswith("STOP_LOSS") != ("stopPrice" in params):
        raise _Refused(-1106, "Parameter 'stopPrice' sent when not required.")
    forces = {"LIMIT_MAKER": TimeInForce.POST_ONLY, "MARKET": TimeInForce.IOC, "STOP_LOSS": TimeInForce.GTC}
    return SubmitRequested(
        key="binance",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        order_id=core_id,
        instrument=instrument.key,
        side=Side(params["side"]),
        order_type=_TYPES[kind],
        time_in_force=forces.get(kind) or TimeInForce(params["timeInForce"]),
        limit_price=units(params["price"]) if "price" in params else None,
        stop_price=units(params["stopPrice"]) if "stopPrice" in params else None,
        quantity=units(params["quantity"]),
        not_after_ns=now_ns + 1_000_000_000,
    )


@asynccontextmanager
async def running_binance(script: Script | None = None) -> AsyncIterator[tuple[BinanceVenueServer, str]]:
    """Yield a running venue and its REST address."""
    server = BinanceVenueServer(script or Script())
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    market = asyncio.create_task(server.run())
    try:
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        market.cancel()
        await asyncio.gather(market, return_exceptions=True)
        server.cut_streams()
        await runner.cleanup()
        server.core.close()


def settings_for(url: str, **changes: Any) -> BinanceSettings:
    """Return settings that point to a local venue; the files that they name are not read."""
    files = {"api_key_file": Path("key"), "secret_file": Path("secret")}
    where = {"rest_url": url, "socket_url": url.replace("http", "ws", 1) + "/ws-api/v3"}
    return BinanceSettings(**files | where | {"request_timeout_ms": 500} | changes)


def client_for(url: str, *, now: Callable[[], int] = time.time_ns, **changes: Any) -> BinanceVenue:
    """Return a client of a local venue, not yet started."""
    settings = settings_for(url, **changes)
    return BinanceVenue(settings, addresses_of(settings), Credentials(KEY, SECRET), SIM_INSTRUMENTS.values(), now)
