"""Another system, as our tests play it: finds schemas by the registry's URL and writes with plain confluent-kafka."""

import io
import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
from confluent_kafka import Consumer, Message, Producer, TopicPartition

Headers = list[tuple[str, bytes]]
LARGEST = 64 * 1024 * 1024


def topic_of(short: str) -> str:
    """Return the public topic of ``trade``, ``quote``, ``depth``, ``vote``, ``request`` or ``outcome``."""
    return f"tradermind.ingest.{short}.v1"


class Outsider:
    """Writes records, waits for the broker to take each, and reads one back."""

    def __init__(self, bootstrap: str, registry: str, **settings: Any) -> None:
        self._registry = registry
        self._bootstrap = bootstrap
        self._schemas: dict[str, tuple[int, Any]] = {}
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "message.max.bytes": LARGEST,
                "linger.ms": 0,
                **{name.replace("_", "."): value for name, value in settings.items()},
            }
        )

    def schema(self, subject: str) -> tuple[int, Any]:
        """Return the id and the parsed schema of a subject's latest version."""
        if subject not in self._schemas:
            url = f"{self._registry}/subjects/{subject}/versions/latest"
            with urllib.request.urlopen(url, timeout=10) as response:
                answer = json.load(response)
            self._schemas[subject] = answer["id"], fastavro.parse_schema(json.loads(answer["schema"]))
        return self._schemas[subject]

    def framed(self, subject: str, record: Mapping[str, Any]) -> bytes:
        """Return a record as Confluent's framing has it."""
        number, schema = self.schema(subject)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, record)
        return b"\0" + number.to_bytes(4, "big") + body.getvalue()

    def public(self, short: str, **fields: Any) -> bytes:
        """Return a record of a public topic; what all of them have is filled in."""
        common = {"event_id": f"outsider/{time.time_ns()}", "instrument": "EXT:DEMO", "event_time_ns": time.time_ns()}
        return self.framed(f"{topic_of(short)}-value", common | fields)

    def write(self, topic: str, value: bytes | None, *, partition: int = 0, headers: Headers | None = None) -> Message:
        """Write one record and return it as the broker has taken it."""
        return self.write_all(topic, [value], partition=partition, headers=headers)[0]

    def write_all(
        self, topic: str, values: Sequence[bytes | None], *, partition: int = 0, headers: Headers | None = None
    ) -> list[Message]:
        """Write records to one partition and return them as the broker has taken them."""
        taken: list[Message] = []
        failed: list[Any] = []

        def delivered(error: Any, message: Message) -> None:
            (failed if error else taken).append(error or message)

        for value in values:
            while True:
                try:
                    self._producer.produce(
                        topic, value, key=b"outsider", partition=partition, headers=headers or [], on_delivery=delivered
                    )
                    break
                except BufferError:
                    self._producer.poll(0.05)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0
        assert not failed, failed[0]
        return sorted(taken, key=lambda message: message.offset() or 0)

    def at(self, topic: str, partition: int, offset: int, limit_s: float = 60.0) -> Message:
        """Return one record of a topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "outsider",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.message.max.bytes": LARGEST,
                "fetch.max.bytes": LARGEST,
                "receive.message.max.bytes": 2 * LARGEST,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            message = consumer.poll(limit_s)
            assert message is not None, f"nothing at offset {offset} of {topic}/{partition}"
            assert message.error() is None, message.error()
            assert message.offset() == offset
            return message
        finally:
            consumer.close()
