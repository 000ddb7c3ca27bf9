"""Was Postgres set back under us? What Kafka remembers of a shard must never be ahead of what the database does.

A group offset is committed after the checkpoint, and a record is sent after the commit that numbers it. So whoever asks
Kafka first and the database second sees a database that is ahead, or level, as long as nobody has put an older one in
its place. A stage that went on from an older one would decide anew what it has decided and done already.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import msgspec
import psycopg

from infra.kafka import Slot, topic_partitions
from infra.kafka_remake import committed_offsets
from infra.kafka_watermarks import topic_ids, watermarks
from infra.postgres.checkpoints import DatabaseGone
from infra.postgres.patient_store import CLAIM_FOR_S
from infra.postgres.restores import NO_STANDING, Standing, read_standings
from schemas.dead_letters import BadRecord, UnknownRecordType
from schemas.event import Event
from schemas.topics import TOPICS
from streams.engine.lane import lane_of
from streams.engine.log_reader import LogReader
from streams.engine.ports import EngineSettings, StageHosting, StageKind, WorkerFailed
from streams.engine.shard import Progress

_PAUSE_S: Final = 0.5
_READERS: Final = 8
_CURE: Final = "Let nothing go on before `tradermind restore` has been run (docs/restore.md)."


@dataclass(frozen=True, slots=True)
class Hosted:
    """One shard that is about to be claimed, and the topic partitions that it reads."""

    hosting: StageHosting
    key: str
    inputs: tuple[Slot, ...]

    @property
    def name(self) -> tuple[str, str]:
        """Its stage and shard."""
        return self.hosting.name, self.key

    @property
    def source(self) -> str:
        """The source that its outputs carry."""
        return f"{self.hosting.name}/{self.key}"


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """One input lane: what the group has committed, where the log ends, and where each stage's checkpoint stands."""

    committed: int | None
    end: int
    checkpoints: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was found to be in order, for the shard's progress to keep, so that the next look begins there.

    ``output_ends``: output lane -> the offset below which nothing is unknown to the checkpoint. ``topic_ids``: of the
    topics that it reads.
    """

    output_ends: Mapping[str, int]
    topic_ids: Mapping[str, str]


def group_is_ahead(place: GroupPlace) -> bool:
    """Tell whether a consumer group has passed what every checkpoint on the lane knows of.

    The group's offset is the least of those stages that had read the lane, so one that is behind it proves nothing
    while another is not. Where no stage has read it, an offset past the log's end is a former topic's of that name.
    """
    if place.committed is None:
        return False
    known = [offset for offset in place.checkpoints if offset is not None]
    if not known:
        return 0 < place.committed <= place.end
    return place.committed > max(known)


def is_above(position: tuple[int, int], generation: int, number: int, kind: StageKind) -> bool:
    """Tell whether a record of our own, (generation, seq), is one that our checkpoint cannot have sent.

    A stage that counts its outputs has committed each number before it is sent. One that numbers them by its inputs
    sends before it checkpoints, and the same bytes again: only a newer generation is beyond it.
    """
    if kind is StageKind.OUTBOX:
        return position > (generation, number)
    return position[0] > generation


def output_slots(hosting: StageHosting, partitions: int) -> list[Slot]:
    """Return every topic partition that a stage may write."""
    name = "ingestion" if hosting.wrap is not None else hosting.name
    return [
        (topic.name, number)
        for topic in TOPICS.values()
        if name in topic.producers
        for number in range(topic.partitions(partitions))
    ]


def sends_after_commit(hosting: StageHosting) -> bool:
    """Tell whether the database knows of everything that a stage has sent: its numbers, or a feed's generation."""
    return hosting.kind is StageKind.OUTBOX or not hosting.topics


