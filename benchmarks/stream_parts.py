"""Where the CPU time of one record goes in our worker: each part alone, over the same records, without Kafka."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

from agents.stage import ShardState, run_step
from benchmarks.stream_ours import HOSTING
from schemas.codec import Codec
from schemas.market import Trade
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT
from streams.engine.dedupe import SeenPositions
from streams.engine.lane import lane_of
from streams.engine.ports import Outgoing, RawRecord
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore

_PASSES: Final = 5


def _us(count: int, work: Callable[[], object]) -> float:
    """Return the least CPU microseconds per record of a few passes."""
    least = float("inf")
    for _ in range(_PASSES):
        began = time.process_time()
        work()
        least = min(least, (time.process_time() - began) / count * 1e6)
    return least


def print_parts(trades: Sequence[Trade]) -> None:
    """Print the parts. What the whole worker uses above their sum is fetching, Faust, and the event loop."""
    codec = Codec(SchemaTable.committed())
    values = [codec.encode(MARKET_EVENT.name, event) for event in trades]
    records = [RawRecord(MARKET_EVENT.name, 0, n, b"k", value, (), 0) for n, value in enumerate(values)]
    lane, count = lane_of(MARKET_EVENT.name, 0), len(trades)

    def dedupe() -> None:
        seen = SeenPositions()
        for event in trades:
            seen.is_new(lane, event)

    def step() -> None:
        stage, state = HOSTING.make_stage(), ShardState()
        for event in trades:
            run_step(stage, state, event)

    def whole() -> ShardCore:
        core = ShardCore(HOSTING, lane, 0, codec, 1)
        for record in records:
            core.take(record)
        return core

    def decode() -> None:
        for value in values:
            codec.decode(MARKET_EVENT.name, value)

    outgoing = whole().outgoing
    parts = {
        "decode and validate": _us(count, decode),
        "drop duplicates": _us(count, dedupe),
        "step": _us(count, step),
        "the whole shard (with encode)": _us(count, whole),
        "send, per record in": _us(count, lambda: asyncio.run(Sender(_NoKafka()).send(outgoing))),
    }
    print("\nCPU microseconds per record in, one record out in a hundred")
    for name, cost in parts.items():
        print(f"  {name:34} {cost:6.2f}")


class _NoKafka:
    """A producer that takes everything at once: what is measured is how we call it."""

    @property
    def producer(self) -> "_NoKafka":
        """Be the app's producer."""
        return self

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=0))
        return [Acknowledgement(topic, partition, future, len(records) - 1)]
