"""The ingestion worker: a feed's records through the ingestion stage, and public records through the ingress stages.

A capture is a one-topic stage whose input is a file: re-run from its checkpoint, it gives the same bytes under the
same numbers. A live connection cannot be re-run: each is a new generation, written down before anything is sent.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from msgspec.structs import force_setattr

from infra.feeds import FeedFailed
from infra.feeds.capture import first_records
from infra.feeds.pacing import Hold, PacedCapture
from infra.postgres.checkpoints import reached_times_ns
from infra.postgres.session import KeptSession
from schemas.event import ORDINALS_PER_OFFSET, WALL_CLOCK, Event, Heartbeat, derive_id
from schemas.feed import FeedRecord
from schemas.ingress import IngressEnvelope, IngressRecord
from schemas.market import Quality, QualityKind
from schemas.topics import TOPICS
from schemas.values import NS_PER_MS, NS_PER_S
from streams.composition import Run, build_stage
from streams.engine.observing import Observer
from streams.engine.one_topic import OneTopicShard
from streams.engine.ports import RawRecord, ShardOpener, StageHosting, StageKind, WorkerFailed
from streams.engine.shard import ShardCore

MONEY_STAGES: Final = ("decider", "risk", "execution", "feedback")
_PENDING_RECORDS: Final = 512
_HEARTBEAT_S: Final = 0.1
_HEARTBEAT_KEY: Final = "market.event"


class LiveFeed(Protocol):
    """A feed that connects: its generation rises with every connection."""

    generation: int

    def records(self) -> AsyncIterator[FeedRecord]:
        """Yield records until closed."""

    async def request_snapshot(self, instrument: str) -> bool:
        """Ask for a fresh book; return whether it was asked for."""

    async def close(self) -> None:
        """End."""


def ingress_hostings(run: Run, observer: Observer | None = None) -> list[StageHosting]:
    """Return one hosting per public topic: each is a one-topic stage of its own."""
    return [
        StageHosting(
            make_stage=lambda: build_stage(run, "ingress"),
            name=f"ingress.{topic.name.split('.')[2]}",
            topics=(topic,),
            kind=StageKind.ONE_TOPIC,
            wrap=_envelope,
            observer=observer,
        )
        for topic in TOPICS.values()
        if topic.public
    ]


def _envelope(record: RawRecord, decoded: Any) -> Event:
    """Make an event of a public record; its receipt is the time stamp that Kafka keeps with it."""
    public: IngressRecord = decoded
    return IngressEnvelope(
        key=public.instrument,
        event_time_ns=public.event_time_ns,
        available_at_ns=record.timestamp_ms * NS_PER_MS,
        event_id=f"{record.topic}|{public.event_id}",
        record=public,
    )


class FeedSteps:
    """How a feed's records are stepped and numbered: the same in a worker and in the recomputation of a capture."""

    def __init__(self, core: ShardCore, instrument: str, *, live: bool) -> None:
        self._core = core
        self._instrument = instrument
        self._live = live

    def take(self, record: FeedRecord, number: int, now_ns: int) -> list[str]:
        """Step one record as the ``number``-th of its generation; return the instruments that need a whole book."""
        core = self._core
        events = record.events
        if record.refused is not None:
            events = (*events, self._refusal(record, now_ns))
            core.counters.feed_refused += 1
        base = number * ORDINALS_PER_OFFSET
        cause = f"{core.source}/{core.generation}/{record.position}"
        asked: list[str] = []
        for ordinal, event in enumerate(events):
            force_setattr(event, "event_id", derive_id(cause, "feed", ordinal))
            outputs = core.take_event(event, now_ns, base)
            base += len(outputs)
            for output in outputs:
                if type(output) is Quality and output.kind is QualityKind.SNAPSHOT_REQUESTED:
                    asked.append(output.key)
        core.counters.feed_records += 1
        core.progress.external = record.position + 1
        return asked

    def beat(self, now_ns: int, clock: str, number: int) -> None:
        """Step the time itself, as the ``number``-th record of its generation."""
        core = self._core
        cause = f"{core.source}/{core.generation}/beat/{now_ns}"
        beat = Heartbeat(
            key=_HEARTBEAT_KEY,
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id=derive_id(cause, "feed", 0),
            clock=clock,
        )
        # An order of a ballot that the time itself has closed is as late as any other, and must not go uncounted.
        core.take_event(beat, now_ns if clock == WALL_CLOCK else 0, number * ORDINALS_PER_OFFSET)

    def close(self) -> None:
        """Step the end of a capture: nothing more comes."""
        self.beat(max(self._core.reached_ns, 1), "closing", self._core.progress.external)

    def _refusal(self, record: FeedRecord, now_ns: int) -> Quality:
        at_ns = record.events[-1].available_at_ns if record.events else max(self._core.reached_ns, 1)
        return Quality(
            key=self._instrument,
            event_time_ns=at_ns,
            available_at_ns=now_ns if self._live else at_ns,
            kind=QualityKind.REFUSED,
            detail=f"message {record.position}: {record.refused}",
        )


