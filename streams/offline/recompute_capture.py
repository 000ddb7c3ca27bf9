"""Step a capture again and compare what ingestion wrote, byte for byte.

The input is the file itself, so no journal is needed. Headers are left out: they say when a line was read.
"""

from itertools import islice
from typing import Final

import psycopg

from schemas.event import ORDINALS_PER_OFFSET, Event
from schemas.feed import FeedRecord
from schemas.topics import MARKET_EVENT
from streams.composition import Run
from streams.engine.ports import EngineSettings, RawRecord
from streams.engine.shard import ShardCore
from streams.ingestion import FeedSteps, feed_hosting
from streams.offline.comparison import Comparison
from streams.offline.difference import Difference, InputPlace
from streams.offline.log_reader import KafkaLog, Log
from streams.offline.question import WHOLE, Question
from streams.offline.recompute import Recomputed
from streams.offline.start import find_start

_TELL_EVERY: Final = 512


def recompute_capture(run: Run, engine: EngineSettings, ask: Question = WHOLE) -> Recomputed:
    """Compare ingestion's outputs up to its newest checkpoint. Blocks. Raises RecomputeImpossible."""
    return recompute_capture_over(run, engine, ask, KafkaLog(engine.bootstrap, engine.security))


def recompute_capture_over(run: Run, engine: EngineSettings, ask: Question, log: Log) -> Recomputed:
    """Do the same over any log."""
    assert run.capture is not None, "a live connection cannot be re-run"
    core = ShardCore(feed_hosting(run), run.capture.name, None, engine.codec, engine.instrument_partitions)
    with psycopg.connect(engine.dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        start = find_start(connection, core, engine, ask)
    start.put_into(core)
    comparison = Comparison(core, engine.codec, log, begun=start.snapshot is not None, headers=False)
    steps = _CaptureSteps(run, core, ask, comparison, start.row.progress.external)
    try:
        difference = steps.run() or steps.find_unexplained()
    finally:
        comparison.close()
    figures = (steps.stepped, comparison.outputs, comparison.matched, difference)
    return Recomputed(*figures, steps.lead_in, start.batch, start.made_by)


class _CaptureSteps:
    """The capture's records, stepped and compared as they go by, up to the record ``end``."""

    def __init__(self, run: Run, core: ShardCore, ask: Question, comparison: Comparison, end: int) -> None:
        assert run.capture is not None, "a live connection cannot be re-run"
        self.stepped = self.lead_in = 0
        self._capture = run.capture
        self._core = core
        self._ask = ask
        self._comparison = comparison
        self._end = end
        self._steps = FeedSteps(core, next(iter(run.instruments)), live=False)
        self._partitions = run.settings.kafka.instrument_partitions
        self._next_number = core.progress.external

    def run(self) -> Difference | None:
        """Step and compare everything that was asked for."""
        first = self._core.progress.external
        if first >= self._end > 0:
            return None
        for record in islice(self._capture.records(first), self._end - first):
            self._steps.take(record, record.position, 0)
            if self._ask.stretch.is_over(self._core.reached_ns):
                return None
            self._next_number = record.position + 1
            difference = self._compare(_place(record))
            if difference is not None:
                return difference
            if record.position % _TELL_EVERY == 0:
                self._ask.advance(self._core.source, (record.position - first) / (self._end - first))
        return self._close()

    def _close(self) -> Difference | None:
        if next(self._capture.records(self._end), None) is not None:
            return None
        self._steps.close()
        self._next_number = self._end + 1
        return self._compare(InputPlace("the end of the capture", offset=self._end))

    def _compare(self, cause: InputPlace) -> Difference | None:
        counts = self._ask.stretch.has_begun(self._core.reached_ns)
        self.stepped += counts
        self.lead_in += not counts
        return self._comparison.compare(self._core.drain()[0], cause, counts=counts)

    def find_unexplained(self) -> Difference | None:
        """Look for what ingestion wrote of the records that were stepped, and that did not follow from them."""

        def belongs(record: RawRecord, event: Event) -> bool:
            del record
            return event.seq < self._next_number * ORDINALS_PER_OFFSET

        lanes = [(MARKET_EVENT.name, number) for number in range(self._partitions)]
        return self._comparison.unexplained(lanes, belongs)


def _place(record: FeedRecord) -> InputPlace:
    kind = type(record.events[0]).__name__ if record.events else "a refused message"
    return InputPlace(kind, offset=record.position)
