"""What has come and gone by topic, and how long batches took: what the shards of a worker count for its metrics.

Plain numbers, added per batch: who tells them to whom, and how often, is not the shards' business.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_BATCHES_KEPT: Final = 10_000
OUTSIDE: Final = "outside"
"""The topic of what came by none: a feed's records, a venue's reports."""


class Batch(NamedTuple):
    """A batch that is done: its stage, how long it took, and how old its newest event was then; in seconds."""

    stage: str
    took_s: float
    age_s: float


@dataclass(slots=True)
class Flow:
    """The counts of one worker, by topic; ``letters`` by (topic, reason). They only ever grow.

    ``on_capture``: the events' own times are the capture's, so ages are counted from when a record was written.
    ``newest_ns`` is the time of the newest event that a stage has handled, ``batches`` those since they were last read.
    """

    on_capture: bool = False
    now_ns: Callable[[], int] = time.time_ns
    records: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    letters: dict[tuple[str, str], int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    newest_ns: dict[str, int] = field(default_factory=dict)
    batches: deque[Batch] = field(default_factory=lambda: deque(maxlen=_BATCHES_KEPT))

    def took(self, topic: str, records: int) -> None:
        """Count records taken."""
        self.records[topic] = self.records.get(topic, 0) + records

    def refused(self, topic: str, reason: str) -> None:
        """Count a dead letter."""
        self.letters[topic, reason] = self.letters.get((topic, reason), 0) + 1

    def post(self, topic: str, records: int) -> None:
        """Count records handed to the producer."""
        self.sent[topic] = self.sent.get(topic, 0) + records

    def handled(self, stage: str, took_s: float, event_ns: int, written_ns: int) -> None:
        """Note a batch that is done: the time of its newest event, and when its newest record was written."""
        newest_ns = (written_ns or event_ns) if self.on_capture else (event_ns or written_ns)
        if newest_ns > self.newest_ns.get(stage, 0):
            self.newest_ns[stage] = newest_ns
        self.batches.append(Batch(stage, took_s, max(0, self.now_ns() - newest_ns) / 1e9))


def counted(counts: dict[str, int], topic: str) -> None:
    """Count one more on a topic."""
    counts[topic] = counts.get(topic, 0) + 1
