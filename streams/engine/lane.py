"""Lanes: topic partitions as a shard sees them, by the name they have in its progress and journal."""

from typing import Final

from schemas.topics import TOPICS, Spread
from streams.engine.ports import StageHosting
from streams.engine.quarantine import quarantines


def lane_of(topic: str, partition: int) -> str:
    """Return the name of a topic partition in progress and journal."""
    return f"{topic}/{partition}"


class Lane:
    """What is the same for every record of a lane, so that no record asks for it again."""

    __slots__ = ("by_instrument", "held_back", "name", "partition", "topic", "topic_name")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic_name: Final = topic
        self.partition: Final = partition
        self.name: Final = lane_of(topic, partition)
        self.topic: Final = TOPICS[topic]
        self.by_instrument: Final = self.topic.spread is Spread.BY_INSTRUMENT
        self.held_back: Final = quarantines(self.topic)


def output_lanes(hosting: StageHosting, partition: int, instrument_partitions: int) -> list[tuple[str, int]]:
    """Return the topic partitions that a one-topic shard may write: all of its stage's, its own where it keeps keys."""
    name = "ingestion" if hosting.wrap is not None else hosting.name
    return [
        (topic.name, number)
        for topic in TOPICS.values()
        if name in topic.producers
        for number in range(topic.partitions(instrument_partitions))
        if number == partition or hosting.wrap is not None or topic.spread is Spread.SINGLE
    ]
