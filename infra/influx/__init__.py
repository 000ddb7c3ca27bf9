"""Metric points to InfluxDB, or to files of line protocol that load into one, without ever slowing the record.

Postgres is the record and waits for nobody; points are best effort and can be made again from it. So a thread of
its own turns events into points and writes them; while the server is away the queue fills, and then its oldest
events make way and are counted.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from infra.influx_points import lines_of
from schemas.event import Event

LOG: Final = logging.getLogger("tradermind.metrics")
BATCH_EVENTS: Final = 2_000
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_REFUSED: Final = frozenset({400, 413, 422})
"""Answers after which the same points would be refused again."""


class Unwritten(Exception):
    """The target could not take the points now; the same points may be taken later."""


class Refused(Exception):
    """The target will never take these points."""


class PointTarget(Protocol):
    """Where lines go. Called from one thread."""

    def write(self, lines: Sequence[str]) -> None:
        """Write lines of line protocol. Raises Unwritten or Refused."""

    def close(self) -> None:
        """Let go of files and connections."""


class InfluxServer:
    """A server of the v2 write API. ``token`` is the secret itself, read from its file by the caller."""

    def __init__(self, url: str, token: str, org: str, bucket: str, timeout_ms: int = 5_000) -> None:
        self._client: Any = InfluxDBClient(url=url, token=token, org=org, timeout=timeout_ms)
        self._write_api: Any = self._client.write_api(write_options=SYNCHRONOUS)
        self._org, self._bucket = org, bucket

    def write(self, lines: Sequence[str]) -> None:
        """Send the lines in one request."""
        try:
            self._write_api.write(self._bucket, self._org, "\n".join(lines), write_precision=WritePrecision.NS)
        except ApiException as error:
            if error.status in _REFUSED:
                raise Refused(f"{error.status} {error.reason}: {str(error.body)[:200]}") from error
            raise Unwritten(f"{error.status} {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise Unwritten(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._write_api.close()
        self._client.close()


class LineFiles:
    """Files ``<measurement>-NNN.lp`` below a folder. A process only ever writes to files that it has made itself.

    Lines are written all or not at all: where the disk is full in the middle of them, the files end where they did
    before, since a torn line would spoil the one that is written after it.
    """

    def __init__(self, directory: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._open: dict[str, _LineFile] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, lines: Sequence[str]) -> None:
        """Append the lines, each to the file of its measurement."""
        by_measurement: dict[str, list[str]] = {}
        for line in lines:
            by_measurement.setdefault(line.partition(",")[0].partition(" ")[0], []).append(line)
        before: list[tuple[_LineFile, int]] = []
        try:
            for measurement, listed in by_measurement.items():
                file = self._file(measurement)
                before.append((file, file.size))
                file.append(("\n".join(listed) + "\n").encode())
        except OSError as error:
            for file, size in before:
                file.end_at(size)
            raise Unwritten(f"{self._directory}: {error.strerror}") from error

    def _file(self, measurement: str) -> "_LineFile":
        file = self._open.get(measurement)
        if file is not None and file.size < self._bytes_max:
            return file
        number = 0
        while True:
            try:
                made = _LineFile(self._directory / f"{measurement}-{number:03d}.lp")
            except FileExistsError:
                number += 1
                continue
            if file is not None:
                file.close()
            self._open[measurement] = made
            return made

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class _LineFile:
    """A file that we have made, and how much of it counts."""

    def __init__(self, path: Path) -> None:
        """Make it. Raises FileExistsError, and OSError where there is no room for one."""
        self._file = path.open("xb", buffering=0)
        self.size = 0

    def append(self, content: bytes) -> None:
        """Write at its end. Raises OSError; then some of the content may be there."""
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) or 0 :]
        self.size += len(content)

    def end_at(self, size: int) -> None:
        """Take back what was written after this size. To make a file shorter takes no room."""
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def close(self) -> None:
        """Close it."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class PointCounts:
    """What became of the events and points so far. ``dropped`` counts events, the others points."""

    written: int = 0
    dropped: int = 0
    refused: int = 0
    retries: int = 0
    last_error: str = ""


class InfluxWriter:
    """A bounded queue of events and the thread that writes their points.

    ``queue_events`` bounds the memory: beyond it the oldest events are dropped. ``backoff_s`` are the pauses
    after failures, the last one repeated.
    """

    def __init__(
        self,
        target: PointTarget,
        queue_events: int = 100_000,
        backoff_s: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
    ) -> None:
        self._target = target
        self._queue: deque[Event] = deque()
        self._queue_events = queue_events
        self._backoff_s = tuple(backoff_s)
        self._changed = threading.Condition()
        self._closing = False
        self._give_up = threading.Event()
        self._in_hand = 0
        self._dropping = False
        self._counts = PointCounts()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="influx", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> PointCounts:
        """Return the counts so far."""
        with self._changed:
            return self._counts

    def offer(self, events: Iterable[Event]) -> None:
        """Queue events; never waits. Raises what broke the thread, if anything but the target's absence did."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._queue.extend(events)
            excess = len(self._queue) - self._queue_events
            for _ in range(excess):
                self._queue.popleft()
            if excess > 0:
                self._counts = replace(self._counts, dropped=self._counts.dropped + excess)
            first_of_an_absence, self._dropping = excess > 0 and not self._dropping, self._dropping or excess > 0
            self._changed.notify_all()
        if first_of_an_absence:
            LOG.warning("metrics are dropped, the oldest first: %s", self.counts.last_error or "the target is too slow")

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything offered is written or refused; return whether it was within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._in_hand, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued as far as the time allows, count the rest as dropped, and end the thread."""
        self.flush(timeout_s)
        with self._changed:
            self._closing = True
            left = len(self._queue) + self._in_hand
            self._counts = replace(self._counts, dropped=self._counts.dropped + left)
            self._queue.clear()
            self._changed.notify_all()
        self._give_up.set()
        self._thread.join()
        self._target.close()

    def _run(self) -> None:
        try:
            while batch := self._take():
                lines = [line for event in batch for line in lines_of(event)]
                self._write(lines)
                with self._changed:
                    self._in_hand = 0
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._in_hand = 0
                self._queue.clear()
                self._changed.notify_all()

    def _take(self) -> list[Event]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            batch = [self._queue.popleft() for _ in range(min(BATCH_EVENTS, len(self._queue)))]
            self._in_hand = len(batch)
            return batch

    def _write(self, lines: list[str]) -> None:
        failures = 0
        while lines:
            try:
                self._target.write(lines)
            except Refused as refusal:
                self._count(refused=len(lines), error=str(refusal))
            except Unwritten as fault:
                self._count(retries=1, error=str(fault))
                pause_s = self._backoff_s[min(failures, len(self._backoff_s) - 1)]
                failures += 1
                if not self._give_up.wait(pause_s):
                    continue
            else:
                self._count(written=len(lines))
                self._tell_end_of_dropping()
            return

    def _tell_end_of_dropping(self) -> None:
        with self._changed:
            over = self._dropping and not self._queue
            self._dropping = self._dropping and not over
        if over:
            LOG.warning("metrics are written again; %d events were dropped so far", self.counts.dropped)

    def _count(self, *, written: int = 0, refused: int = 0, retries: int = 0, error: str = "") -> None:
        with self._changed:
            counts = self._counts
            self._counts = PointCounts(
                counts.written + written,
                counts.dropped,
                counts.refused + refused,
                counts.retries + retries,
                error or counts.last_error,
            )
