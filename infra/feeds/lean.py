"""LEAN's recorded ticks and daily bars (zipped CSV): US equities, FX, and the conventions measured on them.

Equity ticks: milliseconds since midnight in New York, prices x 1e4, quotes one-sided; the market is the newest bid
line and the newest ask line, whatever the exchange. FX ticks: milliseconds since midnight at fixed UTC-5, prices
as decimals, no sizes. Daily bars: local dates, prices x 1e4. LEAN gives one clock, so it is both of our times.
"""

import datetime
import functools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast
from zoneinfo import ZoneInfo

from infra.feeds import FeedFailed
from infra.feeds.decimals import NotANumber, parse_count, parse_units
from infra.feeds.lines import read_lines
from infra.feeds.row import Row
from schemas.event import Event
from schemas.market import Quote, Trade, VenueBar
from schemas.values import NS_PER_MS, NS_PER_S, UNITS_PER_ONE

EQUITY: Final = "LEAN"
FX: Final = "FXCM"
_NEW_YORK: Final = ZoneInfo("America/New_York")
_FX_ZONE: Final = datetime.timezone(datetime.timedelta(hours=-5))
_PRICE_UNITS: Final = UNITS_PER_ONE // 10_000
_DAY_NS: Final = 86_400 * NS_PER_S
_DAY_MS: Final = 86_400_000
_TICK_NAME: Final = re.compile(r"(\d{8})_([a-z0-9.]+)_(trade|quote)_tick\.csv", re.IGNORECASE)
_FX_NAME: Final = re.compile(r"(\d{8})_([a-z0-9.]+)_tick_quote\.csv", re.IGNORECASE)
_DAILY_NAME: Final = re.compile(r"([a-z0-9.]+)\.csv", re.IGNORECASE)
_DAILY_ROW: Final = re.compile(rb"\d{8} \d\d:\d\d(,\d+){5}\s*")

_Read = Callable[[list[str]], Event]


class LeanArchive:
    """One zipped CSV of LEAN: equity trades, equity quotes, FX quotes, or daily bars."""

    heartbeat_ns: Final = NS_PER_S

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
        except FileNotFoundError as error:
            raise FeedFailed(f"{path} does not exist.") from error
        except (zipfile.BadZipFile, OSError) as error:
            raise FeedFailed(f"{path} is damaged and cannot be opened: {error}.") from error
        if len(members) != 1:
            raise FeedFailed(f"{path} holds {len(members)} files; an archive of LEAN holds one.")
        self._member = members[0]
        self._new_reader, key = self._recognise()
        self.instruments: tuple[str, ...] = (key,)

    def _recognise(self) -> tuple[Callable[[], _Read], str]:
        """Return what makes a reader of rows (each with a state of its own) and the instrument's key."""
        if match := _TICK_NAME.fullmatch(self._member):
            day, symbol, kind = match.groups()
            key, midnight_ns = f"{EQUITY}:{symbol.upper()}", self._midnight_ns(day, _NEW_YORK)
            reader = _equity_trades if kind.lower() == "trade" else _equity_quotes
            return functools.partial(reader, key, midnight_ns), key
        if match := _FX_NAME.fullmatch(self._member):
            day, symbol = match.groups()
            key = f"{FX}:{symbol.upper()}"
            return functools.partial(_fx_quotes, key, self._midnight_ns(day, _FX_ZONE)), key
        first = next(self._lines(), b"")
        if (match := _DAILY_NAME.fullmatch(self._member)) and _DAILY_ROW.fullmatch(first):
            key = f"{EQUITY}:{match.group(1).upper()}"
            return functools.partial(_daily_bars, key), key
        raise FeedFailed(f"{self.path} holds {self._member[:80]!r}, which is none of the LEAN files we read.")

    def _midnight_ns(self, day: str, zone: datetime.tzinfo) -> int:
        try:
            return _midnight_ns(day, zone)
        except ValueError as error:
            raise FeedFailed(f"{self.path}: {day!r} is not a day.") from error

    def _lines(self) -> Iterator[bytes]:
        archive = zipfile.ZipFile(self.path)
        try:
            yield from read_lines(self.path, lambda: cast(zipfile.ZipExtFile, archive.open(self._member)))
        finally:
            archive.close()

    def messages(self) -> Iterator[Row]:
        """Yield a Row for every line, in order. Raises FeedFailed where the file breaks off."""
        read = self._new_reader()
        for line in self._lines():
            try:
                event = read(line.decode("ascii").split(","))
            except (ValueError, IndexError) as error:
                yield 0, None, f"not a row of this format: {error}"[:200], line
                continue
            yield event.available_at_ns, event, None, line


