"""Captures of any length and rate, made of a recorded one: its messages over and over, evenly spaced in time.

Several instruments, each a file of its own, take turns. At each pass the venue's numbers go on rising with a gap in
them, as after a lost connection: the book is given up, and the whole book among the pass's first messages mends it. So
there is one resynchronisation a pass and instrument, and no price of the end stands beside one of the beginning.
"""

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.settings import Settings
from schemas.values import NS_PER_MS, NS_PER_S

RECORDED: Final = Path(__file__).resolve().parents[2] / "shared/data/binance/usdm-btcusdt-20240808.gz"
VENUE: Final = "BINANCE_USDM"
RECORDED_SYMBOL: Final = "BTCUSDT"
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT")
START_NS: Final = 1_723_161_256 * NS_PER_S
_LOCAL_DELAY_NS: Final = 5 * NS_PER_MS
_GAP: Final = 1_000
_NUMBERED: Final = re.compile(rb'"(E|T|U|u|pu|t|lastUpdateId)":(\d+)')
_TIMES: Final = (b"E", b"T")
_TRADES: Final = (b"t",)
_FIELD: Final = b"%d"


@dataclass(frozen=True, slots=True)
class Tape:
    """What is made. ``per_s`` is the messages of all instruments together, ``seconds`` how long it lasts."""

    per_s: float
    seconds: float
    symbols: Sequence[str] = SYMBOLS

    @property
    def messages(self) -> int:
        """All lines of all files."""
        return self.lines_each * len(self.symbols)

    @property
    def lines_each(self) -> int:
        """The lines of each file."""
        return round(self.per_s * self.seconds / len(self.symbols))


@dataclass(frozen=True, slots=True)
class _Line:
    """A recorded message with holes for its numbers; ``holes`` are (which kind, the recorded number)."""

    text: bytes
    holes: tuple[tuple[bytes, int], ...]

    def filled(self, time_ms: int, updates: int, trades: int) -> bytes:
        """Return the message with its times set and its numbers moved on."""
        return self.text % tuple(
            time_ms if kind in _TIMES else number + (trades if kind in _TRADES else updates)
            for kind, number in self.holes
        )


def write_tape(tape: Tape, directory: Path, recorded: Path = RECORDED) -> list[Path]:
    """Write one file an instrument and return them. Raises FileNotFoundError where there is no recorded capture."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = list(_recorded(recorded, tape.lines_each))
    return [_write(tape, number, lines, directory) for number in range(len(tape.symbols))]


def instruments_of(tape: Tape, settings: Settings) -> dict[str, Any]:
    """Return the settings of the tape's instruments: those of the recorded one, under each name."""
    known = settings.instruments[f"{VENUE}:{RECORDED_SYMBOL}"].model_dump(mode="json", exclude_unset=True)
    known.pop("name", None)
    return {f"{VENUE}:{symbol}": known for symbol in tape.symbols}


def _recorded(path: Path, most: int) -> Iterator[_Line]:
    with gzip.open(path) as file:
        for number, line in enumerate(file):
            if number == most:
                return
            body = line.partition(b" ")[2].replace(b"%", b"%%")
            holes = tuple((name, int(value)) for name, value in _NUMBERED.findall(body))
            yield _Line(_NUMBERED.sub(rb'"\1":' + _FIELD, body), holes)


def _spans(lines: Sequence[_Line]) -> tuple[int, int]:
    """Return by how much the numbers of updates and of trades move on from one pass to the next."""
    updates = [number for line in lines for kind, number in line.holes if kind not in _TIMES + _TRADES]
    trades = [number for line in lines for kind, number in line.holes if kind in _TRADES]
    return max(updates) - min(updates) + _GAP, (max(trades) - min(trades) + 1) if trades else 0


def _write(tape: Tape, number: int, recorded: Sequence[_Line], directory: Path) -> Path:
    symbol = tape.symbols[number].encode()
    old = RECORDED_SYMBOL.encode()
    lines = [
        _Line(line.text.replace(old, symbol).replace(old.lower(), symbol.lower()), line.holes) for line in recorded
    ]
    updates, trades = _spans(recorded)
    step_ns = NS_PER_S * len(tape.symbols) / tape.per_s
    first_ns = START_NS + round(number * NS_PER_S / tape.per_s)
    path = directory / f"{VENUE.lower()}-{tape.symbols[number].lower()}.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for count in range(tape.lines_each):
            rounds, place = divmod(count, len(lines))
            at_ns = first_ns + round(count * step_ns)
            time_ms = (at_ns - _LOCAL_DELAY_NS) // NS_PER_MS
            file.write(b"%d %s" % (at_ns, lines[place].filled(time_ms, rounds * updates, rounds * trades)))
    return path
