"""The platform under a steady load: what it has lost, how far behind it was, and what memory its workers took."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psycopg

from benchmarks.measured_demo import MeasuredDemo
from benchmarks.results import resident_mib
from infra.kafka import Slot, log_ends
from infra.settings import load_settings
from schemas.topics import TOPICS
from streams.composition import compose
from streams.demo.plan import DemoPlan
from streams.demo.status import Snapshot
from streams.demo.summary import records_to_store, summarise
from streams.engine.shard import Progress

_LOOK_S: Final = 5.0
_SINKS: Final = "sinks"
Lag = tuple[str, str]
"""A stage and a lane, which is ``topic/partition``."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the platform was at ``at_s`` since the feed began: messages taken, and records behind by lane."""

    at_s: float
    messages: int
    behind: Mapping[Lag, int]


class SustainedDemo(MeasuredDemo):
    """A demo on a tape of even rate; memory is read at ``marks_s`` since the feed began."""

    def __init__(self, plan: DemoPlan, marks_s: Sequence[float]) -> None:
        super().__init__(plan)
        self._marks_s = list(marks_s)
        self._partitions = compose(load_settings(None, plan.overrides())).settings.kafka.instrument_partitions
        self._began_s: float | None = None
        self.ended_s = 0.0
        self.memory_mib: dict[str, dict[float, float]] = {}
        self.standings: list[Standing] = []
        self.accounts: dict[str, Any] = {}

    @property
    def fed_s(self) -> float:
        """How long the feed took; 0 while it has not ended."""
        return self.ended_s - self._began_s if self._began_s is not None and self.ended_s else 0.0

    def _is_over(self, snapshot: Snapshot, ready_at: float) -> bool:
        over = super()._is_over(snapshot, ready_at)
        messages = snapshot.stages.get("ingestion", {}).get("feed_records", 0)
        now_s = time.monotonic()
        if messages and self._began_s is None:
            self._began_s = now_s
        if self._began_s is None:
            return over
        at_s = now_s - self._began_s
        if snapshot.feed_finished:
            self.ended_s = now_s
        while self._marks_s and (at_s >= self._marks_s[0] or over):
            mark_s = self._marks_s.pop(0)
            for worker in self._workers:
                self.memory_mib.setdefault(worker.name, {})[mark_s] = resident_mib(worker.pid)
        if over or not self.standings or at_s - self.standings[-1].at_s >= _LOOK_S:
            self.standings.append(Standing(at_s, messages, self._behind()))
        return over

    def _behind(self) -> dict[Lag, int]:
        """Return how many records each stage's checkpoint is behind each log that it reads, and the sinks in all."""
        ends = self._ends()
        with psycopg.connect(self._dsn) as connection:
            offsets = next_offsets(connection)
            sinks = connection.execute(
                "SELECT coalesce(sum((counters->>'behind_records')::bigint), 0) FROM worker_status WHERE stage = %s",
                (_SINKS,),
            ).fetchone()
        assert sinks is not None
        found = {(stage, lane): max(0, ends.get(lane, 0) - offset) for (stage, lane), offset in offsets.items()}
        return found | {(_SINKS, "all topics"): int(sinks[0])}

    def _ends(self) -> dict[str, int]:
        slots: list[Slot] = [
            (topic.name, number) for topic in TOPICS.values() for number in range(topic.partitions(self._partitions))
        ]
        return {f"{name}/{number}": end for (name, number), end in log_ends(self._bootstrap, slots).items()}

    def _sum_up(self) -> dict[str, Any]:
        super()._sum_up()
        summary = summarise(self._dsn, self._bootstrap)
        ends = self._ends()
        with psycopg.connect(self._dsn) as connection:
            offsets = next_offsets(connection)
        self.accounts = {
            "feed": summary["feed"],
            "dead_letters": summary["dead_letters"],
            "duplicates_dropped": summary["duplicates_dropped"],
            "rows_market_data": summary["rows_per_table"]["market_data"],
            "unstepped": {
                f"{stage} {lane}": ends[lane] - offset
                for (stage, lane), offset in sorted(offsets.items())
                if ends.get(lane, offset) != offset
            },
            "stepped": stepped_by_stage(offsets),
            "stored": self.stages.get(_SINKS, {}).get("records", 0),
            "to_store": records_to_store(self._bootstrap),
        }
        return {}


def next_offsets(connection: psycopg.Connection[Any]) -> dict[Lag, int]:
    """Return the next offset of each stage on each lane that it reads, from the checkpoints."""
    found: dict[Lag, int] = {}
    for stage, progress in connection.execute("SELECT stage, progress FROM shard WHERE progress <> ''").fetchall():
        for lane, offset in msgspec.msgpack.decode(bytes(progress), type=Progress).next_offsets.items():
            found[str(stage), lane] = offset
    return found


def stepped_by_stage(offsets: Mapping[Lag, int]) -> dict[str, int]:
    """Return how many records each stage has behind it."""
    stepped: dict[str, int] = {}
    for (stage, _), offset in offsets.items():
        stepped[stage] = stepped.get(stage, 0) + offset
    return dict(sorted(stepped.items()))


def accounted(feed: Mapping[str, Any]) -> int:
    """Return how many messages of a capture were published or refused with a reason.

    A snapshot that synchronised a book is published as BOOK; the other books are our own, one a minute.
    """
    published = sum(int(count) for kind, count in feed["published"].items() if kind != "BOOK")
    return published + int(feed["quality"].get("SYNCHRONISED", 0)) + int(feed["quality"].get("REFUSED", 0))
