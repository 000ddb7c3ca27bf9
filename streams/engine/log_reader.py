"""A partition read forward once, outside any group: for recomputation, and for what a former version has sent."""

import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.kafka import Security, client_settings, log_ranges
from streams.engine.ports import RawRecord

_CHUNK: Final = 1000
_WAIT_S: Final = 0.05
_SILENCE_S: Final = 30.0

Lane = tuple[str, int]
"""A topic and a partition."""


class RecomputeImpossible(Exception):
    """What is needed is not kept any more, or never was, in one clear sentence."""


class LogReader:
    """One topic partition, read forward once, from ``first`` or, where that is gone, from what is kept.

    ``kept`` is what the log holds (its first offset, and that of the next record); without it the broker is asked.
    """

    def __init__(
        self,
        bootstrap: str,
        lane: Lane,
        first: int = 0,
        security: Security | None = None,
        *,
        kept: tuple[int, int] | None = None,
    ) -> None:
        self.lane = lane
        self.start, self.end = kept or log_ranges(bootstrap, [lane], security)[lane]
        self._first = max(first, self.start)
        settings = {
            "group.id": "tradermind.recompute",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
        }
        self._consumer = Consumer({**client_settings(bootstrap, security), **settings})
        self._consumer.assign([TopicPartition(*lane, self._first)])
        self._records = self._read()

    def _read(self) -> Iterator[RawRecord]:
        # A log whose last records are markers of a transaction ends by its EOF, not by a record below its end.
        position, heard_at = self._first, time.monotonic()
        while position < self.end:
            # The client waits for a whole chunk or the time-out, so the time-out must be short.
            messages = self._consumer.consume(_CHUNK, timeout=_WAIT_S)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _SILENCE_S:
                raise RecomputeImpossible(f"{self.lane} was silent for {_SILENCE_S:g} s at offset {position}.")
            for message in messages:
                error, offset = message.error(), message.offset()
                assert offset is not None
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    position = max(position, offset)
                elif error is not None:
                    raise KafkaException(error)
                elif offset < self.end:
                    position = offset + 1
                    yield _raw(message)
                else:
                    return

    def next(self) -> RawRecord | None:
        """Return the next record, or None at the end that the log had when the reader was made."""
        return next(self._records, None)

    def through(self, first: int, last: int) -> Iterator[RawRecord]:
        """Yield the records from ``first`` to ``last``; what lies before them is passed over.

        Raises RecomputeImpossible when the log does not hold all of them.
        """
        name = f"{self.lane[0]}/{self.lane[1]}"
        if self.start > first:
            raise RecomputeImpossible(f"{name} is only kept from offset {self.start} on, but {first} is needed.")
        while (record := self.next()) is not None and record.offset <= last:
            if record.offset >= first:
                yield record
            if record.offset == last:
                return
        raise RecomputeImpossible(f"{name} does not hold the record {last}, which was stepped.")

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def _raw(message: Message) -> RawRecord:
    headers: Any = message.headers() or ()
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and partition is not None and offset is not None
    return RawRecord(topic, partition, offset, message.key(), message.value(), tuple(headers), message.timestamp()[1])
