"""Signed requests to Binance spot over REST, each once, and what is known after each: yes, no, not sent, or nothing.

*No* is only what the venue's documents say never reached its matching engine, or was turned down there. Everything
else that is not a success, a time-out, any 5xx, a rate limit, a time stamp out of its window, an answer that cannot
be read, leaves open what became of the request.
"""

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from infra.venues.binance.budget import Budget
from infra.venues.binance.clock import Reading, VenueClock
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.wire import (
    AccountFound,
    ExchangeInfo,
    OrderFound,
    Problem,
    ServerTime,
    TradeFound,
    decode,
)
from schemas.values import NS_PER_MS

TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
NO_SUCH_ORDER: Final = -2013
ARCHIVED: Final = -2026
NO_ANSWER: Final = "no answer"
DUPLICATE: Final = "Duplicate order sent."
_TIME_OUT_OF_WINDOW: Final = -1021
_TOO_MANY_ORDERS: Final = -1015
_REFUSALS: Final = frozenset(
    {-1002, -2038, -2039, -1013, -1014, -1020, -1022, -2010, -2011, NO_SUCH_ORDER, -2014, -2015, ARCHIVED}
    | set(range(-1199, -1099))
)
_TRADES_MAX: Final = 1000
ORDERS_MAX: Final = 1000


class Outcome(enum.Enum):
    """What is known of a request."""

    DONE = "done"
    REFUSED = "refused"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"


class Answer(NamedTuple):
    """What came of a request: the body of a success, or the venue's code (0 without one) and why."""

    outcome: Outcome
    body: bytes = b""
    code: int = 0
    why: str = ""

    @property
    def refused(self) -> bool:
        """Whether it was turned down, for certain."""
        return self.outcome is Outcome.REFUSED


