"""Asks the simulated exchange for everything it has of our accounts: one request, one answer."""

import time

import aiohttp
import msgspec

from infra.venues.account import AccountStatement
from infra.venues.binance.credentials import Credentials
from infra.venues.signing import signed_headers
from infra.venues.simulated import VenueUnreachable
from schemas.values import NS_PER_MS

STATEMENT_PATH = "/v1/statement"


class SimulatedAccountReader:
    """An ``AccountReader`` of the exchange at ``url``. A statement of a long run is large: ``timeout_s`` is for all.

    With ``credentials`` the question is signed.
    """

    def __init__(self, url: str, *, timeout_s: float = 20.0, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    async def account_statement(self) -> AccountStatement:
        """Return the statement as of now. Raises VenueUnreachable."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_s, connect=min(3.0, self._timeout_s))
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url + STATEMENT_PATH, headers=self._headers()) as got,
            ):
                content = await got.read()
                status = got.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise VenueUnreachable(f"The exchange at {self._url} does not answer: {error or 'too late'}.") from error
        if status >= 300:
            raise VenueUnreachable(f"The exchange at {self._url} gives no statement: HTTP {status}.")
        try:
            return msgspec.json.decode(content, type=AccountStatement)
        except msgspec.DecodeError as error:
            raise VenueUnreachable(f"What the exchange at {self._url} states is not understood: {error}.") from error

    def _headers(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        return signed_headers(self._credentials, "GET", STATEMENT_PATH, b"", time.time_ns() // NS_PER_MS)
