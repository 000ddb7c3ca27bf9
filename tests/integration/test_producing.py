"""The workers' producer, on the embedded broker and on real Kafka: in order, told where it lies, and bounded."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import MessageSizeTooLargeError
from servers import AnyBroker

from streams.engine.ports import Outgoing
from streams.engine.producing import IdempotentProducer
from streams.engine.sending import Sender
from streams.engine.transport import Checkpoints, ChunkTransport
from streams.offline.log_reader import LogReader

RECORDS = 3_000
PORTION = 150


@asynccontextmanager
async def _producer(bootstrap: str) -> AsyncIterator[IdempotentProducer]:
    app: Any = faust.App(
        "test.producing",
        broker=f"kafka://{bootstrap}",
        producer_linger=0.0,
        producer_acks=-1,
        producer_max_batch_size=16 * 1024,
        producer_max_request_size=100_000,
        topic_allow_declare=False,
        web_enabled=False,
    )
    app.tradermind_checkpoints = Checkpoints()
    app.transport = ChunkTransport([app.conf.broker[0]], app)
    producer = app.producer
    assert isinstance(producer, IdempotentProducer)
    await producer.start()
    yield producer
    await producer.stop()


def _numbered(topic: str, writer: str, first: int, partition: int = 0) -> list[Outgoing]:
    return [
        Outgoing(topic, partition, writer.encode(), b"%d" % number + b"." * 180, (("writer", writer.encode()),))
        for number in range(first, first + PORTION)
    ]


def test_what_two_write_side_by_side_lies_in_order_and_where_it_was_said_to_lie(any_broker: AnyBroker) -> None:
    topic = f"producing.{uuid.uuid4().hex}"
    any_broker.make_topics({topic: 2})
    said: dict[tuple[str, int], int] = {}

    async def write(sender: Sender, writer: str) -> None:
        for first in range(0, RECORDS, PORTION):
            ((_, _, offset), *_) = reversed(await sender.send(_numbered(topic, writer, first)))
            said[writer, first + PORTION - 1] = offset

    async def scenario() -> None:
        async with _producer(any_broker.bootstrap) as producer:
            sender = Sender(SimpleNamespace(producer=producer))
            await asyncio.gather(write(sender, "one"), write(sender, "two"))
            mixed = [record for n in range(2) for record in _numbered(topic, "both", 0, n)]
            lanes = {(name, lane): offset for name, lane, offset in await sender.send(mixed)}
            assert lanes == {(topic, 0): 2 * RECORDS + PORTION - 1, (topic, 1): PORTION - 1}

    asyncio.run(asyncio.wait_for(scenario(), 120))
    reader = LogReader(any_broker.bootstrap, (topic, 0))
    found: dict[str, list[int]] = {}
    places: dict[tuple[str, int], int] = {}
    while (record := reader.next()) is not None:
        assert record.key is not None and record.value is not None
        writer, number = record.key.decode(), int(record.value.rstrip(b"."))
        assert list(record.headers) == [("writer", record.key)]
        found.setdefault(writer, []).append(number)
        places[writer, number] = record.offset
    reader.close()
    assert found["one"] == found["two"] == list(range(RECORDS))
    assert said == {place: places[place] for place in said}
    assert len(said) == 2 * RECORDS // PORTION


def test_a_record_larger_than_a_request_is_refused_and_the_next_one_goes(any_broker: AnyBroker) -> None:
    topic = f"producing.{uuid.uuid4().hex}"
    any_broker.make_topics({topic: 1})

    async def scenario() -> None:
        async with _producer(any_broker.bootstrap) as producer:
            with pytest.raises(MessageSizeTooLargeError):
                await producer.write(topic, 0, [Outgoing(topic, 0, b"k", b"x" * 100_000, ())])
            sender = Sender(SimpleNamespace(producer=producer))
            assert await sender.send([Outgoing(topic, 0, b"k", b"x" * 50_000, ())]) == [(topic, 0, 0)]

    asyncio.run(asyncio.wait_for(scenario(), 60))
