"""A recorded Binance stream: gzipped lines of ``<local receive time, ns> <json>``, one message each."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.feeds import FeedFailed
from infra.feeds.binance.parse import SPOT, USDM, Unusable, parse_message
from schemas.event import Event

_SNIFFED_LINES: Final = 200
_USDM_MARKS: Final = (b'"pu":', b"@depth@0ms", b'"X":"')


class BinanceRecording:
    """One recorded file of one symbol; spot or USD-M is told from its content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._venue, self._symbol = self._sniff()
        self.instruments: tuple[str, ...] = (f"{self._venue}:{self._symbol}",)

    def _sniff(self) -> tuple[str, str]:
        symbol = ""
        for number, line in enumerate(self._lines()):
            if any(mark in line for mark in _USDM_MARKS):
                venue = USDM
                break
            if number >= _SNIFFED_LINES:
                venue = SPOT
                break
            if b'"s":"' in line:
                symbol = symbol or line.split(b'"s":"', 1)[1].split(b'"', 1)[0].decode(errors="replace")
        else:
            venue = SPOT
        if b'"s":"' in line:
            symbol = symbol or line.split(b'"s":"', 1)[1].split(b'"', 1)[0].decode(errors="replace")
        if not symbol:
            raise FeedFailed(f"{self.path}: no line names a symbol; this is not a recorded Binance stream.")
        return venue, symbol

    def _lines(self) -> Iterator[bytes]:
        line = b""
        try:
            with gzip.open(self.path, "rb") as file:
                for line in file:
                    yield line
        except FileNotFoundError as error:
            raise FeedFailed(f"{self.path} does not exist.") from error
        except (OSError, EOFError, zlib.error) as error:
            raise FeedFailed(f"{self.path} cannot be read as gzip: {error}.") from error
        if not line:
            raise FeedFailed(f"{self.path} is empty.")

    def messages(self) -> Iterator[tuple[int, Event | None, str | None, bytes]]:
        """Yield (receive time or 0, event, refusal, raw line) for every line, in order."""
        venue, symbol = self._venue, self._symbol
        for line in self._lines():
            stamp, _, body = line.partition(b" ")
            if not stamp.isdigit() or len(stamp) > 19:
                yield 0, None, "the line does not begin with a receive time in ns", line
                continue
            received_at_ns = int(stamp)
            try:
                yield received_at_ns, parse_message(body, received_at_ns, venue, symbol), None, line
            except Unusable as error:
                yield received_at_ns, None, str(error), line
