"""The queue between the record and the points, and the thread that empties it.

Postgres is the record and waits for nobody; points are best effort and can be made again from it. So a thread of
its own turns events into points and writes them; while the server is away the queue fills, and then its oldest
events make way and are counted.
"""

import logging
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from infra.influx.points import PointMaker
from infra.influx.schema import WITHOUT_POINTS
from infra.influx.target import PointTarget, Refused, Unwritten
from schemas.event import Event

LOG: Final = logging.getLogger("tradermind.metrics")
BATCH_EVENTS: Final = 2_000
LINES_MAX: Final = 5_000
"""So many lines in one request: the server is no faster with more."""
BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_JOIN_S: Final = 10.0
"""Above the time-out of one request, after which the thread sees that it is to end."""


@dataclass(frozen=True, slots=True)
class PointCounts:
    """What became of the events and points so far. ``written`` and ``refused`` count points, the drops events.

    ``dropped`` had to make way in a full queue, ``unwritten_at_end`` were still waiting when the writer was closed.
    ``away`` says that the last attempt failed; ``others``, how many values of tags were not told apart any more.
    """

    written: int = 0
    refused: int = 0
    dropped: int = 0
    unwritten_at_end: int = 0
    retries: int = 0
    queued: int = 0
    others: int = 0
    away: bool = False
    last_error: str = ""


class LinesWriter:
    """Writes lines to a target that may be away, or take all but some of them. For one thread.

    What it refuses without naming the culprit is halved until the culprit stands alone: only it is lost. After
    ``failures_max`` failures in a row it gives up and raises Unwritten; without, it tries for ever.
    """

    def __init__(
        self,
        target: PointTarget,
        give_up: threading.Event,
        backoff_s: Sequence[float] = BACKOFF_S,
        failures_max: int | None = None,
    ) -> None:
        self._target = target
        self._give_up = give_up
        self._failures_max = failures_max
        self._backoff_s = tuple(backoff_s)
        self._failures = 0
        self._lines = LINES_MAX
        self.written = self.refused = self.retries = 0
        self.last_error = ""

    @property
    def away(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def write(self, lines: Sequence[str]) -> int:
        """Return how many of the lines, from the first on, were dealt with: all, unless it was told to give up."""
        done = 0
        while done < len(lines) and not self._give_up.is_set():
            done += self._attempt(lines[done : done + self._lines])
        return done

    def _attempt(self, part: Sequence[str]) -> int:
        try:
            self._target.write(part)
        except Unwritten as fault:
            self.last_error = str(fault)
            self.retries += 1
            pause_s = self._backoff_s[min(self._failures, len(self._backoff_s) - 1)]
            self._failures += 1
            if self._failures == self._failures_max:
                raise
            self._give_up.wait(max(pause_s, fault.pause_s))
            return 0
        except Refused as refusal:
            self._failures = 0
            self.last_error = str(refusal)
            if refusal.points is None and len(part) > 1:
                self._lines = (len(part) + 1) // 2
                return 0
            self._count_refused(len(part) if refusal.points is None else refusal.points, len(part))
        else:
            self._failures = 0
            self.written += len(part)
        self._lines = min(2 * self._lines, LINES_MAX)
        return len(part)

    def _count_refused(self, refused: int, of: int) -> None:
        if not self.refused:
            LOG.warning("points are refused, from now on they are only counted: %s", self.last_error)
        self.refused += refused
        self.written += of - refused


class InfluxWriter:
    """A bounded queue of events and the thread that writes their points.

    ``queue_events`` bounds the memory: beyond it the oldest events are dropped. ``backoff_s`` are the pauses
    after failures, the last one repeated; a target that asks for a longer one gets it.
    """

    def __init__(
        self, target: PointTarget, queue_events: int = 100_000, backoff_s: Sequence[float] = BACKOFF_S
    ) -> None:
        self._target = target
        self._queue: deque[Event] = deque()
        self._queue_events = queue_events
        self._changed = threading.Condition()
        self._closing = False
        self._give_up = threading.Event()
        self._in_hand = 0
        self._dropping = False
        self._drops = PointCounts()
        self._maker = PointMaker()
        self._lines = LinesWriter(target, self._give_up, backoff_s)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="influx", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> PointCounts:
        """Return the counts so far."""
        lines = self._lines
        with self._changed:
            return replace(
                self._drops,
                written=lines.written,
                refused=lines.refused,
                retries=lines.retries,
                queued=len(self._queue) + self._in_hand,
                others=self._maker.others,
                away=lines.away,
                last_error=lines.last_error,
            )

    def offer(self, events: Iterable[Event]) -> None:
        """Queue events; never waits. Raises what broke the thread, if anything but the target's absence did."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._queue.extend(event for event in events if type(event) not in WITHOUT_POINTS)
            excess = len(self._queue) - self._queue_events
            for _ in range(excess):
                self._queue.popleft()
            if excess > 0:
                self._drops = replace(self._drops, dropped=self._drops.dropped + excess)
            first_of_an_absence, self._dropping = excess > 0 and not self._dropping, self._dropping or excess > 0
            self._changed.notify_all()
        if first_of_an_absence:
            LOG.warning("metrics are dropped, the oldest first: %s", self._lines.last_error or "the target is too slow")

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything offered is written or refused; return whether it was within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._in_hand, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued as far as the time allows, count the rest as dropped, and end the thread.

        It takes no longer than that and the request that is under way.
        """
        self.flush(timeout_s)
        with self._changed:
            self._closing = True
            left = len(self._queue)
            self._drops = replace(self._drops, unwritten_at_end=left)
            self._queue.clear()
            self._changed.notify_all()
        self._give_up.set()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self._target.close()

    def _run(self) -> None:
        try:
            while batch := self._take():
                lines, ends = self._made(batch)
                dealt = bisect_right(ends, self._lines.write(lines))
                with self._changed:
                    self._in_hand = 0
                    left = self._drops.unwritten_at_end + len(batch) - dealt
                    self._drops = replace(self._drops, unwritten_at_end=left)
                    over, self._dropping = self._dropping and not self._queue, self._dropping and bool(self._queue)
                    self._changed.notify_all()
                if over:
                    LOG.warning("metrics are written again; %d events were dropped so far", self._drops.dropped)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._in_hand = 0
                self._queue.clear()
                self._changed.notify_all()

    def _made(self, batch: Sequence[Event]) -> tuple[list[str], list[int]]:
        """Return the lines of events, and how many there are up to and with each event."""
        lines: list[str] = []
        ends: list[int] = []
        for event in batch:
            lines += self._maker.lines_of(type(event), event)
            ends.append(len(lines))
        return lines, ends

    def _take(self) -> list[Event]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            batch = [self._queue.popleft() for _ in range(min(BATCH_EVENTS, len(self._queue)))]
            self._in_hand = len(batch)
            return batch
