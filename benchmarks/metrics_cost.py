"""What the metrics cost on the hot path: ``python -m benchmarks.metrics_cost``, or ``make bench-metrics``.

The same records through the same shards, with the metrics told and scraped and without, in turns within one process, so
that whatever else the machine does hits both alike. CPU time of the whole process is compared, the telling and the
scraping among it. Kafka and Postgres are left out: with them a record costs more, and the same metrics less of it.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from agents.stage import NO_EVENTS, ShardState
from benchmarks.machine import describe
from benchmarks.pipeline import CAPTURE, compose_run
from infra.metrics.health import Health
from infra.metrics.registry import Metrics
from infra.postgres.patient_store import PatientStore, RunFacts
from schemas.codec import Codec
from schemas.event import Event
from schemas.opinions import MarketMark, MarkQuality
from schemas.schema_table import SchemaTable
from schemas.topics import EXPERT_VOTE, FEATURE_SNAPSHOT, MARKET_EVENT
from streams.composition import Run
from streams.engine.flow import Flow
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import Outgoing, RawRecord, StageHosting, StageKind
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.engine.telling import Teller, Told
from streams.ingestion import FeedSteps, feed_hosting
from streams.launch import stage_hosting
from streams.observers.attach import observed
from streams.observers.execution import VenueTimes

AIM: Final = 0.03
PAIRS: Final = 9
_CHUNK: Final = 500
_SCRAPE_S: Final = 5.0
_FACTS: Final = RunFacts("bench", "bench", "bench")
_CODEC: Final = Codec(SchemaTable.committed())
Chunks = list[list[RawRecord]]


class PassOn:
    """A mark for every tenth event and nothing else: what is measured is the engine, where metrics weigh the most."""

    name = "experts"

    def __init__(self) -> None:
        self._count = 0

    def state_type(self, key: str) -> type:
        """Keep nothing."""
        raise AssertionError(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Answer some."""
        self._count += 1
        if self._count % 10:
            return state, NO_EVENTS
        nothing: dict[str, None] = dict.fromkeys(
            ("mid", "bid_price", "ask_price", "bid_quantity", "ask_quantity", "volume")
        )
        mark = MarketMark(
            key=event.key,
            event_time_ns=event.event_time_ns,
            available_at_ns=event.available_at_ns,
            **nothing,
            newest_time_ns=0,
            quality=MarkQuality.GOOD,
            on_grid=False,
            grid_time_ns=0,
        )
        return state, [mark]


class NoStore:
    """A database that takes everything at once."""

    epoch = 1

    async def commit(self, commit: object, facts: object) -> None:
        """Take a batch."""

    async def close(self) -> None:
        """End."""