def _midnight_ns(day: str, zone: datetime.tzinfo) -> int:
    midnight = datetime.datetime(int(day[:4]), int(day[4:6]), int(day[6:8]), tzinfo=zone)
    return int(midnight.timestamp()) * NS_PER_S


def _since_midnight_ns(text: str) -> int:
    milliseconds = parse_count(text, 1)
    if milliseconds >= _DAY_MS:
        raise NotANumber(f"{text!r} ms is not within a day")
    return milliseconds * NS_PER_MS


def _price(text: str) -> int:
    value = parse_count(text, _PRICE_UNITS)
    if value == 0:
        raise NotANumber("a price of 0")
    return value


def _equity_trades(key: str, midnight_ns: int) -> _Read:
    counted = 0

    def read(row: list[str]) -> Event:
        nonlocal counted
        at_ns = midnight_ns + _since_midnight_ns(row[0])
        price, quantity = _price(row[1]), parse_count(row[2], UNITS_PER_ONE)
        counted += 1
        return Trade(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            trade_id=f"{midnight_ns // NS_PER_S}-{counted}",
            price=price,
            quantity=quantity,
            aggressor=None,
        )

    return read


def _equity_quotes(key: str, midnight_ns: int) -> _Read:
    bid: tuple[int, int] | tuple[None, None] = (None, None)
    ask: tuple[int, int] | tuple[None, None] = (None, None)

    def read(row: list[str]) -> Event:
        nonlocal bid, ask
        at_ns = midnight_ns + _since_midnight_ns(row[0])
        sides = [
            (parse_count(row[place], _PRICE_UNITS), parse_count(row[place + 1], UNITS_PER_ONE)) for place in (1, 3)
        ]
        if not (sides[0][0] or sides[1][0]):
            raise NotANumber("a quote of neither side")
        bid = sides[0] if sides[0][0] else bid
        ask = sides[1] if sides[1][0] else ask
        return Quote(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            bid_price=bid[0],
            bid_quantity=bid[1],
            ask_price=ask[0],
            ask_quantity=ask[1],
        )

    return read


def _fx_quotes(key: str, midnight_ns: int) -> _Read:
    def read(row: list[str]) -> Event:
        at_ns = midnight_ns + _since_midnight_ns(row[0])
        bid_price, ask_price = parse_units(row[1]), parse_units(row[2])
        if not (bid_price and ask_price):
            raise NotANumber("a price of 0")
        return Quote(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            bid_price=bid_price,
            bid_quantity=None,
            ask_price=ask_price,
            ask_quantity=None,
        )

    return read


def _daily_bars(key: str) -> _Read:
    def read(row: list[str]) -> Event:
        # A daily bar is known when its day is over.
        at_ns = _midnight_ns(row[0].split(" ")[0], _NEW_YORK) + _DAY_NS
        return VenueBar(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            interval_ns=_DAY_NS,
            open_price=_price(row[1]),
            high_price=_price(row[2]),
            low_price=_price(row[3]),
            close_price=_price(row[4]),
            volume=parse_count(row[5], UNITS_PER_ONE),
        )

    return read
