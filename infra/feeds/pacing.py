"""A capture against the clock: at its own speed or a multiple of it, and never far ahead of those who act on it.

Decisions that are older than a limit are denied, so a capture that ran away from the money stages would see all its
decisions refused. It is therefore held at most ``lead_ns`` of capture time ahead of the slowest of them (DESIGN 2).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from infra.feeds import FeedFailed
from infra.feeds.capture import SILENCE_NS, Capture
from schemas.event import Heartbeat
from schemas.feed import FeedRecord
from schemas.values import NS_PER_S

Progress = Callable[[], Awaitable[int]]
"""Gives the capture time (ns) that the slowest money stage has reached; 0 before it has reached any."""

_ASK_FIRST_S: Final = 0.002
_ASK_LAST_S: Final = 0.1
_YIELD_EVERY: Final = 256
_SLEEP_LEAST_S: Final = 0.001
_LATE_S: Final = 1.0


class Hold:
    """Holds a capture at most ``lead_ns`` ahead of ``progress``; call it with the time of the record to come.

    Between two answers that are not enough it sleeps, 2 ms first and doubling to 100 ms. A stage cannot get past the
    newest Heartbeat that it was sent, so whoever has reached that one is not behind, however long the silence after
    it. Raises FeedFailed when ``progress`` stands still for ``stalled_after_s``.
    """

    def __init__(self, progress: Progress, lead_ns: int, stalled_after_s: float = 120.0) -> None:
        if lead_ns <= 0:
            raise ValueError("a capture must be let ahead by some time")
        self._progress = progress
        self._lead_ns = lead_ns
        self._stalled_after_s = stalled_after_s
        self._reached_ns = 0
        self._sent_ns = 0
        self.waited_s = 0.0

    def sent(self, beat_ns: int) -> None:
        """Note the newest Heartbeat that was handed over."""
        self._sent_ns = beat_ns

    async def __call__(self, capture_time_ns: int) -> None:
        """Return as soon as a record of ``capture_time_ns`` may be handed over."""
        needed_ns = min(capture_time_ns - self._lead_ns, self._sent_ns)
        if self._reached_ns >= needed_ns:
            return
        now = asyncio.get_running_loop().time
        pause_s, began_s = _ASK_FIRST_S, now()
        moved_s = began_s
        while (reached_ns := await self._progress()) < needed_ns:
            now_s = now()
            if reached_ns > self._reached_ns:
                self._reached_ns, moved_s, pause_s = reached_ns, now_s, _ASK_FIRST_S
            elif now_s - moved_s > self._stalled_after_s:
                raise FeedFailed(
                    f"The stages behind the capture have stood still for {self._stalled_after_s:g} s"
                    f" at capture time {reached_ns} ns: the capture cannot go on."
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _ASK_LAST_S)
        self._reached_ns = reached_ns
        self.waited_s += now() - began_s


class PacedCapture:
    """A capture as a Feed. ``speed`` is a multiple of its own clock, or None for as fast as it is taken.

    Whoever gathers records into batches must also send by a timer: while the feed is held, none comes.
    """

    replayable: Final = True

    def __init__(self, capture: Capture, speed: float | None = 1.0, hold: Hold | None = None) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError("the speed of a capture must be above 0 and finite; None is as fast as possible")
        self._capture = capture
        self._speed = speed
        self._hold = hold

    @property
    def name(self) -> str:
        """Return the name of the capture."""
        return self._capture.name

    async def records(self, start: int = 0) -> AsyncIterator[FeedRecord]:
        """Yield the capture's records from ``start``, each when it is due. Raises FeedFailed."""
        pacer = None if self._speed is None else _Pacer(self._speed)
        for record in self._capture.records(start):
            if record.events:
                at_ns = record.events[-1].available_at_ns
                if pacer is not None and (delay_s := pacer.delay_s(at_ns)) > _SLEEP_LEAST_S:
                    await asyncio.sleep(delay_s)
                if self._hold is not None:
                    await self._hold(at_ns)
                    _note_beat(record, self._hold)
            if record.position % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            yield record


def _note_beat(record: FeedRecord, hold: Hold) -> None:
    if len(record.events) > 1 and type(beat := record.events[-2]) is Heartbeat:
        hold.sent(beat.available_at_ns)


class _Pacer:
    """When each record is due: a straight line through capture time and our clock, without the closed hours."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._newest_ns: int | None = None
        self._newest_due_s = 0.0

    def delay_s(self, at_ns: int) -> float:
        """Return how long a record of this capture time has to wait, 0 or less for not at all."""
        now_s = asyncio.get_running_loop().time()
        if self._newest_ns is None:
            self._newest_ns, self._newest_due_s = at_ns, now_s
            return 0.0
        if at_ns > self._newest_ns:
            gap_ns = min(at_ns - self._newest_ns, SILENCE_NS)
            due_s = self._newest_due_s + gap_ns / (NS_PER_S * self._speed)
            # What was held for long does not rush to catch up: the line begins anew.
            self._newest_ns, self._newest_due_s = at_ns, max(due_s, now_s - _LATE_S)
        return self._newest_due_s - now_s