class NoBroker:
    """A producer whose records are there at once."""

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records."""
        taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        taken.set_result(SimpleNamespace(offset=0))
        return [Acknowledgement(topic, partition, taken, len(records) - 1)]


@dataclass(frozen=True)
class Case:
    """A stage and what it is fed: a hosting without its observer, and with it."""

    name: str
    hosting: StageHosting
    watched: Callable[[Metrics], StageHosting]
    chunks: Chunks

    @property
    def events(self) -> int:
        """How many records it is fed."""
        return sum(map(len, self.chunks))


def chunked(sent: Sequence[Outgoing], topics: Sequence[str]) -> Chunks:
    """Return what was sent as what a consumer fetches of those topics, in order, in chunks of one topic."""
    offsets = dict.fromkeys(topics, 0)
    chunks: Chunks = []
    for one in sent:
        if one.topic not in offsets:
            continue
        record = RawRecord(one.topic, 0, offsets[one.topic], one.key, one.value, one.headers, 1)
        offsets[one.topic] += 1
        if not chunks or chunks[-1][0].topic != one.topic or len(chunks[-1]) >= _CHUNK:
            chunks.append([])
        chunks[-1].append(record)
    return chunks


def cases_of(run: Run, most: int) -> list[Case]:
    """Return the cases, fed with what a capture makes of itself on its way through ingestion and experts."""
    assert run.capture is not None
    feed = ShardCore(feed_hosting(run), run.capture.name, None, _CODEC, 1)
    steps = FeedSteps(feed, next(iter(run.instruments)), live=False)
    for record in run.capture.records(0):
        steps.take(record, record.position, 1)
        if len(feed.outgoing) >= most:
            break
    market = chunked(feed.outgoing, [MARKET_EVENT.name])
    experts = stage_hosting(run, "", "experts")
    core = ShardCore(experts, f"{MARKET_EVENT.name}/0", 0, _CODEC, 1)
    for chunk in market:
        for raw in chunk:
            core.take(raw)
    votes = chunked(core.outgoing, [FEATURE_SNAPSHOT.name, EXPERT_VOTE.name])
    voting = stage_hosting(run, "", "voting")
    alone = replace(experts, make_stage=PassOn)
    return [
        Case("engine alone", alone, lambda metrics: observed(run, alone, metrics, VenueTimes()), market),
        Case("experts", experts, lambda metrics: observed(run, experts, metrics, VenueTimes()), market),
        Case("voting", voting, lambda metrics: observed(run, voting, metrics, VenueTimes()), votes),
    ]


@dataclass(frozen=True)
class Pass:
    """What one pass took: CPU seconds, batches, and memory blocks that were still held after it, per batch."""

    cpu_s: float
    batches: int
    blocks_per_batch: float


def run_pass(case: Case, *, told: bool) -> Pass:
    """Feed a case once, with its metrics told and scraped or without any."""
    return asyncio.run(_pass(case, told=told))


async def _pass(case: Case, *, told: bool) -> Pass:
    metrics = Metrics(case.hosting.name, [case.hosting.name])
    hosting = case.watched(metrics) if told else case.hosting
    flow = Flow(on_capture=True)
    key = "0" if hosting.kind is StageKind.OUTBOX else f"{MARKET_EVENT.name}/0"
    core = ShardCore(hosting, key, 0, _CODEC, 1)
    core.flow = flow
    store, sender = cast(PatientStore, NoStore()), Sender(SimpleNamespace(producer=NoBroker()), flow)
    shard: OneTopicShard | OutboxShard
    if hosting.kind is StageKind.OUTBOX:
        shard = OutboxShard(core, store, _FACTS, sender, 100)
    else:
        shard = OneTopicShard(core, store, _FACTS, sender, 3600.0)
    teller = Teller(metrics, Health(), flow)
    around = [asyncio.ensure_future(shard.run())] if isinstance(shard, OutboxShard) else []
    if told:
        standing = Told({(hosting.name, key): shard}, True, 1)
        around += [asyncio.ensure_future(teller.run(lambda: standing)), asyncio.ensure_future(teller.beat())]
        around.append(asyncio.ensure_future(_scrape(teller)))
    gc.collect()
    blocks, began_s = sys.getallocatedblocks(), time.process_time()
    for chunk in case.chunks:
        await shard.offer(chunk)
        await asyncio.sleep(0)
    while core.counters.records < case.events:
        await asyncio.sleep(0.001)
    cpu_s = time.process_time() - began_s
    batches = max(1, core.counters.batches)
    held = sys.getallocatedblocks() - blocks
    for task in around:
        task.cancel()
    await asyncio.gather(*around, return_exceptions=True)
    return Pass(cpu_s, batches, held / batches)


async def _scrape(teller: Teller) -> None:
    while True:
        teller.before_scrape()
        await asyncio.to_thread(teller.metrics.exposition)
        await asyncio.sleep(_SCRAPE_S)


def compare(case: Case, pairs: int) -> tuple[float, list[Pass], list[Pass]]:
    """Return by which share metrics make a record dearer, the median over pairs, and all passes without and with."""
    without, with_metrics, shares = [], [], []
    run_pass(case, told=True)
    for number in range(pairs):
        # Whoever goes second finds a warmer machine: they take turns at that, too.
        for told in (False, True) if number % 2 else (True, False):
            (with_metrics if told else without).append(run_pass(case, told=told))
        shares.append(with_metrics[-1].cpu_s / without[-1].cpu_s - 1)
    return statistics.median(shares), without, with_metrics


def main() -> int:
    """Print what each case costs with metrics and without; 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", nargs="?", type=Path, default=CAPTURE)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--events", type=int, default=60_000, help="market events of the capture")
    options = parser.parse_args()
    with suppress(AttributeError):
        gc.freeze()
    print(f"metrics_cost: {options.pairs} pairs of passes, aim below {AIM:.0%}; {describe()}\n")
    print(f"{'':14} {'records':>8} {'events/s off':>13} {'events/s on':>12} {'cost':>7} {'blocks/batch off, on':>22}")
    missed = False
    for case in cases_of(compose_run(options.capture, "baseline"), options.events):
        share, without, told = compare(case, options.pairs)
        off, on = (case.events / statistics.median(one.cpu_s for one in passes) for passes in (without, told))
        held = [statistics.median(one.blocks_per_batch for one in passes) for passes in (without, told)]
        print(f"{case.name:14} {case.events:8,} {off:13,.0f} {on:12,.0f} {share:7.2%} {held[0]:11.1f}, {held[1]:9.1f}")
        missed |= share >= AIM
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