class BinanceRest:
    """The REST side. ``clock`` and ``budget`` are shared with whoever else asks the venue; ``now`` is our clock (ns).

    ``clock_doubted`` says that the venue has refused a time of ours since somebody last looked.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        credentials: Credentials,
        clock: VenueClock,
        now: Callable[[], int],
        *,
        recv_window_ms: int,
    ) -> None:
        self._session = session
        self._url = url
        self._credentials = credentials
        self._clock = clock
        self._now = now
        self._recv_window_ms = recv_window_ms
        self.budget = Budget((), 1.0, 0.0)
        self.clock_doubted = False

    async def read_clock(self, looks: int) -> list[Reading]:
        """Look at the venue's clock so many times; return what was seen."""
        readings: list[Reading] = []
        for _ in range(looks):
            before_ns = self._now()
            answer = await self._request("GET", "/api/v3/time", "", weight=1, public=True)
            after_ns = self._now()
            found = self._read(answer, ServerTime)
            if found is not None:
                readings.append(Reading(before_ns, found.serverTime * NS_PER_MS, after_ns))
        return readings

    async def exchange_info(self, symbols: Sequence[str]) -> tuple[ExchangeInfo | None, str]:
        """Return the venue's limits and rules of these symbols; or None and why."""
        query = "symbols=" + quote(json.dumps(list(symbols), separators=(",", ":")), safe="")
        answer = await self._request("GET", "/api/v3/exchangeInfo", query, weight=20, public=True)
        return self._read(answer, ExchangeInfo), answer.why

    async def account(self) -> tuple[AccountFound | None, str]:
        """Return the balances; or None and why."""
        answer = await self.signed("GET", "/api/v3/account", {"omitZeroBalances": "true"}, weight=20)
        return self._read(answer, AccountFound), answer.why

    async def open_orders(self, symbol: str) -> list[OrderFound] | None:
        """Return what works on a symbol, of all our account, or None without an answer."""
        answer = await self.signed("GET", "/api/v3/openOrders", {"symbol": symbol}, weight=6)
        found: list[OrderFound] | None = self._read(answer, list[OrderFound])
        return found

    async def newest_orders(self, symbol: str) -> list[OrderFound] | None:
        """Return the newest orders of a symbol, open or not, at most ``ORDERS_MAX``; None without an answer."""
        params = {"symbol": symbol, "limit": str(ORDERS_MAX)}
        answer = await self.signed("GET", "/api/v3/allOrders", params, weight=20)
        found: list[OrderFound] | None = self._read(answer, list[OrderFound])
        return found

    async def trades(self, symbol: str, order_id: int) -> list[TradeFound] | None:
        """Return every execution of one order, or None without an answer."""
        found: list[TradeFound] = []
        while True:
            params = {"symbol": symbol, "orderId": str(order_id), "limit": str(_TRADES_MAX)}
            if found:
                params["fromId"] = str(found[-1].id + 1)
            page = self._read(await self.signed("GET", "/api/v3/myTrades", params, weight=5), list[TradeFound])
            if page is None:
                return None
            found += page
            if len(page) < _TRADES_MAX:
                return found

    async def order(self, symbol: str, client_id: str) -> tuple[OrderFound | None, Answer]:
        """Return an order by the id that we gave it; or None, with what was answered."""
        answer = await self.signed("GET", "/api/v3/order", {"symbol": symbol, "origClientOrderId": client_id}, weight=4)
        return self._read(answer, OrderFound), answer

    async def signed(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        weight: int,
        now_ns: int | None = None,
        order: bool = False,
    ) -> Answer:
        """Make a signed request, as of ``now_ns`` of our clock (by default: now), or say why it was not made."""
        made_ns = self._now() if now_ns is None else now_ns
        cancel = method == "DELETE"
        reason = self.budget.refusal(self._clock.venue_ns(self._now()), weight, order=order, cancel=cancel)
        if reason is not None:
            return Answer(Outcome.NOT_SENT, why=reason)
        timed = {**params, "recvWindow": str(self._recv_window_ms), "timestamp": str(self._clock.timestamp_ms(made_ns))}
        query = urlencode(timed)
        return await self._request(method, path, f"{query}&signature={self._credentials.sign(query)}", weight, order)

    async def _request(
        self, method: str, path: str, query: str, weight: int, order: bool = False, *, public: bool = False
    ) -> Answer:
        # What is signed is sent as it is: it is encoded already.
        url = URL(f"{self._url}{path}?{query}" if query else self._url + path, encoded=True)
        headers = {} if public else {"X-MBX-APIKEY": self._credentials.key}
        self.budget.spend(self._clock.venue_ns(self._now()), weight, order=order)
        try:
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
                body = await response.read()
                return self._judge(response.status, response.headers, body)
        except TROUBLE as error:
            # Only the kind of failure: a message may quote the address, and the address the signature.
            return Answer(Outcome.UNKNOWN, why=f"{NO_ANSWER}: {type(error).__name__}")

    def _judge(self, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        venue_ns = self._clock.venue_ns(self._now())
        self.budget.read(headers, venue_ns)
        if status == 200:
            return Answer(Outcome.DONE, body)
        try:
            problem = decode(body, Problem)
        except msgspec.DecodeError:
            problem = Problem(0, "no reason that can be read")
        why = f"{status} {problem.code} {problem.msg[:200]}"
        if problem.code == _TOO_MANY_ORDERS:
            self.budget.exhaust_orders(venue_ns)
        elif status in (418, 429):
            self.budget.pause(headers, venue_ns)
        self.clock_doubted = self.clock_doubted or problem.code == _TIME_OUT_OF_WINDOW
        certain = 400 <= status < 500 and status not in (403, 408, 418, 429) and problem.code in _REFUSALS
        return Answer(Outcome.REFUSED if certain else Outcome.UNKNOWN, b"", problem.code, why)

    @staticmethod
    def _read(answer: Answer, kind: Any) -> Any:
        """Return the body of a success as ``kind``; None for anything else, and for what cannot be read."""
        if answer.outcome is not Outcome.DONE:
            return None
        try:
            return decode(answer.body, kind)
        except msgspec.DecodeError:
            return None
