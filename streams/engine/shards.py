"""The shards that a worker holds: claimed, checked against this run, let go of in order."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from faust.types import TP

from infra.postgres.checkpoints import ShardStore
from infra.postgres.patient_store import Checkpoint, PatientStore, RunFacts, ShardName
from streams.engine.flow import Flow
from streams.engine.former_version import is_other_version, silence_former_outputs, tell_change
from streams.engine.handler import HandlerShard
from streams.engine.lane import lane_of
from streams.engine.letter_desk import LetterDesk
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings, StageHosting, StageKind, WorkerFailed
from streams.engine.rewind import Cleared, Hosted
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.engine.snapshots import SnapshotPlan, snapshot_hours
from streams.engine.watchdog import Held

_CLOSE_S: Final = 5.0

Shard = OutboxShard | OneTopicShard | HandlerShard
Start = Callable[[Awaitable[None]], "asyncio.Task[None]"]
OpenStore = Callable[[str, ShardName, bool], PatientStore]


def postgres_store(dsn: str, name: ShardName, durable: bool) -> PatientStore:
    """Return the store of a shard in Postgres."""
    return ShardStore(dsn, name, durable=durable)


def shard_key(hosting: StageHosting, topic: str, partition: int) -> str:
    """Return the name of the shard that reads a topic partition."""
    return str(partition) if hosting.kind is StageKind.OUTBOX else lane_of(topic, partition)


class Shards:
    """All shards of one worker. ``start`` runs a shard's work so that its failure ends the worker."""

    def __init__(
        self,
        engine: EngineSettings,
        hostings: Sequence[StageHosting],
        holder: str,
        start: Start,
        open_store: OpenStore = postgres_store,
        *,
        desk: LetterDesk | None = None,
    ) -> None:
        self.running: dict[tuple[str, str], Shard] = {}
        self.assigned: frozenset[TP] = frozenset()
        self.facts: RunFacts
        self.sender: Sender
        self.cleared: Mapping[tuple[str, str], Cleared] = {}
        self._engine = engine
        self._hostings = {hosting.name: hosting for hosting in hostings}
        self._holder = holder
        self._start = start
        self._open_store = open_store
        self._desk = desk
        self.flow = Flow()
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def open(self, hosting: StageHosting, key: str, partition: int | None) -> Shard:
        """Claim a shard, check its checkpoint against this run, and start it. Raises WorkerFailed."""
        engine = self._engine
        core = ShardCore(hosting, key, partition, engine.codec, engine.instrument_partitions)
        core.flow = self.flow
        core.refuser = replace(core.refuser, code_version=engine.code_version)
        durable = hosting.kind is StageKind.OUTBOX
        # A feed's generation must be on disk before anything carries it: a power cut must not give it out twice.
        name = ShardName(hosting.name, key, self._holder)
        store = self._open_store(engine.dsn, name, durable or not hosting.topics)
        checkpoint = await store.claim(self.facts)
        _check_cluster(checkpoint, self.facts, core.source)
        shard: Shard
        if durable:
            shard = OutboxShard(core, store, self.facts, self.sender, engine.heartbeat_interval_ms)
        else:
            shard = OneTopicShard(core, store, self.facts, self.sender, engine.checkpoint_interval_s)
        shard.snapshots = SnapshotPlan(engine.snapshot_interval_s, snapshot_hours(hosting))
        await shard.take_up(checkpoint)
        if (cleared := self.cleared.get((hosting.name, key))) is not None:
            core.progress.output_ends |= cleared.output_ends
            core.progress.topic_ids |= cleared.topic_ids
        if not durable and partition is not None and is_other_version(checkpoint, self.facts):
            await asyncio.to_thread(silence_former_outputs, core, partition, engine)
            tell_change(core, checkpoint, self.facts)
        if self._desk is not None and partition is not None:
            # What people have ordered about records is there before the first of them is.
            await self._desk.brief(shard, partition)
        self._run(hosting, key, shard)
        return shard

    def open_handler(self, hosting: StageHosting, tp: TP, committed: int | None) -> None:
        """Start a handler where Kafka's committed offset stands: it moves only after the handler has returned."""
        assert hosting.handle is not None
        key = lane_of(tp.topic, tp.partition)
        shard = HandlerShard(hosting, key, committed, self.sender, self._desk)
        shard.core.flow = self.flow
        self._run(hosting, key, shard)

    def _run(self, hosting: StageHosting, key: str, shard: Shard) -> None:
        self.running[hosting.name, key] = shard
        work = shard.run
        if self._desk is not None and isinstance(shard, OutboxShard | OneTopicShard) and hosting.topics:
            work = partial(self._desk.serve, shard)
        self._tasks[hosting.name, key] = self._start(work())

    async def let_go(self, *, standalone: bool = False) -> None:
        """End every Kafka-fed shard (all with ``standalone``): what is under way is finished, or happens again.

        A one-topic shard writes its last checkpoint; a database that is away costs only that. Raises ShardLost.
        """
        keys = [key for key in self.running if standalone or self._hostings_topics(key[0])]
        closing = [self._close(self.running.pop(key), self._tasks.pop(key)) for key in keys]
        await asyncio.gather(*closing)
        if standalone and self._desk is not None:
            await self._desk.close()

    def _hostings_topics(self, name: str) -> bool:
        return name in self._hostings and bool(self._hostings[name].topics)

    async def _close(self, shard: Shard, task: "asyncio.Task[None]") -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if isinstance(shard, OneTopicShard):
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await shard.close()
            except TimeoutError:
                return

    def committed_offsets(self) -> Mapping[TP, int]:
        """Return what every checkpoint has passed, for Kafka's group offsets, which decide nothing."""
        lowest: dict[TP, int] = {}
        for shard in self.running.values():
            for lane, offset in shard.committed_offsets.items():
                topic, _, partition = lane.rpartition("/")
                tp = TP(topic, int(partition))
                lowest[tp] = min(offset, lowest.get(tp, offset))
        return lowest

    def held(self) -> list[Held]:
        """Return (shard, topic partition, next offset to step or None) for all that is assigned."""
        return [
            ((name, key), (tp.topic, tp.partition), shard.core.next_offset(tp.topic, tp.partition))
            for tp in self.assigned
            for (name, key), shard in self.running.items()
            if self._reads(name, key, tp)
        ]

    def due(self) -> int:
        """Return how many shards the assignment asks for."""
        wanted = hosted_partitions(self._hostings, self.assigned)
        return len({(hosting.name, shard_key(hosting, tp.topic, tp.partition)) for hosting, tp in wanted})

    def target(self, tp: TP, start: int, end: int) -> int:
        """Return where to read on: the lowest checkpoint of the stages on it. Raises WorkerFailed outside the log."""
        offsets = [
            shard.core.next_offset(tp.topic, tp.partition)
            for (name, key), shard in self.running.items()
            if self._reads(name, key, tp)
        ]
        # A stage that has read nothing of the topic yet begins with the log, however far its neighbours are.
        target = min((start if offset is None else offset for offset in offsets), default=start)
        if not start <= target <= end:
            raise WorkerFailed(
                f"The checkpoint stands at offset {target} of {tp.topic}/{tp.partition}, but the log holds {start} to"
                f" {end}: records are missing. Point the run at the right broker or begin anew with an empty database.",
                2,
            )
        return target

    def _reads(self, name: str, key: str, tp: TP) -> bool:
        hosting = self._hostings.get(name)
        return (
            hosting is not None
            and tp.topic in hosting.topic_names()
            and key == shard_key(hosting, tp.topic, tp.partition)
        )


