"""Step a capture again from its first line and compare what ingestion wrote, byte for byte.

The input is the file itself, so no journal is needed. Headers are left out: they say when a line was read.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import psycopg

from schemas.codec import Codec
from schemas.event import ORDINALS_PER_OFFSET
from schemas.topics import MARKET_EVENT
from streams.composition import Run
from streams.engine.ports import EngineSettings, Outgoing
from streams.engine.shard import Progress, ShardCore
from streams.ingestion import FeedSteps, feed_hosting
from streams.offline.log_reader import LogReader, OwnOutputs, RecomputeImpossible
from streams.offline.recompute import Difference, Recomputed

_FRAME_BYTES: Final = 5


def capture_outputs(run: Run, generation: int, codec: Codec, end: int | None) -> Iterator[list[Outgoing]]:
    """Yield what follows from each record of the run's capture, up to record ``end``, and at its end from that.

    A capture that is left before its end (``end`` is not None) is not closed. Nothing outside is touched.
    """
    assert run.capture is not None, "a live connection cannot be re-run"
    core = ShardCore(feed_hosting(run), run.capture.name, None, codec, run.settings.kafka.instrument_partitions)
    core.generation = generation
    steps = FeedSteps(core, next(iter(run.instruments)), live=False)
    for record in islice(run.capture.records(), end):
        steps.take(record, record.position, 0)
        yield core.drain()[0]
    if end is None:
        steps.close()
        yield core.drain()[0]


def recompute_capture(run: Run, engine: EngineSettings) -> Recomputed:
    """Compare ingestion's outputs up to its newest checkpoint. Raises RecomputeImpossible."""
    assert run.capture is not None, "a live connection cannot be re-run"
    with psycopg.connect(engine.dsn) as connection:
        generation, end = _checkpoint(connection, run.capture.name)
    finished = next(run.capture.records(end), None) is None
    before = (end + finished) * ORDINALS_PER_OFFSET
    source = f"ingestion/{run.capture.name}"
    partitions = range(run.settings.kafka.instrument_partitions)
    lanes = [(MARKET_EVENT.name, part) for part in partitions]
    readers = [LogReader(engine.bootstrap, lane, 0, engine.security) for lane in lanes]
    log = [OwnOutputs(reader, source, engine.codec, before) for reader in readers]
    try:
        return _compare(capture_outputs(run, generation, engine.codec, None if finished else end), log)
    finally:
        for own in log:
            own.reader.close()


def _compare(expected: Iterator[list[Outgoing]], log: list[OwnOutputs]) -> Recomputed:
    inputs = outputs = matched = 0
    for outgoing in expected:
        inputs += 1
        for output in outgoing:
            outputs += 1
            found = log[output.partition].next()
            if found is None or found.key != output.key or _body(found.value) != _body(output.value):
                value = None if found is None else found.value
                difference = Difference(output.topic, output.partition, outputs, output.value, value)
                return Recomputed(inputs, outputs, matched, difference)
            matched += 1
    for partition, own in enumerate(log):
        found = own.next()
        if found is not None:
            difference = Difference(MARKET_EVENT.name, partition, outputs + 1, None, found.value)
            return Recomputed(inputs, outputs, matched, difference)
    return Recomputed(inputs, outputs, matched, None)


def _body(value: bytes | None) -> bytes:
    return (value or b"")[_FRAME_BYTES:]


def _checkpoint(connection: psycopg.Connection[Any], shard: str) -> tuple[int, int]:
    row = connection.execute(
        "SELECT generation, progress FROM shard WHERE stage = 'ingestion' AND shard = %s AND progress <> ''", (shard,)
    ).fetchone()
    if row is None:
        raise RecomputeImpossible(f"ingestion/{shard} has no checkpoint.")
    return int(row[0]), msgspec.msgpack.decode(bytes(row[1]), type=Progress).external
