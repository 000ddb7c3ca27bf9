"""A recorded capture as a feed: its messages in order, with Heartbeats of its own clock between them.

Position = number of the message over all files, merged by time; the same files give the same records, so a reader
that starts at a position sees exactly what one that started at 0 would see from there.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from infra.feeds import FeedFailed
from infra.feeds.binance.recording import BinanceRecording
from infra.feeds.lean import LeanArchive
from schemas.event import Event, Heartbeat
from schemas.feed import FeedRecord
from schemas.values import NS_PER_MS, NS_PER_S

HEARTBEAT_NS: Final = 100 * NS_PER_MS
SILENCE_NS: Final = 60 * NS_PER_S
"""A longer silence is crossed by one Heartbeat instead of hundreds: the market was closed."""
_RAW_BYTES_MAX: Final = 4096

_Row = tuple[int, Event | None, str | None, bytes]


class _Recording(Protocol):
    name: str
    instruments: tuple[str, ...]

    def messages(self) -> Iterator[_Row]:
        """Yield the messages in order."""


class Capture:
    """One run's recorded input: one file, or several merged by their receive times."""

    def __init__(self, recordings: Sequence[_Recording]) -> None:
        self._recordings = recordings
        self.name = "+".join(recording.name for recording in recordings)
        self.instruments = tuple(
            sorted({instrument for recording in recordings for instrument in recording.instruments})
        )

    def records(self, start: int = 0) -> Iterator[FeedRecord]:
        """Yield the records from position ``start`` on. Raises FeedFailed when a file breaks off."""
        beat_ns = 0
        for position, (at_ns, event, refused, raw) in enumerate(self._merged()):
            beats, beat_ns = _heartbeats(beat_ns, at_ns)
            if position < start:
                continue
            if event is None:
                yield FeedRecord(position=position, events=beats, refused=refused, raw=raw[:_RAW_BYTES_MAX])
            else:
                yield FeedRecord(position=position, events=(*beats, event))

    def _merged(self) -> Iterator[_Row]:
        if len(self._recordings) == 1:
            return self._recordings[0].messages()
        streams = [_timed(recording.messages()) for recording in self._recordings]
        return (row for _, row in heapq.merge(*streams, key=lambda item: item[0]))


def _timed(rows: Iterator[_Row]) -> Iterator[tuple[int, _Row]]:
    """Give a refused line, which has no time, the time of its predecessor, so that merging keeps its place."""
    newest = 0
    for row in rows:
        newest = max(newest, row[0])
        yield newest, row


def _heartbeats(beat_ns: int, at_ns: int) -> tuple[tuple[Event, ...], int]:
    """Return the Heartbeats due before ``at_ns`` and the newest one's time; ``beat_ns`` is 0 before the first."""
    newest = at_ns - at_ns % HEARTBEAT_NS
    if newest <= beat_ns:
        return (), beat_ns
    first = beat_ns + HEARTBEAT_NS if beat_ns and newest - beat_ns <= SILENCE_NS else newest
    return tuple(_heartbeat(time_ns) for time_ns in range(first, newest + 1, HEARTBEAT_NS)), newest


def _heartbeat(time_ns: int) -> Event:
    return Heartbeat(key="market.event", event_time_ns=time_ns, available_at_ns=time_ns, clock="capture")


def open_capture(paths: Sequence[Path]) -> Capture:
    """Return the capture in ``paths``. Raises FeedFailed for what is missing, broken or of no known format."""
    if not paths:
        raise FeedFailed("A capture needs at least one file.")
    return Capture([_open(path) for path in sorted(paths)])


def _open(path: Path) -> _Recording:
    if not path.is_file():
        raise FeedFailed(f"{path} is not a file.")
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == b"\x1f\x8b":
        return BinanceRecording(path)
    if magic == b"PK":
        return LeanArchive(path)
    raise FeedFailed(f"{path} is neither a gzipped Binance stream nor a zipped LEAN file.")


def first_records(capture: Capture, count: int) -> list[FeedRecord]:
    """Return at most ``count`` records from the beginning, for whoever must look before the run."""
    return list(itertools.islice(capture.records(), count))
