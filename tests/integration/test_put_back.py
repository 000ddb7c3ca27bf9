"""What a fetch has taken that nobody waits for is given again: a rebalance may come while it waits."""

import asyncio
import uuid
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer
from servers import AnyBroker

from infra.kafka import client_settings
from streams.engine.transport import put_back

RECORDS = 50


async def _taken(consumer: Any, count: int) -> dict[Any, list[Any]]:
    taken: dict[Any, list[Any]] = {}
    while sum(map(len, taken.values())) < count:
        for partition, records in (await consumer.getmany(timeout_ms=500)).items():
            taken.setdefault(partition, []).extend(records)
    return taken


def test_what_is_put_back_comes_again_and_what_is_no_longer_ours_does_not(any_broker: AnyBroker) -> None:
    topic = f"back.{uuid.uuid4().hex}"
    any_broker.make_topics({topic: 2})
    producer = Producer(client_settings(any_broker.bootstrap))
    for number in range(RECORDS):
        producer.produce(topic, b"%d" % number, partition=number % 2)
    assert producer.flush(30) == 0

    async def scenario() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=any_broker.bootstrap, group_id=None, fetch_max_wait_ms=20)
        await consumer.start()
        try:
            both = [TopicPartition(topic, partition) for partition in (0, 1)]
            consumer.assign(both)
            await consumer.seek_to_beginning(*both)
            first = await _taken(consumer, RECORDS)
            put_back(consumer, first)
            assert await _taken(consumer, RECORDS) == first
            consumer.assign(both[:1])
            consumer.seek(both[0], RECORDS // 2)
            put_back(consumer, first)
            assert await _taken(consumer, RECORDS // 2) == {both[0]: first[both[0]]}
        finally:
            await consumer.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))
