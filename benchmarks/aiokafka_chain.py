"""The yardstick for tick-to-order: a bare aiokafka chain of as many hops, one process, nothing but pass-on.

Each hop reads a topic of one partition and writes every record to the next, as thin as Python on Kafka gets.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

_ARRIVAL_S: Final = 60.0


async def _hop(bootstrap: str, source: str, target: str, ready: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(source, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await consumer.start()
    await producer.start()
    ready.set()
    try:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            sent = [await producer.send(target, record.value) for records in batches.values() for record in records]
            if sent:
                await asyncio.gather(*sent)
    finally:
        await consumer.stop()
        await producer.stop()


async def _collect(bootstrap: str, source: str, count: int, ready: asyncio.Event) -> list[float]:
    consumer = AIOKafkaConsumer(source, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    ready.set()
    latencies: list[float] = []
    try:
        while len(latencies) < count:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                now_ns = time.time_ns()
                latencies += [(now_ns - int(record.value)) / 1e6 for record in records]
    finally:
        await consumer.stop()
    return latencies


@dataclass(frozen=True, slots=True)
class ChainRun:
    """What a chain did: each record's first-send to last-receipt, and the rate that was really sent."""

    latencies_ms: Sequence[float]
    reached_per_s: float


async def run_chain(bootstrap: str, topics: Sequence[str], count: int, per_second: float) -> ChainRun:
    """Send ``count`` records down ``topics`` at a steady rate. Raises TimeoutError when they do not arrive."""
    ready = [asyncio.Event() for _ in topics]
    hops = [
        asyncio.create_task(_hop(bootstrap, source, target, event))
        for (source, target), event in zip(itertools.pairwise(topics), ready[:-1], strict=True)
    ]
    collecting = asyncio.create_task(_collect(bootstrap, topics[-1], count, ready[-1]))
    await asyncio.gather(*(event.wait() for event in ready))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await producer.start()
    try:
        began_s = time.monotonic()
        for number in range(count):
            # Counted from the beginning, so that what one sleep takes too long the next ones make good.
            await asyncio.sleep(max(0.0, began_s + number / per_second - time.monotonic()))
            await producer.send(topics[0], str(time.time_ns()).encode())
        reached_per_s = (count - 1) / (time.monotonic() - began_s)
        async with asyncio.timeout(_ARRIVAL_S):
            return ChainRun(await collecting, reached_per_s)
    finally:
        await producer.stop()
        for hop in hops:
            hop.cancel()
        await asyncio.gather(*hops, return_exceptions=True)
