"""A recorded Binance stream: gzipped lines of ``<local receive time, ns> <json>``, one message each."""

import gzip
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.feeds import FeedFailed
from infra.feeds.binance.parse import SPOT, USDM, Unusable, parse_message
from infra.feeds.lines import LINE_BYTES_MAX, read_lines
from infra.feeds.row import Row
from schemas.values import NS_PER_MS, NS_PER_S

_SNIFFED_LINES: Final = 1_000
_USDM_MARKS: Final = (b'"pu":', b"@depth@0ms", b'"e":"bookTicker"')
_SYMBOL: Final = re.compile(rb'"s":"([A-Za-z0-9_.-]{1,64})"')
_EARLIEST_NS: Final = 946_684_800 * NS_PER_S
_LATEST_NS: Final = 4_102_444_800 * NS_PER_S
_CLOCKS_APART_NS: Final = 86_400 * NS_PER_S


class BinanceRecording:
    """One recorded file of one symbol; spot or USD-M is told from its content, not from its name."""

    heartbeat_ns: Final = 100 * NS_PER_MS

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._venue, self._symbol = self._sniff()
        self.instruments: tuple[str, ...] = (f"{self._venue}:{self._symbol}",)

    def _sniff(self) -> tuple[str, str]:
        lines = list(itertools.islice(self._lines(), _SNIFFED_LINES))
        venue = USDM if any(mark in line for line in lines for mark in _USDM_MARKS) else SPOT
        for line in lines:
            if found := _SYMBOL.search(line):
                return venue, found.group(1).decode("ascii")
        raise FeedFailed(f"{self.path} names no symbol in its first lines: it is not a recorded Binance stream.")

    def _lines(self) -> Iterator[bytes]:
        return read_lines(self.path, lambda: gzip.GzipFile(self.path))

    def messages(self) -> Iterator[Row]:
        """Yield a Row for every line, in order. Raises FeedFailed where the file breaks off."""
        venue, symbol = self._venue, self._symbol
        for line in self._lines():
            stamp, _, body = line.partition(b" ")
            if (
                not stamp.isdigit()
                or len(stamp) > 19
                or not _EARLIEST_NS <= (received_at_ns := int(stamp)) < _LATEST_NS
            ):
                yield 0, None, "the line does not begin with a receive time in ns", line
                continue
            if len(line) > LINE_BYTES_MAX:
                yield 0, None, f"the line is longer than {LINE_BYTES_MAX} bytes", line
                continue
            try:
                event = parse_message(body, received_at_ns, venue, symbol)
            except Unusable as error:
                yield 0, None, str(error), line
                continue
            # A receive time with a wrong digit would carry the whole run's clock with it.
            if not -_CLOCKS_APART_NS < event.event_time_ns - received_at_ns < _CLOCKS_APART_NS:
                yield 0, None, "the receive time is more than a day from the exchange's", line
                continue
            yield received_at_ns, event, None, line
