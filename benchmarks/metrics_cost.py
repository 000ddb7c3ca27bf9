"""What the metrics cost on the hot path: ``python -m benchmarks.metrics_cost``, or ``make bench-metrics``.

The same records through the same shards, with the metrics told and scraped and without, in turns within one process, so
that whatever else the machine does hits both alike. Added up are what the records themselves cost more, and the two
things that go by the clock: telling once a second and a scrape every five seconds, as shares of a core that is busy.
Kafka and Postgres are left out: with them a record costs more, and the same metrics are a smaller share of it.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
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
_SCRAPES: Final = 5
SCRAPE_EVERY_S: Final = 5.0
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
    """What one pass took: CPU seconds for its records, and for one telling and one scrape at its end.

    ``blocks_per_batch``: memory blocks that were still held after it, per batch.
    """

    cpu_s: float
    tell_s: float
    scrape_s: float
    blocks_per_batch: float


def run_pass(case: Case, *, told: bool) -> Pass:
    """Feed a case once, with everything that its metrics gather or with nothing."""
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
    standing = Told({(hosting.name, key): shard}, True, 1)
    running = [asyncio.ensure_future(shard.run())] if isinstance(shard, OutboxShard) else []
    gc.collect()
    blocks, began_s = sys.getallocatedblocks(), time.process_time()
    for chunk in case.chunks:
        await shard.offer(chunk)
        await asyncio.sleep(0)
    while core.counters.records < case.events:
        await asyncio.sleep(0.001)
    cpu_s = time.process_time() - began_s
    held = (sys.getallocatedblocks() - blocks) / max(1, core.counters.batches)
    tell_s, scrape_s = _now_and_then(teller, standing) if told else (0.0, 0.0)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return Pass(cpu_s, tell_s, scrape_s, held)


def _now_and_then(teller: Teller, standing: Told) -> tuple[float, float]:
    """Return CPU seconds of the first telling, which has a whole pass to tell of, and of a scrape after it."""
    began_s = time.process_time()
    teller.tell(standing)
    told_s = time.process_time()
    for _ in range(_SCRAPES):
        teller.before_scrape()
        teller.metrics.exposition()
    return told_s - began_s, (time.process_time() - told_s) / _SCRAPES


@dataclass(frozen=True)
class Cost:
    """What metrics cost a case: the share of the records' CPU, and that of telling every second and scraping."""

    records: float
    telling: float
    scraping: float

    @property
    def whole(self) -> float:
        """All of it, at full load."""
        return self.records + self.telling + self.scraping


def compare(case: Case, pairs: int) -> tuple[Cost, list[Pass], list[Pass]]:
    """Return what metrics cost, by the best passes of both kinds, and all passes without and with."""
    without, told = [], []
    run_pass(case, told=True)
    for number in range(pairs):
        # Whoever goes second finds a warmer machine: they take turns at that, too.
        for with_metrics in (False, True) if number % 2 else (True, False):
            (told if with_metrics else without).append(run_pass(case, told=with_metrics))
    # The least of each: whatever else the machine does can only make a pass dearer.
    dearer = min(one.cpu_s for one in told) / min(one.cpu_s for one in without) - 1
    # A pass lasts about as long as its CPU time: so many seconds' worth of tellings were one here.
    telling = statistics.median(one.tell_s / max(1.0, one.cpu_s) for one in told)
    scraping = statistics.median(one.scrape_s for one in told) / SCRAPE_EVERY_S
    return Cost(dearer, telling, scraping), without, told


def main() -> int:
    """Print what each case costs with metrics and without; 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", nargs="?", type=Path, default=CAPTURE)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--events", type=int, default=60_000, help="market events of the capture")
    options = parser.parse_args()
    gc.freeze()
    print(f"metrics_cost: {options.pairs} pairs of passes, aim below {AIM:.0%}; {describe()}\n")
    print(
        f"{'':13} {'records':>8} {'per s off':>10} {'on':>9} {'records':>8} {'telling':>8} {'scrapes':>8} {'cost':>7}"
    )
    missed = False
    for case in cases_of(compose_run(options.capture, "baseline"), options.events):
        cost, without, told = compare(case, options.pairs)
        off, on = (case.events / min(one.cpu_s for one in passes) for passes in (without, told))
        held = [statistics.median(one.blocks_per_batch for one in passes) for passes in (without, told)]
        shares = f"{cost.records:8.2%} {cost.telling:8.2%} {cost.scraping:8.2%} {cost.whole:7.2%}"
        print(f"{case.name:13} {case.events:8,} {off:10,.0f} {on:9,.0f} {shares}")
        print(f"{'':13} memory blocks held after a batch: {held[0]:.1f} off, {held[1]:.1f} on")
        missed |= cost.whole >= AIM
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
