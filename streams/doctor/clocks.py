"""Our clock against the others': an order that is dated wrong is refused, or sent when nobody wants it any more.

Kafka tells no time, so it is asked of nobody but those who do.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
import psycopg

from infra.settings import Settings, SettingsError
from infra.venues.binance.clock import Reading
from infra.venues.binance.profiles import addresses_of
from schemas.values import NS_PER_MS, NS_PER_S
from streams.doctor.examination import Finding, failed, ok, warning

_LOOKS: Final = 3
_ANSWER_S: Final = 4
_MEND: Final = "Let chrony or systemd-timesyncd keep this machine's clock, and see `chronyc tracking`."
_DATABASE_NS: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000"


def judged(name: str, whose: str, readings: list[Reading], allowed_ms: int) -> Finding:
    """Return what the surest of several looks at another clock says; ``allowed_ms`` apart is too far."""
    surest = min(readings, key=lambda reading: reading.doubt_ns)
    apart, doubt = surest.offset_ns / NS_PER_MS, surest.doubt_ns / NS_PER_MS
    said = f"{whose} is {abs(apart):.0f} ms {'ahead' if apart > 0 else 'behind'}, give or take {doubt:.0f}"
    if abs(apart) - doubt > allowed_ms:
        return failed(name, f"{said}; {allowed_ms} are allowed.", _MEND)
    if abs(apart) - doubt > allowed_ms / 2:
        return warning(name, f"{said}; {allowed_ms} are allowed.", _MEND)
    return ok(name, f"{said}.")


def looked(ask_ns: Callable[[], int], clock: Callable[[], int] = time.time_ns) -> list[Reading]:
    """Return several looks at another clock."""
    found: list[Reading] = []
    for _ in range(_LOOKS):
        before = clock()
        there = ask_ns()
        found.append(Reading(before, there, clock()))
    return found


def of_the_database(settings: Settings, clock: Callable[[], int] = time.time_ns) -> Iterator[Finding]:
    """Compare with the database's clock, if the settings name one that answers; that it does not is another check's."""
    name = "clock of postgres"
    try:
        dsn = settings.postgres.conninfo()
        if dsn is None:
            return
        with psycopg.connect(dsn, connect_timeout=_ANSWER_S, autocommit=True) as connection:

            def ask() -> int:
                row = connection.execute(_DATABASE_NS).fetchone()
                assert row is not None
                return int(row[0])

            yield judged(name, "The database's clock", looked(ask, clock), settings.venue.clock_skew_max_ms)
    except (psycopg.OperationalError, OSError):
        yield warning(name, "Not compared: the database does not answer.", "Mend what is said of postgres.")


def of_the_venues(settings: Settings, clock: Callable[[], int] = time.time_ns) -> Iterator[Finding]:
    """Compare with the clock of every venue that the settings name."""
    if settings.venue.url is not None:
        # It keeps this machine's time or a capture's, and says on each answer when that was made.
        asked = settings.venue.url.rstrip("/") + "/v1/account"
        yield _venue("clock of the exchange", asked, _dated, settings.venue.clock_skew_max_ms, clock)
    binance = settings.venues.binance
    if binance is None:
        return
    name = "clock of binance"
    try:
        asked = f"{addresses_of(binance).rest_url}/api/v3/time"
    except SettingsError as error:
        yield failed(name, str(error), "Correct the section venues.binance.")
        return
    yield _venue(name, asked, _told, binance.clock_skew_max_ms, clock)


Read = Callable[[aiohttp.ClientResponse], Awaitable[tuple[int, int]]]
"""From an answer: the venue's time, and how coarse it is (both ns)."""


async def _told(response: aiohttp.ClientResponse) -> tuple[int, int]:
    content = await response.json(content_type=None)
    return int(content["serverTime"]) * NS_PER_MS, 0


async def _dated(response: aiohttp.ClientResponse) -> tuple[int, int]:
    """Return the middle of the second that the answer is dated by."""
    second = parsedate_to_datetime(response.headers["Date"])
    return int(second.timestamp()) * NS_PER_S + NS_PER_S // 2, NS_PER_S // 2


def _venue(name: str, url: str, read: Read, allowed_ms: int, clock: Callable[[], int]) -> Finding:
    try:
        readings = asyncio.run(_asked(url, read, clock))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        mend = "Start the venue, correct its address, or let this machine's network reach it."
        return failed(name, f"{url} does not tell its time ({said[:200]}).", mend)
    return judged(name, "The venue's clock", readings, allowed_ms)


async def _asked(url: str, read: Read, clock: Callable[[], int]) -> list[Reading]:
    found: list[Reading] = []
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for _ in range(_LOOKS):
            before = clock()
            async with session.get(url) as response:
                there, coarse = await read(response)
            found.append(Reading(before - coarse, there, clock() + coarse))
    return found
