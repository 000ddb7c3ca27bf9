"""LEAN's recorded ticks and daily bars (zipped CSV): US equities, FX, and the conventions measured on them.

Equity ticks: milliseconds since midnight in New York, prices x 1e4, quotes one-sided; the market is the newest bid
line and the newest ask line, whatever the exchange. FX ticks: milliseconds since midnight at fixed UTC-5, prices
as decimals, no sizes. Daily bars: local dates, prices x 1e4. LEAN gives one clock, so it is both of our times.
"""

import datetime
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from infra.feeds import FeedFailed
from infra.feeds.decimals import NotANumber, parse_units
from schemas.event import Event
from schemas.market import Quote, Trade, VenueBar
from schemas.values import NS_PER_MS, NS_PER_S

EQUITY: Final = "LEAN"
FX: Final = "FXCM"
_NEW_YORK: Final = ZoneInfo("America/New_York")
_FX_ZONE: Final = datetime.timezone(datetime.timedelta(hours=-5))
_PRICE_UNITS: Final = 10_000  # LEAN's 1e-4 in units of 1e-8.
_QUANTITY_UNITS: Final = 100_000_000
_DAY_NS: Final = 86_400 * NS_PER_S
_TICK_NAME: Final = re.compile(r"(\d{8})_([a-z0-9.]+)_(trade|quote)_tick\.csv", re.IGNORECASE)
_FX_NAME: Final = re.compile(r"(\d{8})_([a-z0-9.]+)_tick_(quote)\.csv", re.IGNORECASE)

Row = tuple[int, Event | None, str | None, bytes]


def _midnight_ns(day: str, zone: datetime.tzinfo) -> int:
    try:
        midnight = datetime.datetime.strptime(day, "%Y%m%d").replace(tzinfo=zone)
    except ValueError as error:
        raise FeedFailed(f"{day!r} is not a day.") from error
    return int(midnight.timestamp()) * NS_PER_S


class LeanArchive:
    """One zipped CSV of LEAN: equity trades, equity quotes, FX quotes, or daily bars."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        try:
            with zipfile.ZipFile(path) as archive:
                self._member = archive.namelist()[0]
                self._content = archive.read(self._member)
        except FileNotFoundError as error:
            raise FeedFailed(f"{path} does not exist.") from error
        except (zipfile.BadZipFile, IndexError, OSError) as error:
            raise FeedFailed(f"{path} cannot be read as a zip archive: {error}.") from error
        self._row, symbol, venue = self._reader()
        self.instruments: tuple[str, ...] = (f"{venue}:{symbol}",)

    def _reader(self) -> tuple[Callable[[list[str]], tuple[int, Event]], str, str]:
        if match := _TICK_NAME.fullmatch(self._member):
            day, symbol, kind = match.groups()
            key = f"{EQUITY}:{symbol.upper()}"
            midnight_ns = _midnight_ns(day, _NEW_YORK)
            reader = _trades(key, midnight_ns) if kind.lower() == "trade" else _equity_quotes(key, midnight_ns)
            return reader, symbol.upper(), EQUITY
        if match := _FX_NAME.fullmatch(self._member):
            day, symbol, _ = match.groups()
            return _fx_quotes(f"{FX}:{symbol.upper()}", _midnight_ns(day, _FX_ZONE)), symbol.upper(), FX
        symbol = Path(self._member).stem.upper()
        return _daily_bars(f"{EQUITY}:{symbol}"), symbol, EQUITY

    def messages(self) -> Iterator[Row]:
        """Yield (time, event, refusal, raw line) for every line, in order."""
        for line in self._content.splitlines():
            try:
                at_ns, event = self._row(line.decode("ascii").split(","))
            except (ValueError, IndexError, UnicodeDecodeError) as error:
                yield 0, None, f"not a row of this format: {error}"[:200], line
                continue
            yield at_ns, event, None, line


def _price(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise NotANumber(f"{text!r} is not a price")
    return value * _PRICE_UNITS


def _quantity(text: str) -> int:
    value = int(text)
    if value < 0:
        raise NotANumber(f"{text!r} is not a size")
    return value * _QUANTITY_UNITS


def _trades(key: str, midnight_ns: int) -> Callable[[list[str]], tuple[int, Event]]:
    counted = 0

    def read(row: list[str]) -> tuple[int, Event]:
        nonlocal counted
        at_ns = midnight_ns + int(row[0]) * NS_PER_MS
        counted += 1
        trade = Trade(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            trade_id=f"{midnight_ns // NS_PER_S}-{counted}",
            price=_price(row[1]),
            quantity=_quantity(row[2]),
            aggressor=None,
        )
        return at_ns, trade

    return read


def _equity_quotes(key: str, midnight_ns: int) -> Callable[[list[str]], tuple[int, Event]]:
    bid: tuple[int, int] | None = None
    ask: tuple[int, int] | None = None

    def read(row: list[str]) -> tuple[int, Event]:
        nonlocal bid, ask
        at_ns = midnight_ns + int(row[0]) * NS_PER_MS
        if int(row[1]):
            bid = (_price(row[1]), _quantity(row[2]))
        if int(row[3]):
            ask = (_price(row[3]), _quantity(row[4]))
        quote = Quote(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            bid_price=bid[0] if bid else None,
            bid_quantity=bid[1] if bid else None,
            ask_price=ask[0] if ask else None,
            ask_quantity=ask[1] if ask else None,
        )
        return at_ns, quote

    return read


def _fx_quotes(key: str, midnight_ns: int) -> Callable[[list[str]], tuple[int, Event]]:
    def read(row: list[str]) -> tuple[int, Event]:
        at_ns = midnight_ns + int(row[0]) * NS_PER_MS
        quote = Quote(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            bid_price=parse_units(row[1]),
            bid_quantity=None,
            ask_price=parse_units(row[2]),
            ask_quantity=None,
        )
        return at_ns, quote

    return read


def _daily_bars(key: str) -> Callable[[list[str]], tuple[int, Event]]:
    def read(row: list[str]) -> tuple[int, Event]:
        # A daily bar is known when its day is over.
        at_ns = _midnight_ns(row[0].split(" ")[0], _NEW_YORK) + _DAY_NS
        bar = VenueBar(
            key=key,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            interval_ns=_DAY_NS,
            open_price=_price(row[1]),
            high_price=_price(row[2]),
            low_price=_price(row[3]),
            close_price=_price(row[4]),
            volume=_quantity(row[5]),
        )
        return at_ns, bar

    return read