class RewindCheck:
    """One worker's. ``group`` is its consumer group."""

    def __init__(self, engine: EngineSettings, group: str) -> None:
        self._engine = engine
        self._group = group

    async def refuse_rewound(self, shards: Sequence[Hosted]) -> dict[tuple[str, str], Cleared]:
        """Return for each (stage, shard) what is in order.

        Raises WorkerFailed (2) when the database is behind Kafka for any of these shards, or one of their topics is
        not the one that was read before; DatabaseGone.
        """
        deadline = time.monotonic() + CLAIM_FOR_S
        while shards:
            try:
                return await asyncio.to_thread(self._look, shards)
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    first = str(error).strip().splitlines()[0].rstrip(".")
                    raise DatabaseGone(f"Postgres did not answer for {CLAIM_FOR_S:g} s: {first}.") from error
            await asyncio.sleep(_PAUSE_S)
        return {}

    def _look(self, shards: Sequence[Hosted]) -> dict[tuple[str, str], Cleared]:
        engine = self._engine
        there = topic_partitions(engine.bootstrap, engine.security)
        inputs = sorted({slot for shard in shards for slot in shard.inputs if slot[1] < there.get(slot[0], 0)})
        outputs = {
            slot
            for shard in shards
            if sends_after_commit(shard.hosting)
            for slot in output_slots(shard.hosting, engine.instrument_partitions)
            if slot[1] < there.get(slot[0], 0)
        }
        # Kafka first, then the database: see above. What a former holder sends after that is not looked at.
        committed = committed_offsets(engine.bootstrap, self._group, inputs, engine.security) if inputs else {}
        ids = topic_ids(engine.bootstrap, {topic for topic, _ in inputs}, engine.security)
        ranges = watermarks(engine.bootstrap, {*inputs, *outputs}, engine.security)
        with psycopg.connect(engine.dsn, connect_timeout=5, autocommit=True) as connection:
            standings = read_standings(connection, sorted({shard.hosting.name for shard in shards}))
        for shard in shards:
            _refuse_made_anew(shard, standings.get(shard.name, NO_STANDING), ids)
        for slot in inputs:
            _refuse_ahead(slot, shards, GroupPlace(committed.get(slot), ranges[slot][1], ()), standings)
        tails = [
            (shard, slot, standings.get(shard.name, NO_STANDING), ranges[slot])
            for shard in shards
            if sends_after_commit(shard.hosting)
            for slot in output_slots(shard.hosting, engine.instrument_partitions)
            if slot in ranges
        ]
        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(lambda tail: self._refuse_unknown_records(*tail), tails))
        ends: dict[tuple[str, str], dict[str, int]] = {}
        for shard, slot, _, kept in tails:
            ends.setdefault(shard.name, {})[lane_of(*slot)] = kept[1]
        return {
            shard.name: Cleared(
                ends.get(shard.name, {}), {topic: ids[topic] for topic, _ in shard.inputs if topic in ids}
            )
            for shard in shards
        }

    def _refuse_unknown_records(self, shard: Hosted, slot: Slot, standing: Standing, kept: tuple[int, int]) -> None:
        """Raise WorkerFailed for a record of our own, past the output end that the checkpoint knows, above it."""
        progress = progress_of(standing)
        known = progress.output_ends.get(lane_of(*slot), 0)
        if known >= kept[1]:
            return
        kind, number = shard.hosting.kind, progress.numbers.get(lane_of(*slot), 0)
        # A stage that has never committed has sent nothing. A capture that was killed in its first second has.
        generation = standing.generation if standing.progress else int(kind is StageKind.ONE_TOPIC)
        for offset, position in self._own_after(shard.source, slot, known, kept):
            if is_above(position, generation, number, kind):
                raise WorkerFailed(_unknown_record(shard.source, slot, offset, position), 2)

    def _own_after(
        self, source: str, slot: Slot, first: int, kept: tuple[int, int]
    ) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield (offset, (generation, seq)) of what a source has written from ``first`` on, as far as the log went."""
        reader = LogReader(self._engine.bootstrap, slot, first, self._engine.security, kept=kept)
        try:
            while (record := reader.next()) is not None:
                try:
                    event: Event = self._engine.codec.decode(record.topic, record.value, record.headers)
                except (BadRecord, UnknownRecordType):
                    continue  # What we cannot read we have not written.
                if event.source == source:
                    yield record.offset, (event.generation, event.seq)
        finally:
            reader.close()


def progress_of(standing: Standing) -> Progress:
    """Return what a checkpoint says; an empty one where there is none."""
    return msgspec.msgpack.decode(standing.progress, type=Progress) if standing.progress else Progress()


def _refuse_ahead(
    slot: Slot, shards: Sequence[Hosted], place: GroupPlace, standings: Mapping[tuple[str, str], Standing]
) -> None:
    readers = [shard for shard in shards if slot in shard.inputs]
    checkpoints = tuple(
        progress_of(standings.get(shard.name, NO_STANDING)).next_offsets.get(lane_of(*slot)) for shard in readers
    )
    if not group_is_ahead(GroupPlace(place.committed, place.end, checkpoints)):
        return
    source, known = readers[0].source, [offset for offset in checkpoints if offset is not None]
    if any(standings.get(shard.name, NO_STANDING).progress for shard in readers):
        stands = max(known, default=0)
        sentence = (
            f"Postgres was set back: the checkpoint of {source} stands at offset {stands} of {lane_of(*slot)}, but"
            f" it had come to {place.committed} before. {_CURE}"
        )
    else:
        sentence = (
            f"This database knows nothing of {source}, which has read {lane_of(*slot)} to offset {place.committed}"
            f" before: it was lost or set back, or it is another run's. {_CURE}"
        )
    raise WorkerFailed(sentence, 2)


def _refuse_made_anew(shard: Hosted, standing: Standing, ids: Mapping[str, str]) -> None:
    known = progress_of(standing).topic_ids
    for topic, _ in shard.inputs:
        if topic in ids and known.get(topic, ids[topic]) != ids[topic]:
            raise WorkerFailed(
                f"Topic {topic} is not the one that {shard.source} has read: it was deleted and made anew under its"
                " checkpoint, so records are missing. Bring the topic back, or begin anew with an empty database.",
                2,
            )


def _unknown_record(source: str, slot: Slot, offset: int, position: tuple[int, int]) -> str:
    return (
        f"Postgres was set back: {lane_of(*slot)} holds at offset {offset} number {position[1]} of generation"
        f" {position[0]} of {source}, which its checkpoint has not come to. {_CURE}"
    )
