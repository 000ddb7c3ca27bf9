"""What must be so before topics are deleted: everything in them was read, and nothing in them would be said again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from infra.kafka import log_ranges
from infra.kafka_remake import committed_offsets
from infra.postgres.rescales import ShardRow
from infra.topic_specs import keyed_topics
from schemas.dead_letters import BadRecord, UnknownRecordType
from schemas.event import ORDINALS_PER_OFFSET, Event
from schemas.topics import PREFIX
from streams.engine.lane import lane_of
from streams.engine.log_reader import LogReader
from streams.engine.ports import EngineSettings
from streams.engine.shard import Progress
from streams.rescale_state import RescaleRefused, partition_number, progress_of

_SINKS: Final = "sinks"
_LIVE: Final = "feed-"
_FEED: Final = "ingestion"


def refuse_undrained(engine: EngineSettings, rows: Sequence[ShardRow], partitions: int) -> None:
    """Raise RescaleRefused unless every stage that is keyed by instrument has read its topics to the end."""
    stages = {row.stage for row in rows}
    shards = {(row.stage, partition_number(row.shard)): progress_of(row) for row in rows}
    for topic in keyed_topics():
        readers = [stage for stage in topic.consumers if stage and stage != _SINKS]
        ranges = log_ranges(engine.bootstrap, [(topic.name, p) for p in range(partitions)], engine.security)
        for (name, number), (start, end) in sorted(ranges.items()):
            for stage in readers:
                progress = shards.get((stage, number), Progress())
                read = progress.next_offsets.get(lane_of(name, number), start)
                if read == end:
                    continue
                why = "" if stage in stages else f": {stage} has never run"
                raise RescaleRefused(
                    f"{stage} has read {name}/{number} to {read}, and the log ends at {end}{why}. Start the workers"
                    " without a feed until all is read, and stop them in order."
                )


def refuse_unrecorded(engine: EngineSettings, partitions: int) -> None:
    """Raise RescaleRefused unless the sinks have read every keyed topic to the end."""
    slots = [(topic.name, number) for topic in keyed_topics() for number in range(partitions)]
    committed = committed_offsets(engine.bootstrap, f"{PREFIX}.{_SINKS}", slots, engine.security)
    for slot, (start, end) in sorted(log_ranges(engine.bootstrap, slots, engine.security).items()):
        if start != end and committed.get(slot, start) != end:
            raise RescaleRefused(
                f"The sinks have read {slot[0]}/{slot[1]} to {committed.get(slot, start)}, and the log ends at {end}:"
                " let them read on, or say --without-sinks when nobody keeps the record."
            )


def refuse_unsaid(engine: EngineSettings, rows: Iterable[ShardRow], partitions: int) -> None:
    """Raise RescaleRefused for a shard that was killed after it had written what it will write again.

    Its readers would have dropped the second; under the new count they could not tell.
    """
    for row in rows:
        if (row.stage == _FEED and not row.shard.startswith(_LIVE)) or row.stage.startswith("ingress."):
            _refuse_unsaid(engine, row, partitions)


def _refuse_unsaid(engine: EngineSettings, row: ShardRow, partitions: int) -> None:
    progress = progress_of(row)
    first = _next_input(row)
    if row.stage != _FEED:
        topic, _, number = row.shard.rpartition("/")
        ((start, end),) = log_ranges(engine.bootstrap, [(topic, int(number))], engine.security).values()
        if max(first, start) == end:
            return
    if any(offset >= first for offset in progress.silent.values()):
        raise RescaleRefused(f"{row.stage}/{row.shard} is still re-running what former code has sent: let it.")
    for position in _positions_after(engine, row, progress, partitions):
        if position[0] == row.generation and position[1] // ORDINALS_PER_OFFSET >= first:
            raise RescaleRefused(
                f"{row.stage}/{row.shard} has written more than its checkpoint knows, as after a kill: start its"
                " worker once more and stop it in order."
            )


def _positions_after(
    engine: EngineSettings, row: ShardRow, progress: Progress, partitions: int
) -> Iterator[tuple[int, int]]:
    """Yield (generation, seq) of what the shard has written to keyed topics after its checkpoint."""
    for topic in keyed_topics():
        if _FEED not in topic.producers:
            continue
        for number in range(partitions):
            known = progress.output_ends.get(lane_of(topic.name, number), 0)
            reader = LogReader(engine.bootstrap, (topic.name, number), known, engine.security)
            try:
                while (record := reader.next()) is not None:
                    try:
                        event: Event = engine.codec.decode(record.topic, record.value, record.headers)
                    except (BadRecord, UnknownRecordType):
                        continue  # What we cannot read we have not written.
                    if event.source == f"{row.stage}/{row.shard}":
                        yield event.generation, event.seq
            finally:
                reader.close()


def _next_input(row: ShardRow) -> int:
    progress = progress_of(row)
    return progress.external if row.stage == _FEED else progress.next_offsets.get(row.shard, 0)


def newest_positions(
    before: Iterable[ShardRow], after: Iterable[ShardRow], others: Iterable[ShardRow]
) -> Mapping[str, tuple[int, int]]:
    """Return source -> the newest (generation, seq) that a reader must drop after the rescale; see ``fence``.

    Whoever is numbered anew has a new generation; whose numbers go on is dropped up to where it stands.
    """
    moved = list(after)
    newest = {f"{row.stage}/{row.shard}": (moved[0].generation, -1) for row in (*before, *moved)}
    for row in others:
        source, progress = f"{row.stage}/{row.shard}", progress_of(row)
        if row.stage == _FEED and row.shard.startswith(_LIVE):
            newest[source] = (row.generation + 1, -1)
        elif row.stage == _FEED or row.stage.startswith("ingress."):
            newest[source] = (row.generation, _next_input(row) * ORDINALS_PER_OFFSET - 1)
        else:
            for lane, number in progress.numbers.items():
                newest[f"{source} {lane}"] = (row.generation, number)
    return newest
