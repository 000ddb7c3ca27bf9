"""All stages on an in-memory log, each hosted by the engine's own shard, and crashed wherever the dice say.

What a worker does with Kafka and Postgres is done here with lists, in one process and without a clock: so a crash
can be put between any two steps, and the same input can be run with and without crashes. A crash between a commit
and its venue requests is left out, since then an order is rightly NOT_SENT: another input, not another output.
"""

import random
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from agents.sim.loopback import Loopback
from agents.sim.replay_engine import ReplayEngine
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import VenueTerms
from schemas.codec import Codec
from schemas.event import Event, Heartbeat, stamp_position
from schemas.feed import FeedRecord
from schemas.schema_table import SchemaTable
from schemas.topics import TOPICS
from schemas.values import NS_PER_MS
from streams.composition import Run
from streams.engine.lane import lane_of
from streams.engine.ports import Outgoing, RawRecord, StageHosting, StageKind
from streams.engine.shard import ShardCore
from streams.ingestion import FeedSteps, feed_hosting
from streams.launch import stage_hosting

CODEC = Codec(SchemaTable.committed())
STAGES = ("experts", "voting", "decider", "risk", "execution", "feedback")
_CHECKPOINT_EVERY = 16

Lane = tuple[str, int]


class Shard:
    """A stage on a partition with what a checkpoint would hold of it; ``reborn`` makes a new one from that alone."""

    def __init__(self, run: Run, hosting: StageHosting, name: str, partition: int | None, dice: random.Random) -> None:
        self._run, self._hosting, self._name, self._partition = run, hosting, name, partition
        self._dice = dice
        self._progress = b""
        self._state: dict[str, bytes] = {}
        self.crashes = 0
        self.core = self._new_core()

    def _new_core(self) -> ShardCore:
        partitions = self._run.settings.kafka.instrument_partitions
        return ShardCore(self._hosting, self._name, self._partition, CODEC, partitions)

    def checkpoint(self) -> None:
        """Keep what the engine writes: progress, and the keys that were touched."""
        self._progress = msgspec.msgpack.encode(self.core.progress)
        for key, value in self.core.touched_state().items():
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = value

    def reborn(self) -> None:
        """Forget everything but the checkpoint. Postgres gives rows back in any order."""
        self.crashes += 1
        keys = list(self._state)
        self._dice.shuffle(keys)
        self.core = self._new_core()
        self.core.restore(self._progress, {key: self._state[key] for key in keys}, 1)


