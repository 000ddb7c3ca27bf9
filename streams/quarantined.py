"""Where the stages stand, for whoever asks about a record or a held key: read from their newest checkpoints."""

from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg

from schemas.topics import TOPICS, Topic
from streams.engine.lane import lane_of
from streams.engine.shard import Progress


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key in quarantine: where, behind which record, how many records wait, how many of them were stepped since."""

    stage: str
    shard: str
    key: str
    since: str
    held: int
    stepped: int


def readers_of(topic: Topic) -> tuple[str, ...]:
    """Return the names of the stages that step a topic's records; sinks only write them down."""
    names = (f"ingress.{topic.name.split('.')[2]}" if name == "ingestion" else name for name in topic.consumers)
    return tuple(name for name in names if name and name != "sinks")


def reads_as_sink(name: str) -> tuple[bool, bool]:
    """Return whether the sinks read a topic of this name, and whether nobody else does: so with dead letters."""
    if name.endswith(".dlq"):
        known = name.removesuffix(".dlq") in TOPICS
        return known, known
    topic = TOPICS.get(name)
    read = topic is not None and "sinks" in topic.consumers
    return read, read and topic is not None and not readers_of(topic)


def progress_of(connection: psycopg.Connection[Any]) -> dict[tuple[str, str], Progress]:
    """Return (stage, shard) -> its newest checkpoint's progress, for every shard that was ever claimed."""
    rows = connection.cursor(row_factory=psycopg.rows.tuple_row).execute("SELECT stage, shard, progress FROM shard")
    return {
        (str(stage), str(shard)): msgspec.msgpack.decode(bytes(stored), type=Progress) if stored else Progress()
        for stage, shard, stored in rows.fetchall()
    }


def next_offsets(connection: psycopg.Connection[Any], topic: str, partition: int) -> dict[str, int]:
    """Return stage -> the offset that it steps next on a topic partition, for the stages that were ever up."""
    lane = lane_of(topic, partition)
    stages = readers_of(TOPICS[topic])
    return {
        stage: progress.next_offsets.get(lane, 0)
        for (stage, shard), progress in progress_of(connection).items()
        if stage in stages and shard in (str(partition), lane)
    }


def held_keys(connection: psycopg.Connection[Any]) -> list[HeldKey]:
    """Return every key in quarantine, by stage."""
    return [
        HeldKey(stage, shard, key, held.since, held.held, held.stepped)
        for (stage, shard), progress in sorted(progress_of(connection).items())
        for key, held in sorted(progress.letters.held.items())
    ]
