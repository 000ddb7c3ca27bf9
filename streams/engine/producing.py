"""The producer of every worker: idempotent, and with one future for what Kafka takes together.

aiokafka makes a coroutine, a future and its callback of every record, and Faust a call around each: nine tenths of
what sending a record cost us. Here records are put into aiokafka's own batches, in the order in which they come, and
the batch's future is what is waited for. A record joins the batch that is open, as with aiokafka's ``send``.
"""

import asyncio
import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, ProducerClosed
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver

from streams.engine.ports import Outgoing

_FRAME_BYTES_MAX = 1_024
"""More than Kafka's frame around a record with a few headers."""


class Acknowledgement(NamedTuple):
    """What tells that records of one partition are in Kafka.

    ``taken`` gives the metadata, whose ``offset`` is that of the first record taken together with them (they may share
    it with others); the last of them lies ``behind`` it by so much.
    """

    topic: str
    partition: int
    taken: "asyncio.Future[Any]"
    behind: int


class IdempotentProducer(driver.Producer):
    """A failed send in a run of numbered records must not let the later ones through."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Put records into the partition's batches, in order. Raises what aiokafka's ``send`` raises."""
        producer = self._ensure_producer()
        await producer.client._wait_on_metadata(topic)
        lane = TopicPartition(topic, producer._partition(topic, partition, None, None, None, None))
        acknowledgements: list[Acknowledgement] = []
        last: Any = None
        for record in records:
            _refuse_too_large(record, producer._max_request_size)
            batch = await self._put(producer._message_accumulator, lane, record)
            if batch is not last:
                acknowledgements.append(Acknowledgement(topic, partition, batch.future, 0))
                last = batch
            acknowledgements[-1] = acknowledgements[-1]._replace(behind=batch.record_count - 1)
        return acknowledgements

    async def _put(self, accumulator: Any, lane: TopicPartition, record: Outgoing) -> Any:
        """Append a record to the partition's open batch, or wait until a full one is on its way; return the batch."""
        deadline = time.monotonic() + self.request_timeout
        while True:
            if accumulator._closed:
                raise ProducerClosed()
            if accumulator._exception is not None:
                raise copy.copy(accumulator._exception)
            waiting = accumulator._batches.get(lane)
            batch = waiting[-1] if waiting else accumulator._append_batch(accumulator.create_builder(), lane)
            headers = list(record.headers)
            if batch._builder.append(timestamp=None, key=record.key, value=record.value, headers=headers) is not None:
                return batch
            if (left_s := deadline - time.monotonic()) <= 0:
                raise KafkaTimeoutError()
            if not accumulator._waiter_future.done():
                accumulator._waiter_future.set_result(None)
            await batch.wait_drain(left_s)


def _refuse_too_large(record: Outgoing, bytes_max: int) -> None:
    size = len(record.value or b"") + len(record.key or b"") + _FRAME_BYTES_MAX
    size += sum(len(name) + len(content) for name, content in record.headers)
    if size > bytes_max:
        raise MessageSizeTooLargeError(f"A record of {size} bytes is more than the {bytes_max} that a request may have")