def feed_hosting(run: Run, observer: Observer | None = None) -> StageHosting:
    """Return how the shard of a feed is hosted: its input is no topic."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "ingestion"),
        name="ingestion",
        topics=(),
        kind=StageKind.ONE_TOPIC,
        observer=observer,
    )


class FeedResident:
    """Lives in the ingestion worker: reads the feed, steps the stage, sends in batches, keeps the place."""

    def __init__(self, run: Run, feed: "PacedCapture | LiveFeed", name: str, observer: Observer | None = None) -> None:
        self._run = run
        self._observer = observer
        self._feed = feed
        self._name = name
        self._live = not isinstance(feed, PacedCapture)
        self._pending: asyncio.Queue[FeedRecord | None] = asyncio.Queue(_PENDING_RECORDS)
        self._shard: OneTopicShard
        self._steps: FeedSteps
        self._live_numbers = 0
        self._beat_at = 0.0

    async def run(self, worker: ShardOpener) -> None:
        """Feed until the capture ends, or for ever."""
        shard = await worker.open_shard(feed_hosting(self._run, self._observer), self._name, None)
        assert isinstance(shard, OneTopicShard)
        self._shard = shard
        self._steps = FeedSteps(shard.core, next(iter(self._run.instruments)), live=self._live)
        if self._live:
            await self._new_generation()
        pump = asyncio.ensure_future(self._pump(shard.core.progress.external))
        try:
            await self._consume(pump)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, start: int) -> None:
        feed = self._feed
        records = feed.records(start) if isinstance(feed, PacedCapture) else feed.records()
        try:
            async for record in records:
                await self._pending.put(record)
        except FeedFailed as error:
            raise WorkerFailed(str(error), 2) from error
        await self._pending.put(None)

    async def _consume(self, pump: "asyncio.Future[None]") -> None:
        while True:
            batch = await self._next_batch(pump)
            for record in batch:
                if record is None:
                    await self._close_capture()
                    return
                await self._take(record)
            if self._live:
                self._beat()
            await self._shard.flush()

    async def _next_batch(self, pump: "asyncio.Future[None]") -> list[FeedRecord | None]:
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                batch = [await self._pending.get()]
        except TimeoutError:
            if pump.done():
                pump.result()
            return []
        while not self._pending.empty():
            batch.append(self._pending.get_nowait())
        return batch

    async def _take(self, record: FeedRecord) -> None:
        # The record itself tells where a connection begins: the feed may be a connection ahead of what waits here.
        if self._live and any(type(event) is Quality and event.kind is QualityKind.RESYNC for event in record.events):
            await self._new_generation()
        number = self._live_numbers if self._live else record.position
        asked = self._steps.take(record, number, self._shard.core.hosting.now_ns())
        self._live_numbers += 1
        for instrument in asked:
            self._ask_snapshot(instrument)

    def _ask_snapshot(self, instrument: str) -> None:
        feed = self._feed
        if not isinstance(feed, PacedCapture):
            # Not awaited: the answer comes as a record of the feed, and the tick must not wait for the question.
            self._asking = asyncio.ensure_future(feed.request_snapshot(instrument))

    def _beat(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._beat_at >= _HEARTBEAT_S:
            self._beat_at = now_s
            self._steps.beat(self._shard.core.hosting.now_ns(), WALL_CLOCK, self._live_numbers)
            self._live_numbers += 1

    async def _new_generation(self) -> None:
        """Begin a connection: its generation is on disk before anything carries it."""
        await self._shard.flush()
        self._shard.core.generation += 1
        self._live_numbers = 0
        await self._shard.checkpoint(always=True)

    async def _close_capture(self) -> None:
        """Tell the stage that nothing more comes, send what is left, and say so."""
        self._steps.close()
        self._shard.core.counters.feed_finished = True
        await self._shard.flush()
        await self._shard.checkpoint(always=True)


def hold_for(run: Run, dsn: str) -> Hold:
    """Return what holds a capture at most half the tightest staleness limit ahead of the slowest money stage."""
    assert run.capture is not None
    first = first_records(run.capture, 1)
    # Before its first mark a stage has no time at all; a head start of one second brings the first marks to all.
    start_ns = (first[0].events[-1].available_at_ns if first and first[0].events else 0) + NS_PER_S

    session = KeptSession(dsn)

    async def slowest() -> int:
        reached = await reached_times_ns(session, MONEY_STAGES)
        return max(start_ns, min(reached.get(stage, 0) for stage in MONEY_STAGES))

    staleness = run.settings.staleness
    tightest_ms = min(staleness.mark_ms, staleness.market_ms, staleness.decision_ms)
    return Hold(slowest, tightest_ms * NS_PER_MS // 2)
