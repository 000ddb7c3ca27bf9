"""What the broker's topics shall be: the topic table, in the broker's own words. The demo and the commands share it."""

from collections.abc import Mapping
from typing import Final

from infra.kafka import TopicSpec
from infra.kafka_topics import CLEANUP, RECORD_BYTES, RETENTION
from infra.settings import Settings, SettingsError
from schemas.topics import TOPICS, Spread, Topic

_OWN_BYTES_MAX: Final = 2 * 1024 * 1024
_PUBLIC_BYTES_MAX: Final = 8 * 1024 * 1024
_LETTER_BYTES_MAX: Final = 12 * 1024 * 1024


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return every topic and its dead letters, as the topic table has them.

    Our own topics must have exactly their partitions. What the public writes is taken from any partition, so that any
    number is right; a dead letter lies where its record lay, and there may be more places than that.
    """
    kafka = settings.kafka
    specs: list[TopicSpec] = []
    for topic in TOPICS.values():
        kept = {RETENTION: str(topic.retention_hours * 3_600_000), CLEANUP: "delete"}
        if kafka.replication > 1:
            kept["min.insync.replicas"] = str(kafka.replication - 1)
        # What the public may write is judged by us, with a reason; the broker's limit would hide it. What is judged
        # so must fit into its dead letter, and what we encode (up to 1 MiB) into its topic with key and headers.
        size = {RECORD_BYTES: str(_PUBLIC_BYTES_MAX if topic.public else _OWN_BYTES_MAX)}
        clock = {"message.timestamp.type": "LogAppendTime" if topic.public else "CreateTime"}
        letters = {RECORD_BYTES: str(_LETTER_BYTES_MAX), "message.timestamp.type": "CreateTime"}
        partitions = topic.partitions(kafka.instrument_partitions)
        least = 1 if topic.public else None
        specs.append(TopicSpec(topic.name, partitions, {**kept, **size, **clock}, kafka.replication, least))
        least = 1 if topic.public else partitions
        specs.append(TopicSpec(topic.dead_letters, partitions, {**kept, **letters}, kafka.replication, least))
    return specs


def keyed_topics() -> tuple[Topic, ...]:
    """Return the topics of ours whose key decides the partition: those that a shard of an instrument lives on."""
    return tuple(topic for topic in TOPICS.values() if topic.spread is Spread.BY_INSTRUMENT and not topic.public)


def refuse_other_count(there: Mapping[str, int], instrument_partitions: int) -> None:
    """Raise SettingsError where a keyed topic has another partition count than the setting says: keys would be lost.

    ``there``: topic -> partitions, as the broker has them. A topic that is not there is another matter.
    """
    for topic in keyed_topics():
        found = there.get(topic.name, instrument_partitions)
        if found != instrument_partitions:
            raise SettingsError(
                f"{topic.name} has {found} partitions, but kafka.instrument_partitions is {instrument_partitions}: set"
                f" it to {found}, or move the keys with `tradermind topics rescale`."
            )