class CrashingLine:
    """The platform behind a capture. ``crash_every``: a crash about every so many steps; 0 for none."""

    def __init__(self, run: Run, dice: random.Random, crash_every: int) -> None:
        self._run = run
        self._dice = dice
        self._crash_every = crash_every
        self.log: dict[Lane, list[RawRecord]] = {}
        self._queue: deque[RawRecord] = deque()
        self._readers: dict[Lane, list[Shard]] = {}
        self.shards: list[Shard] = []
        assert run.capture is not None
        self._feed = Shard(run, feed_hosting(run), run.capture.name, None, dice)
        self._since: dict[int, list[RawRecord]] = {}
        self._execution: Shard
        for name in STAGES:
            self._host(stage_hosting(run, "", name))
        terms = VenueTerms(instruments=run.instruments, name="SIM", seed=3, latency_ns=5 * NS_PER_MS)
        self._venue = Loopback(SimulatedVenue(terms, ReplayEngine({})))

    def _host(self, hosting: StageHosting) -> None:
        partitions = self._run.settings.kafka.instrument_partitions
        made: dict[str, Shard] = {}
        for topic in hosting.topics:
            for partition in range(topic.partitions(partitions)):
                one_topic = hosting.kind is StageKind.ONE_TOPIC
                name = lane_of(topic.name, partition) if one_topic else str(partition)
                if name not in made:
                    made[name] = Shard(self._run, hosting, name, partition, self._dice)
                self._readers.setdefault((topic.name, partition), []).append(made[name])
        self.shards += made.values()
        if hosting.name == "execution":
            self._execution = made["0"]

    def run(self, records: Sequence[FeedRecord]) -> None:
        """Run a capture through to the end; every record is followed to quiescence before the next."""
        start = 0
        while start < len(records):
            record = records[start]
            self._show_venue(record)
            FeedSteps(self._feed.core, next(iter(self._run.instruments)), live=False).take(record, record.position, 0)
            self._append(self._feed.core.drain()[0])
            start += 1
            if start % _CHECKPOINT_EVERY == 0:
                self._feed.checkpoint()
            if self._crashes():
                self._feed.reborn()
                self._read_again(records, start)
            self._settle()

    def _read_again(self, records: Sequence[FeedRecord], end: int) -> None:
        """A reborn feed begins at its checkpoint; the venue has seen those records already."""
        steps = FeedSteps(self._feed.core, next(iter(self._run.instruments)), live=False)
        for record in records[self._feed.core.progress.external : end]:
            steps.take(record, record.position, 0)
            self._append(self._feed.core.drain()[0])

    def _show_venue(self, record: FeedRecord) -> None:
        for event in record.events:
            for report in self._venue.advance(event.available_at_ns):
                self._step_outbox(self._execution, report)
            if type(event) is not Heartbeat:
                self._venue.on_market(event)
            self._settle()

    def _settle(self) -> None:
        while self._queue:
            record = self._queue.popleft()
            for shard in self._readers.get((record.topic, record.partition), ()):
                if shard.core.hosting.kind is StageKind.ONE_TOPIC:
                    self._step_one_topic(shard, record)
                else:
                    self._step_outbox(shard, record)

    def _step_one_topic(self, shard: Shard, record: RawRecord) -> None:
        since = self._since.setdefault(id(shard), [])
        since.append(record)
        shard.core.take(record)
        self._append(shard.core.drain()[0])
        if self._crashes():
            shard.reborn()
            for again in since:
                shard.core.take(again)
                self._append(shard.core.drain()[0])
        if len(since) >= _CHECKPOINT_EVERY:
            shard.checkpoint()
            since.clear()

    def _step_outbox(self, shard: Shard, item: RawRecord | Event) -> None:
        if self._crashes():
            # Stepped, but not committed: nobody has heard of it.
            _take(shard, item)
            shard.reborn()
        _take(shard, item)
        outgoing, requests, _ = shard.core.drain()
        shard.checkpoint()
        reports = [report for request in requests for report in self._venue.perform(request)]
        if self._crashes():
            # Committed, and sent in part: all of the outbox goes out again.
            self._append(outgoing[: self._dice.randint(0, len(outgoing))])
            shard.reborn()
        self._append(outgoing)
        for report in reports:
            self._step_outbox(shard, report)

    def _append(self, outgoing: Iterable[Outgoing]) -> None:
        for out in outgoing:
            lane = self.log.setdefault((out.topic, out.partition), [])
            record = RawRecord(out.topic, out.partition, len(lane), out.key, out.value, out.headers, 0)
            lane.append(record)
            self._queue.append(record)

    def _crashes(self) -> bool:
        return self._crash_every > 0 and self._dice.randrange(self._crash_every) == 0

    @property
    def crashes(self) -> int:
        """How often anything was crashed."""
        return self._feed.crashes + sum(shard.crashes for shard in self.shards)

    def taken(self) -> dict[Lane, list[bytes]]:
        """Return the bytes on every topic partition as a reader takes them: what comes twice is dropped.

        ``seq`` is left out: a one-topic stage numbers by its input's offsets, and a record that came twice has two.
        """
        taken: dict[Lane, list[bytes]] = {}
        for lane, records in self.log.items():
            assert lane[0] in TOPICS, f"a dead letter: {records[0]}"
            seen: dict[str, tuple[int, int]] = {}
            for record in records:
                event: Event = CODEC.decode(record.topic, record.value, record.headers)
                if (event.generation, event.seq) > seen.get(event.source, (0, -1)):
                    seen[event.source] = (event.generation, event.seq)
                    assert record.key == event.key.encode()
                    stamp_position(event, event.source, event.generation, 0)
                    taken.setdefault(lane, []).append(CODEC.encode(record.topic, event))
        return taken


def _take(shard: Shard, item: RawRecord | Event) -> None:
    if isinstance(item, RawRecord):
        shard.core.take(item)
    else:
        shard.core.take_event(item)
