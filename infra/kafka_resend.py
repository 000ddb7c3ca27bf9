"""Records written again one by one, each awaited: a person is told of every one where it lies now."""

import time
from typing import Any, Final

from confluent_kafka import KafkaException, Message, Producer

from infra.kafka import KafkaFailed, Security, client_settings, topic_partitions

_ANSWER_S: Final = 30.0
_RECORD_BYTES_MAX: Final = 16 * 1024 * 1024


class Resender:
    """Writes at most ``rate`` records a second, in order, with every replica's acknowledgement."""

    def __init__(self, bootstrap: str, security: Security | None, rate: float) -> None:
        """Raises BrokerUnreachable where nobody answers."""
        topic_partitions(bootstrap, security)
        settings = {"enable.idempotence": True, "linger.ms": 0, "message.max.bytes": _RECORD_BYTES_MAX}
        self._producer = Producer({**client_settings(bootstrap, security), **settings})
        self._pause_s = 1 / rate
        self._next_at = time.monotonic()

    def send(
        self, place: tuple[str, int], key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
    ) -> int:
        """Write a record to a topic partition and return its offset. Raises KafkaFailed when the broker has it not."""
        time.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = max(self._next_at, time.monotonic() - self._pause_s) + self._pause_s
        written: list[Message] = []
        failed: list[Any] = []

        def delivered(error: Any, message: Message) -> None:
            (failed if error is not None else written).append(error if error is not None else message)

        topic, partition = place
        try:
            sent: list[tuple[str, str | bytes | None]] = [*headers]
            self._producer.produce(topic, value, key, partition, delivered, headers=sent)
        except KafkaException as error:
            failed.append(error)
        self._producer.flush(_ANSWER_S)
        if failed or not written:
            raise KafkaFailed(f"{topic}/{partition} did not take the record: {failed[0] if failed else 'no answer'}.")
        offset = written[0].offset()
        assert offset is not None
        return offset
