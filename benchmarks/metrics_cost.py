"""What the metrics cost on the hot path: ``python -m benchmarks.metrics_cost``, or ``make bench-metrics``.

The same records through two shards of the same stage, one with everything that its metrics gather and one with nothing,
chunk by chunk in turns within one process, so that whatever else the machine does hits both alike. Added up are what
the records themselves cost more, with a bootstrap interval over the pairs of chunks, and the two things that go by the
clock: telling once a second and a scrape every five seconds, as shares of a core that is busy. The aim is held against
the interval's upper end. A stage without an observer does the same in both: what it shows is how much is noise.
Kafka and Postgres are left out: with them a record costs more, and the same metrics are a smaller share of it.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np

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
PASSES: Final = 9
_RESAMPLES: Final = 2_000
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


class Arm:
    """One stage that is fed, with everything that its metrics gather or with nothing."""

    def __init__(self, case: Case, *, told: bool) -> None:
        self.metrics = Metrics(case.hosting.name, [case.hosting.name])
        hosting = case.watched(self.metrics) if told else case.hosting
        self.flow = Flow(on_capture=True)
        key = "0" if hosting.kind is StageKind.OUTBOX else f"{MARKET_EVENT.name}/0"
        self.core = ShardCore(hosting, key, 0, _CODEC, 1)
        self.core.flow = self.flow
        store, sender = cast(PatientStore, NoStore()), Sender(SimpleNamespace(producer=NoBroker()), self.flow)
        self.shard: OneTopicShard | OutboxShard
        if hosting.kind is StageKind.OUTBOX:
            self.shard = OutboxShard(self.core, store, _FACTS, sender, 100)
        else:
            self.shard = OneTopicShard(self.core, store, _FACTS, sender, 3600.0)
        self.standing = Told({(hosting.name, key): self.shard}, True, 1)

    async def feed(self, chunk: list[RawRecord]) -> float:
        """Return the CPU seconds that a chunk took until all of it had been stepped."""
        wanted, began_s = self.core.counters.records + len(chunk), time.process_time()
        await self.shard.offer(chunk)
        while self.core.counters.records < wanted:
            await asyncio.sleep(0)
        return time.process_time() - began_s


@asynccontextmanager
async def running(arms: Sequence[Arm]) -> AsyncIterator[None]:
    """Let the arms' shards do what they do by themselves, and begin without garbage."""
    tasks = [asyncio.ensure_future(arm.shard.run()) for arm in arms if isinstance(arm.shard, OutboxShard)]
    gc.collect()
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class Pass:
    """CPU seconds of each chunk without metrics and with them, and of one telling and one scrape at the end."""

    chunks: list[tuple[float, float]]
    tell_s: float
    scrape_s: float


def run_pass(case: Case, first: int) -> Pass:
    """Feed both arms the same chunks, one after the other; who begins changes with every chunk, from ``first`` on."""
    return asyncio.run(_pass(case, first))


async def _pass(case: Case, first: int) -> Pass:
    arms = [Arm(case, told=told) for told in (False, True)]
    chunks: list[tuple[float, float]] = []
    async with running(arms):
        for number, chunk in enumerate(case.chunks, first):
            took_s = [0.0, 0.0]
            for place in (number % 2, 1 - number % 2):
                took_s[place] = await arms[place].feed(chunk)
            chunks.append((took_s[0], took_s[1]))
        tell_s, scrape_s = _now_and_then(Teller(arms[1].metrics, Health(), arms[1].flow), arms[1].standing)
    return Pass(chunks, tell_s, scrape_s)


def _now_and_then(teller: Teller, standing: Told) -> tuple[float, float]:
    """Return CPU seconds of the first telling, which has a whole pass to tell of, and of a scrape after it."""
    began_s = time.process_time()
    teller.tell(standing)
    told_s = time.process_time()
    for _ in range(_SCRAPES):
        teller.before_scrape()
        teller.metrics.exposition()
    return told_s - began_s, (time.process_time() - told_s) / _SCRAPES


def blocks_per_batch(case: Case, *, told: bool) -> float:
    """Return the memory blocks that are still held after the records, per batch."""

    async def feed() -> float:
        arm = Arm(case, told=told)
        async with running([arm]):
            blocks = sys.getallocatedblocks()
            for chunk in case.chunks:
                await arm.feed(chunk)
            return (sys.getallocatedblocks() - blocks) / max(1, arm.core.counters.batches)

    return asyncio.run(feed())


@dataclass(frozen=True)
class Cost:
    """What metrics cost a case: shares of the records' CPU.

    ``records``: by the records themselves, with its 95 % interval ``low`` to ``high``; ``telling`` every second and
    ``scraping`` every five.
    """

    records: float
    low: float
    high: float
    telling: float
    scraping: float

    @property
    def by_clock(self) -> float:
        """What goes by the clock."""
        return self.telling + self.scraping


def compare(case: Case, passes: int) -> tuple[Cost, float]:
    """Return what metrics cost, and the CPU seconds of a record without them."""
    run_pass(case, 0)
    made = [run_pass(case, number) for number in range(passes)]
    pairs = np.array([pair for one in made for pair in one.chunks])
    drawn = np.random.default_rng(7).integers(0, len(pairs), (_RESAMPLES, len(pairs)))
    sums = pairs[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 1] / sums[:, 0] - 1, (0.025, 0.975))
    without_s, with_s = pairs.sum(axis=0)
    # A pass lasts about as long as its CPU time: so many seconds' worth of tellings were one here.
    telling = statistics.median(one.tell_s / max(1.0, sum(with_s for _, with_s in one.chunks)) for one in made)
    scraping = statistics.median(one.scrape_s for one in made) / SCRAPE_EVERY_S
    cost = Cost(float(with_s / without_s - 1), float(low), float(high), telling, scraping)
    return cost, float(without_s / (passes * case.events))


def main() -> int:
    """Print what each case costs with metrics and without; 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", nargs="?", type=Path, default=CAPTURE)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--events", type=int, default=60_000, help="market events of the capture")
    options = parser.parse_args()
    gc.freeze()
    print(f"metrics_cost: {options.passes} passes of both in turns, aim below {AIM:.0%}; {describe()}\n")
    print(f"{'':13} {'records':>8} {'per s':>8} {'by records (95 %)':>24} {'telling':>8} {'scrapes':>8} {'cost':>7}")
    missed = False
    for case in cases_of(compose_run(options.capture, "baseline"), options.events):
        cost, record_s = compare(case, options.passes)
        held = [blocks_per_batch(case, told=told) for told in (False, True)]
        share = f"{cost.records:7.2%} ({cost.low:.2%} to {cost.high:.2%})"
        rest = f"{cost.telling:8.2%} {cost.scraping:8.2%} {cost.records + cost.by_clock:7.2%}"
        print(f"{case.name:13} {case.events:8,} {1 / record_s:8,.0f} {share:>24} {rest}")
        print(f"{'':13} memory blocks held after a batch: {held[0]:.1f} off, {held[1]:.1f} on")
        missed |= cost.high + cost.by_clock >= AIM
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
