"""Requests to the simulated exchange over REST: each once, signed if there is a key, none while it says *later*."""

import time
from typing import Final, NamedTuple

import aiohttp
import msgspec

from infra.venues.binance.credentials import Credentials
from infra.venues.signing import signed_headers
from schemas.values import NS_PER_MS

TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
_LATER: Final = 429
_NOT_LET_IN: Final = frozenset({401, _LATER})
_LATER_MAX_S: Final = 60.0


class Answer(NamedTuple):
    """What came of a request: the body of a success, or why it was turned away before the exchange had seen it.

    Neither: nobody knows what became of it.
    """

    content: bytes | None = None
    refused: str = ""


class ExchangeRest:
    """The REST side of one client."""

    def __init__(self, session: aiohttp.ClientSession, url: str, credentials: Credentials | None) -> None:
        self._session = session
        self._url = url
        self._credentials = credentials
        self._closed_until_s = 0.0

    async def ask(self, method: str, path: str, body: msgspec.Struct | None) -> Answer:
        """Make a request, unless the exchange has said that it would take none yet."""
        wait_s = self._closed_until_s - time.monotonic()
        if wait_s > 0:
            return Answer(refused=f"the exchange takes no requests for another {wait_s:.1f} s")
        data = b"" if body is None else msgspec.json.encode(body)
        headers = self.headers(method, path, data)
        try:
            async with self._session.request(method, self._url + path, data=data, headers=headers) as response:
                content = await response.read()
        except TROUBLE:
            return Answer()
        if response.status < 300:
            return Answer(content)
        if response.status not in _NOT_LET_IN:
            return Answer()
        if response.status == _LATER:
            self._closed_until_s = time.monotonic() + _seconds(response.headers.get("Retry-After", ""))
        return Answer(refused=f"{response.status} {content[:200].decode(errors='replace')}".rstrip())

    def headers(self, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        """Return the headers that sign a request, none without a key."""
        if self._credentials is None:
            return {}
        return signed_headers(self._credentials, method, path, body, time.time_ns() // NS_PER_MS)


def _seconds(text: str) -> float:
    """Return what Retry-After says; a second where it cannot be read."""
    try:
        return min(max(float(text), 0.0), _LATER_MAX_S)
    except ValueError:
        return 1.0
