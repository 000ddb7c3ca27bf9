"""What stands before the simulated exchange's handlers: outages by script, throttles, and signatures.

Whatever is turned away here has not been seen by the exchange: it is a definite no, save in an outage, where there is
no answer at all.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from agents.sim.venue_state import Fault, FaultKind
from infra.venues.binance.credentials import Credentials, read_credentials
from infra.venues.signing import refusal
from schemas.values import NS_PER_MS, NS_PER_S
from streams.exchange_core import ExchangeConfig

METRICS_PATH: Final = "/metrics"
_PUBLIC: Final = frozenset({"/v1/market", METRICS_PATH})
_UNLIMITED: Final = frozenset({"/v1/market", "/v1/reports", METRICS_PATH})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """Lets requests in. ``cut`` drops every reader when an outage begins; ``now_ns`` is the wall's clock."""

    def __init__(
        self, config: ExchangeConfig, cut: Callable[[], None], now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._faults = config.faults
        self._per_s = config.requests_per_s
        self._credentials = credentials_of(config)
        self._cut = cut
        self._now_ns = now_ns
        self._submits = 0
        self._away_until_ns = 0
        self._tokens = float(config.requests_per_s)
        self._filled_ns = now_ns()

    async def let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer in the handler's place, or let it."""
        now_ns = self._now_ns()
        due = self._due_faults(request)
        outage = next((fault for fault in due if fault.kind is FaultKind.OUTAGE), None)
        if outage is not None:
            self._away_until_ns = now_ns + outage.delay_ns
            self._cut()
        if now_ns < self._away_until_ns:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        throttle = next((fault.delay_ns for fault in due if fault.kind is FaultKind.THROTTLE), None)
        wait_ns = throttle if throttle is not None else self._over_the_rate(request, now_ns)
        if wait_ns:
            return web.Response(status=429, headers={"Retry-After": f"{wait_ns / NS_PER_S:.3f}"})
        if self._credentials is not None and request.path not in _PUBLIC:
            signed = (request.method, request.raw_path, await request.read())
            reason = refusal(self._credentials, request.headers, signed, now_ns // NS_PER_MS)
            if reason is not None:
                return web.Response(status=401, text=reason)
        return await handler(request)

    def _due_faults(self, request: web.Request) -> list[Fault]:
        if request.method != "POST" or request.path != "/v1/order":
            return []
        self._submits += 1
        return [fault for fault in self._faults if fault.befalls(self._submits)]

    def _over_the_rate(self, request: web.Request, now_ns: int) -> int:
        """Return how long (ns) to wait before there is a place for a request; 0 for one that may come in now."""
        if not self._per_s or request.path in _UNLIMITED:
            return 0
        earned = (now_ns - self._filled_ns) * self._per_s / NS_PER_S
        self._tokens, self._filled_ns = min(float(self._per_s), self._tokens + earned), now_ns
        if self._tokens < 1:
            return max(1, round((1 - self._tokens) / self._per_s * NS_PER_S))
        self._tokens -= 1
        return 0


def credentials_of(config: ExchangeConfig) -> Credentials | None:
    """Return whom the exchange lets in; None: everybody. Raises SettingsError."""
    if config.api_key_file is None or config.secret_file is None:
        return None
    return read_credentials(Path(config.api_key_file), Path(config.secret_file), "venue")
