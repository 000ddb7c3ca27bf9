"""What our workers and foreign programs need of a broker, on the embedded one and on real Kafka alike."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition as AiokafkaPartition
from confluent_kafka import Consumer, Producer, TopicPartition
from servers import AnyBroker

from infra.kafka import log_ends, topic_partitions

RECORDS = 200
PARTITIONS = 4


def test_topics_have_the_partitions_that_were_asked_for(any_broker: AnyBroker) -> None:
    wanted = {f"exact.{partitions}": partitions for partitions in (1, 2, 3, 5, 8, 16)}
    any_broker.make_topics(wanted)
    there = topic_partitions(any_broker.bootstrap)
    assert {name: there[name] for name in wanted} == wanted


def _new_topic(any_broker: AnyBroker) -> str:
    topic = f"clients.{uuid.uuid4().hex}"
    any_broker.make_topics({topic: PARTITIONS})
    return topic


async def _aiokafka_produces(bootstrap: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=2)
    await producer.start()
    try:
        headers = [("content-type", b"avro"), ("again", b"1"), ("again", b"2")]
        sends = [
            await producer.send(
                topic, b"%d" % number, key=b"key-%d" % number, partition=number % PARTITIONS, headers=headers
            )
            for number in range(RECORDS)
        ]
        acknowledged = await asyncio.gather(*sends)
    finally:
        await producer.stop()
    offsets = [(record.partition, record.offset) for record in acknowledged]
    assert offsets == [(number % PARTITIONS, number // PARTITIONS) for number in range(RECORDS)]


async def _aiokafka_reads(bootstrap: str, topic: str) -> list[tuple[int, int, bytes, bytes, tuple[object, ...]]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=f"group.{topic}", enable_auto_commit=False, fetch_max_wait_ms=20
    )
    await consumer.start()
    slots = [AiokafkaPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer.assign(slots)
    try:
        await consumer.seek_to_beginning(*slots)
        seen: list[tuple[int, int, bytes, bytes, tuple[object, ...]]] = []
        while len(seen) < RECORDS:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                seen += [(item.partition, item.offset, item.key, item.value, item.headers) for item in records]
        await consumer.commit({slot: RECORDS // PARTITIONS - slot.partition for slot in slots})
        committed = [await consumer.committed(slot) for slot in slots]
    finally:
        await consumer.stop()
    assert committed == [RECORDS // PARTITIONS - slot.partition for slot in slots]
    return seen


def test_aiokafka_produces_in_order_reads_keys_and_headers_and_commits(any_broker: AnyBroker) -> None:
    topic = _new_topic(any_broker)
    asyncio.run(asyncio.wait_for(_aiokafka_produces(any_broker.bootstrap, topic), 60))
    seen = asyncio.run(asyncio.wait_for(_aiokafka_reads(any_broker.bootstrap, topic), 60))
    headers = (("content-type", b"avro"), ("again", b"1"), ("again", b"2"))
    assert sorted(seen) == sorted(
        (number % PARTITIONS, number // PARTITIONS, b"key-%d" % number, b"%d" % number, headers)
        for number in range(RECORDS)
    )


@contextmanager
def _member(bootstrap: str, topic: str) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"group.{topic}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "fetch.wait.max.ms": 20,
        }
    )
    consumer.subscribe([topic])
    yield consumer
    consumer.close()


def _confluent_produces(bootstrap: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True})
    for number in range(RECORDS):
        producer.produce(topic, b"%d" % number, partition=number % PARTITIONS, headers=[("number", b"%d" % number)])
    assert producer.flush(30) == 0


def test_confluent_produces_and_a_later_member_goes_on_where_the_first_committed(any_broker: AnyBroker) -> None:
    topic = _new_topic(any_broker)
    _confluent_produces(any_broker.bootstrap, topic)
    assert sum(log_ends(any_broker.bootstrap, [(topic, slot) for slot in range(PARTITIONS)]).values()) == RECORDS
    taken: list[bytes] = []
    deadline = time.monotonic() + 60
    for portion in (RECORDS // 2, RECORDS):
        with _member(any_broker.bootstrap, topic) as consumer:
            positions: dict[int, int] = {}
            while len(taken) < portion:
                assert time.monotonic() < deadline
                for message in consumer.consume(portion - len(taken), timeout=0.2):
                    assert message.error() is None
                    assert message.headers() == [("number", message.value())]
                    taken.append(message.value())
                    positions[message.partition()] = message.offset() + 1
            consumer.commit(
                offsets=[TopicPartition(topic, slot, offset) for slot, offset in positions.items()], asynchronous=False
            )
    assert sorted(map(int, taken)) == list(range(RECORDS)), "each once: none lost, none twice"


def test_two_members_of_a_group_share_the_partitions_and_one_takes_over(any_broker: AnyBroker) -> None:
    topic = _new_topic(any_broker)
    with _member(any_broker.bootstrap, topic) as stays:
        with _member(any_broker.bootstrap, topic) as leaves:
            _until_assigned(stays, leaves, 2)
            first, second = ({item.partition for item in member.assignment()} for member in (stays, leaves))
            assert first | second == set(range(PARTITIONS))
            assert not first & second
        _until_assigned(stays, None, PARTITIONS)


def _until_assigned(first: Consumer, second: Consumer | None, partitions: int) -> None:
    deadline = time.monotonic() + 40
    members = [first] if second is None else [first, second]
    while any(len(member.assignment()) != partitions for member in members):
        assert time.monotonic() < deadline, [member.assignment() for member in members]
        for member in members:
            member.poll(0.05)
