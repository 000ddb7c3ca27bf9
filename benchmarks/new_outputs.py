"""When a worker that was started again first says something new: read from the logs that it writes.

A worker may send again what it had sent before; readers drop that by its generation and number, and so does this one.
Times are those that Kafka keeps with each record, which are when the producer took it, to the millisecond.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.kafka import client_settings, log_ends
from schemas.codec import Codec
from schemas.event import Event
from schemas.topics import TOPICS

_BATCH: Final = 1_000


@dataclass(slots=True)
class OutputWatch:
    """Reads the topics that a stage writes, and nobody else, from their ends on. Close it."""

    bootstrap: str
    stage: str
    partitions: int
    codec: Codec
    _seen: dict[tuple[str, int, str], tuple[int, int]] = field(default_factory=dict)
    _consumer: Any = None

    def open(self) -> None:
        """Stand at the ends of the logs. Raises BrokerUnreachable."""
        slots = [
            (topic.name, number)
            for topic in TOPICS.values()
            if topic.producers == (self.stage,)
            for number in range(topic.partitions(self.partitions))
        ]
        settings = {"group.id": "tradermind.bench.recovery", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
        self._consumer = Consumer({**client_settings(self.bootstrap, {}), **settings})
        ends = log_ends(self.bootstrap, slots)
        self._consumer.assign([TopicPartition(*slot, end) for slot, end in ends.items()])

    def first_new_ms(self, since_ms: float, timeout_s: float) -> int | None:
        """Read what has come; return when the first event above all before it was written, if that is since then."""
        for message in self._consumer.consume(_BATCH, timeout=timeout_s):
            if message.error() is not None:
                raise KafkaException(message.error())
            event = self.codec.decode(message.topic(), message.value(), message.headers() or ())
            at_ms = message.timestamp()[1]
            if self._is_new(message.topic(), message.partition(), event) and at_ms >= since_ms:
                return int(at_ms)
        return None

    def _is_new(self, topic: str, partition: int, event: Any) -> bool:
        if not isinstance(event, Event):
            return False
        name, position = (topic, partition, event.source), (event.generation, event.seq)
        if position <= self._seen.get(name, (0, -1)):
            return False
        self._seen[name] = position
        return True

    def close(self) -> None:
        """Give the connection back."""
        if self._consumer is not None:
            self._consumer.close()
