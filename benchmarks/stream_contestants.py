"""Other ways to read Kafka in Python, each doing the same work: ``python -m benchmarks.stream_contestants NAME JSON``.

Each runs until it is killed; whoever started it counts what it writes.
"""

import asyncio
import json
import sys
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Producer

from benchmarks.tick_work import TickWork


async def aiokafka_loop(bootstrap: str, group: str, source: str, target: str) -> None:
    """``getmany`` and ``send``, acknowledgements awaited per fetch: as thin as Python on Kafka gets. No guarantees."""
    del group  # It keeps no place.
    consumer = AIOKafkaConsumer(
        source, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None, max_poll_records=5000
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    work = TickWork()
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            sent = []
            for record in records:
                vote = work.take(record.value)
                if vote is not None:
                    sent.append(await producer.send(target, vote, partition=0))
            await asyncio.gather(*sent)


def confluent_loop(bootstrap: str, group: str, source: str, target: str) -> None:
    """``consume`` and ``produce`` of librdkafka, offsets committed by the library now and then."""
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
    consumer.subscribe([source])
    work = TickWork()
    while True:
        for message in consumer.consume(1000, timeout=0.1):
            value = message.value()
            vote = work.take(value) if value is not None and message.error() is None else None
            if vote is not None:
                producer.produce(target, vote, partition=0)
        producer.poll(0)


def stock_faust(bootstrap: str, group: str, source: str, target: str) -> None:
    """An agent as Faust's manual shows it, with raw bytes as values."""
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        value_serializer="raw",
        store="memory://",
    )
    trades, votes = app.topic(source), app.topic(target)
    work = TickWork()

    async def agent(stream: Any) -> None:
        async for value in stream:
            vote = work.take(value)
            if vote is not None:
                await votes.send(value=vote, partition=0)

    app.agent(trades)(agent)
    faust.Worker(app, loglevel="error").execute_from_commandline()


def main(name: str, arguments: dict[str, str]) -> None:
    """Be one contestant."""
    if name == "aiokafka":
        asyncio.run(aiokafka_loop(**arguments))
    elif name == "confluent":
        confluent_loop(**arguments)
    elif name == "faust":
        stock_faust(**arguments)
    else:
        raise SystemExit(f"{name!r} is no contestant")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
