"""A recorded capture as records: its messages in order, with Heartbeats of its own clock between them.

Position = number of the line over all files, merged by time of receipt; the same files give the same records, so a
reader that starts at a position sees exactly what one that started at 0 would see from there. What a line means may
hang on the lines before it (one-sided quotes), so starting later reads, but does not hand over, what comes before.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from infra.feeds import RAW_BYTES_MAX, FeedFailed
from infra.feeds.binance.recording import BinanceRecording
from infra.feeds.lean import LeanArchive
from infra.feeds.row import Recording, Row
from schemas.event import Event, Heartbeat
from schemas.feed import FeedRecord
from schemas.values import NS_PER_S

SILENCE_NS: Final = 60 * NS_PER_S
"""A longer silence is crossed by one Heartbeat instead of hundreds: the market was closed."""
HEARTBEAT_KEY: Final = "market.event"


class Capture:
    """One run's recorded input: one file, or several merged by their times of receipt.

    ``name`` is the same for the same files, ``instruments`` the keys of all events, ``recordings`` the files.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = recordings
        self._step_ns = min(recording.heartbeat_ns for recording in recordings)
        self.name = "+".join(recording.name for recording in recordings)
        self.instruments = tuple(
            sorted({instrument for recording in recordings for instrument in recording.instruments})
        )

    def records(self, start: int = 0) -> Iterator[FeedRecord]:
        """Yield the records from position ``start`` on, one a line. Raises FeedFailed when a file breaks off.

        A Heartbeat comes in the record of the first line whose time reaches it, before that line's event.
        """
        due_ns, step_ns = 0, self._step_ns
        for position, (at_ns, event, refused, raw) in enumerate(self._rows()):
            beats: tuple[Event, ...] = ()
            if at_ns >= due_ns and event is not None:
                beats = _heartbeats(due_ns, at_ns, step_ns)
                due_ns = at_ns - at_ns % step_ns + step_ns
            if position < start:
                continue
            if event is None:
                yield FeedRecord(position=position, events=(), refused=refused, raw=raw[:RAW_BYTES_MAX])
            else:
                yield FeedRecord(position=position, events=(*beats, event))

    def _rows(self) -> Iterator[Row]:
        if len(self.recordings) == 1:
            return self.recordings[0].messages()
        streams = [_timed(recording.messages()) for recording in self.recordings]
        return (row for _, row in heapq.merge(*streams, key=lambda item: item[0]))


def _timed(rows: Iterator[Row]) -> Iterator[tuple[int, Row]]:
    """Give a line that has no time, or an older one, the newest time before it: merging keeps each file's order."""
    newest = 0
    for row in rows:
        newest = max(newest, row[0])
        yield newest, row


def _heartbeats(due_ns: int, at_ns: int, step_ns: int) -> tuple[Event, ...]:
    """Return the Heartbeats from ``due_ns`` (0: no line came before) to ``at_ns``; after a silence, only the last."""
    last_ns = at_ns - at_ns % step_ns
    first_ns = last_ns if due_ns == 0 or last_ns - due_ns >= SILENCE_NS else due_ns
    return tuple(
        Heartbeat(key=HEARTBEAT_KEY, event_time_ns=time_ns, available_at_ns=time_ns, clock="capture")
        for time_ns in range(first_ns, last_ns + 1, step_ns)
    )


def open_capture(paths: Sequence[Path]) -> Capture:
    """Return the capture in ``paths``. Raises FeedFailed for what is missing, broken or of no known format."""
    if not paths:
        raise FeedFailed("A capture needs at least one file.")
    return Capture([_open(path) for path in sorted(paths, key=lambda path: (path.name, path))])


def _open(path: Path) -> Recording:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError as error:
        raise FeedFailed(f"{path} does not exist.") from error
    except OSError as error:
        raise FeedFailed(f"{path} cannot be read: {error.strerror}.") from error
    if magic.startswith(b"\x1f\x8b"):
        return BinanceRecording(path)
    if magic == b"PK\x03\x04":
        return LeanArchive(path)
    raise FeedFailed(f"{path} is neither a gzipped Binance stream nor a zipped LEAN file.")


def first_records(capture: Capture, count: int) -> list[FeedRecord]:
    """Return at most ``count`` records from the beginning, for whoever must look before the run."""
    return list(itertools.islice(capture.records(), count))