def _check_cluster(checkpoint: Checkpoint, facts: RunFacts, source: str) -> None:
    if not checkpoint.fresh and checkpoint.cluster_id != facts.cluster_id:
        raise WorkerFailed(
            f"The checkpoint of {source} was made on Kafka cluster {checkpoint.cluster_id}, but this broker is cluster"
            f" {facts.cluster_id}: point the run at the right broker or begin anew with an empty database.",
            2,
        )


def hosted_partitions(hostings: Mapping[str, StageHosting], assignment: frozenset[TP]) -> list[tuple[StageHosting, TP]]:
    """Return (hosting, topic partition) for everything that an assignment gives to the stages, in a fixed order."""
    return [
        (hosting, tp) for hosting in hostings.values() for tp in sorted(assignment) if tp.topic in hosting.topic_names()
    ]


def to_be_claimed(hostings: Mapping[str, StageHosting], assignment: frozenset[TP]) -> list[Hosted]:
    """Return the shards that an assignment gives to the stages, each with what it reads. A handler has none."""
    inputs: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for hosting, tp in hosted_partitions(hostings, assignment):
        if hosting.kind is not StageKind.HANDLER:
            key = shard_key(hosting, tp.topic, tp.partition)
            inputs.setdefault((hosting.name, key), []).append((tp.topic, tp.partition))
    return [Hosted(hostings[name], key, tuple(slots)) for (name, key), slots in inputs.items()]
