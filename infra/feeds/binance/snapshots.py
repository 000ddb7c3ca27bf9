"""Depth snapshots by REST: asked for one at a time, never faster than allowed, and again until one has come."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final, NoReturn

import aiohttp

from infra.feeds.binance.endpoints import ConnectionPolicy, Endpoints

_TOO_MANY: Final = frozenset({418, 429})
_RETRY_AFTER_MAX_S: Final = 600.0
_TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
_log: Final = logging.getLogger(__name__)

Deliver = Callable[[str, bytes], bool]
"""Takes (symbol, body) as it was received; returns whether it was a snapshot."""


class SnapshotFailed(Exception):
    """An answer that is not a snapshot; ``retry_after_s`` is how long the venue wants to be left alone."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class SnapshotRequests:
    """The one who asks. Asking twice for a symbol before it is answered is asking once.

    ``asked`` counts requests, ``failed`` those that brought no snapshot.
    """

    def __init__(
        self, session: aiohttp.ClientSession, endpoints: Endpoints, policy: ConnectionPolicy, deliver: Deliver
    ) -> None:
        self._session = session
        self._endpoints = endpoints
        self._policy = policy
        self._deliver = deliver
        self._wanted: dict[str, None] = {}
        self._something_wanted = asyncio.Event()
        self._jitter = random.Random()
        self.asked = 0
        self.failed = 0

    def want(self, symbol: str) -> None:
        """Put a symbol behind those that already wait."""
        self._wanted.setdefault(symbol)
        self._something_wanted.set()

    async def run(self) -> NoReturn:
        """Ask until cancelled. A request that fails is put back, and the pause before the next one grows."""
        failures = 0
        while True:
            await self._something_wanted.wait()
            symbol = next(iter(self._wanted))
            pause_s = self._policy.snapshot_interval_s
            try:
                await self._ask(symbol)
            except (*_TROUBLE, SnapshotFailed) as error:
                self.failed += 1
                retry_after_s = error.retry_after_s if isinstance(error, SnapshotFailed) else 0.0
                pause_s = max(pause_s, retry_after_s, self._policy.backoff_s(failures, self._jitter.random()))
                failures += 1
                _log.warning("no depth snapshot of %s: %s; next request in %.1f s", symbol, error, pause_s)
                # To the end of the line: one broken symbol must not keep the others from being asked for.
                self._wanted[symbol] = self._wanted.pop(symbol)
            else:
                failures = 0
                del self._wanted[symbol]
                if not self._wanted:
                    self._something_wanted.clear()
            await asyncio.sleep(pause_s)

    async def _ask(self, symbol: str) -> None:
        self.asked += 1
        timeout = aiohttp.ClientTimeout(total=self._policy.request_timeout_s)
        async with self._session.get(self._endpoints.depth_url(symbol), timeout=timeout) as response:
            if response.status != 200:
                wait_s = _retry_after_s(response) if response.status in _TOO_MANY else 0.0
                raise SnapshotFailed(f"the venue answered {response.status}", wait_s)
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > self._policy.message_bytes_max:
                    raise SnapshotFailed(f"the answer is longer than {self._policy.message_bytes_max} bytes")
        if not self._deliver(symbol, bytes(body)):
            raise SnapshotFailed("the answer was not a depth snapshot")


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    with contextlib.suppress(ValueError):
        return min(_RETRY_AFTER_MAX_S, max(0.0, float(response.headers.get("Retry-After", "60"))))
    return 60.0
