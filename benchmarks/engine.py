"""What one hop of the stream engine costs: a trade in, a mark out, on real Kafka.

``python -m benchmarks.engine`` starts a Kafka and a Postgres of its own and prints three things: microseconds per
record of a shard without Kafka, records a second through one worker that finds a full log, and the time from a
producer's send to a reader's receipt at a steady rate, compared with a bare aiokafka hop at the same rate.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from agents.stage import NO_EVENTS, ShardState
from benchmarks.aiokafka_chain import run_chain
from benchmarks.machine import describe
from infra.kafka import TopicSpec, apply_topics, client_settings
from infra.postgres.migrate import migrate
from infra.servers import Launch, start_kafka, start_postgres, start_process
from schemas.codec import Codec
from schemas.event import Event, derive_id
from schemas.market import Trade
from schemas.opinions import MarketMark, MarkQuality
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT, MARKET_MARK, TOPICS
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind
from streams.engine.shard import ShardCore
from streams.engine.worker import Worker

FULL_LOG: Final = 60_000
STEADY: Final = 3_000
PER_SECOND: Final = 500.0
CODEC: Final = Codec(SchemaTable.committed())


class PassOn:
    """One mark for every trade, and nothing kept: what is measured is the engine."""

    name = "experts"

    def state_type(self, key: str) -> type:
        """Keep nothing."""
        raise AssertionError(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Answer a trade with a mark."""
        if type(event) is not Trade:
            return state, NO_EVENTS
        mark = MarketMark(
            key=event.key,
            event_time_ns=event.event_time_ns,
            available_at_ns=event.available_at_ns,
            mid=event.price,
            bid_price=None,
            ask_price=None,
            bid_quantity=None,
            ask_quantity=None,
            volume=None,
            newest_time_ns=event.available_at_ns,
            quality=MarkQuality.GOOD,
            on_grid=False,
            grid_time_ns=0,
        )
        return state, [mark]


HOSTING: Final = StageHosting(name="experts", topics=(MARKET_EVENT,), make_stage=PassOn, kind=StageKind.ONE_TOPIC)


def trade_bytes(number: int) -> bytes:
    """Return trade ``number`` as it lies in Kafka; its price is the time (ns) at which it was made."""
    now_ns = time.time_ns()
    trade = Trade(
        key="BENCH:X",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        trade_id=str(number),
        price=now_ns,
        quantity=1,
        aggressor=None,
        event_id=derive_id("bench", "feed", number),
        source="feed/BENCH/0",
        generation=1,
        seq=number,
    )
    return CODEC.encode(MARKET_EVENT.name, trade)


def shard_cost_us(count: int = 20_000) -> float:
    """Return CPU microseconds per record of decode, dedupe, step, stamp and encode."""
    core = ShardCore(HOSTING, f"{MARKET_EVENT.name}/0", 0, CODEC, 1)
    records = [RawRecord(MARKET_EVENT.name, 0, n, b"BENCH:X", trade_bytes(n), (), 0) for n in range(count)]
    started = time.process_time()
    for record in records:
        core.take(record)
    return (time.process_time() - started) / count * 1e6


class Marks:
    """Reads the marks as they come."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {**client_settings(bootstrap), "group.id": "bench", "fetch.wait.max.ms": 5, "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(MARKET_MARK.name, 0, 0)])

    def take(self, count: int) -> list[tuple[int, int]]:
        """Return (made at, received at) in ns of the next ``count`` marks."""
        taken: list[tuple[int, int]] = []
        while len(taken) < count:
            messages = self._consumer.consume(min(500, count - len(taken)), timeout=0.002)
            now_ns = time.time_ns()
            for message in messages:
                assert message.error() is None
                taken.append((CODEC.decode(MARKET_MARK.name, message.value()).mid, now_ns))
        return taken


def fill(bootstrap: str, first: int, count: int) -> None:
    """Write trades as fast as Kafka takes them."""
    producer = Producer({**client_settings(bootstrap), "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    for number in range(first, first + count):
        producer.produce(MARKET_EVENT.name, trade_bytes(number), key=b"BENCH:X", partition=0)
    assert producer.flush(60) == 0


def steady(bootstrap: str, first: int, count: int, per_second: float) -> None:
    """Write trades at a steady rate."""
    producer = Producer({**client_settings(bootstrap), "linger.ms": 0})
    started = time.perf_counter()
    for number in range(count):
        while (wait_s := started + number / per_second - time.perf_counter()) > 0:
            producer.poll(min(wait_s, 0.001))
        producer.produce(MARKET_EVENT.name, trade_bytes(first + number), key=b"BENCH:X", partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0


def quantiles_ms(latencies: Sequence[float]) -> str:
    """Return median and 99th percentile for a person."""
    cuts = statistics.quantiles(latencies, n=100)
    return f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms"


def run_worker(arguments: dict[str, Any]) -> int:
    """Be the worker."""
    facts = {"instrument_partitions": 1, "settings_hash": "bench", "code_version": "bench", "instance_id": "bench"}
    engine = EngineSettings(codec=CODEC, **{**facts, **arguments})
    return asyncio.run(Worker(engine, [HOSTING]).run())


def main() -> None:
    """Measure and print."""
    print(describe())
    print(f"a shard without Kafka: {shard_cost_us():.1f} us per record in, one out")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        postgres = start_postgres(directory / "pg")
        stack.callback(postgres.stop)
        migrate(postgres.dsn)
        specs = [TopicSpec(topic.name, 1) for topic in TOPICS.values()]
        specs += [TopicSpec(topic.dead_letters, 1) for topic in TOPICS.values()]
        chain = ["bench.in", "bench.out"]
        apply_topics(kafka.bootstrap, [*specs, *(TopicSpec(name, 1) for name in chain)])
        fill(kafka.bootstrap, 0, FULL_LOG)
        arguments = json.dumps({"bootstrap": kafka.bootstrap, "dsn": postgres.dsn})
        command = [sys.executable, "-m", "benchmarks.engine", arguments]
        worker = start_process(Launch("worker", command, directory / "worker.log"))
        stack.callback(worker.kill)
        marks = Marks(kafka.bootstrap)
        times = [received for _, received in marks.take(FULL_LOG)]
        print(f"a full log: {FULL_LOG / (times[-1] - times[0]) * 1e9:,.0f} records a second through one hop")
        feeding = threading.Thread(target=steady, args=(kafka.bootstrap, FULL_LOG, STEADY, PER_SECOND))
        feeding.start()
        latencies = [(received - made) / 1e6 for made, received in marks.take(STEADY)]
        feeding.join()
        print(f"one hop at {PER_SECOND:g} a second: {quantiles_ms(latencies[STEADY // 10 :])}")
        worker.terminate()
        bare = asyncio.run(run_chain(kafka.bootstrap, chain, STEADY, PER_SECOND)).latencies_ms
        print(f"a bare aiokafka hop at {PER_SECOND:g} a second: {quantiles_ms(bare[STEADY // 10 :])}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(run_worker(json.loads(sys.argv[1])))
    main()
