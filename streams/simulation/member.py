"""A worker process of the simulation: what ``streams/engine/worker.py`` does around the shards, without Faust.

The shards, their stores' patience and their senders are the engine's own. Here are only the claims at an
assignment, the letting go at a revocation, the fetching, and the end of the process at the first failure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final

from faust.types import TP

from infra.postgres.patient_store import DatabaseGone, PatientStore, RunFacts, ShardLost, ShardName
from schemas.codec import Codec
from schemas.schema_table import SchemaTable
from streams.engine.ports import EngineSettings, StageHosting, WorkerFailed
from streams.engine.sending import Sender
from streams.engine.shards import Shard, Shards, hosted_partitions, shard_key
from streams.simulation.faults import Dice
from streams.simulation.log import SimulatedLog, SimulatedProducer
from streams.simulation.process import SimulatedProcess
from streams.simulation.virtual_time import VirtualLoop

FACTS: Final = RunFacts("simulated", "1", "1")
CODEC: Final = Codec(SchemaTable.committed())
_FETCH_S: Final = (0.0005, 0.006)
_SLOW_FETCH_S: Final = (0.05, 0.5)
_CHUNK_MOST: Final = 40
_SEEK_BOUND_S: Final = 20.0
_NOTICE_S: Final = (0.05, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a process finds: time, log, dice, and how it reaches database and log."""

    loop: VirtualLoop
    log: SimulatedLog
    dice: Dice
    open_store: Callable[[ShardName, SimulatedProcess], PatientStore]
    open_producer: Callable[[SimulatedProcess], SimulatedProducer]
    failed: Callable[["Member", Exception], None]


class Member:
    """One process of one worker. It is told its assignments, and dies by ``process.kill``."""

    def __init__(
        self, around: Surroundings, engine: EngineSettings, process: SimulatedProcess, hostings: Sequence[StageHosting]
    ) -> None:
        self.process = process
        self.producer = around.open_producer(process)
        self._around = around
        now_ns = around.loop.now_ns
        self._hostings = {hosting.name: replace(hosting, now_ns=now_ns) for hosting in hostings}
        self.shards = Shards(engine, list(self._hostings.values()), process.name, self._start, self._open_store)
        self.shards.facts = FACTS
        self.shards.sender = Sender(SimpleNamespace(producer=self.producer))
        self._number = 0
        self._assigning = asyncio.Lock()

    def _open_store(self, dsn: str, name: ShardName, durable: bool) -> PatientStore:
        del dsn, durable
        return self._around.open_store(name, self.process)

    def _start(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        task = self.process.spawn(self.guard(work))
        if isinstance(work, Coroutine):
            # Of a process that is killed before some work of it has begun, nobody ever begins it.
            task.add_done_callback(lambda _: work.close())
        return task

    async def guard(self, work: Awaitable[None]) -> None:
        """Do some work of the process, whose failure ends it."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not self.process.dead:
                self._around.failed(self, error)

    async def open_shard(self, hosting: StageHosting, key: str, partition: int | None) -> Shard:
        """Claim a shard that no assignment brings (a feed's)."""
        return await self.shards.open(replace(hosting, now_ns=self._around.loop.now_ns), key, partition)

    async def hold(self, hosting: StageHosting) -> None:
        """Claim the one shard of a stage that reads no topic, and hold it."""
        await self.shards.open(self._hostings[hosting.name], "0", None)

    async def revoke(self) -> None:
        """Let go of the shards before they are dealt out anew."""
        if self.process.stopped:
            await self.process.gate()
            # Only its next heartbeat tells it that the others went on without it.
            await asyncio.sleep(self._around.dice.delay_s(*_NOTICE_S))
        async with self._assigning:
            self._number += 1
            await self.guard(self.shards.let_go())

    async def assign(self, assignment: frozenset[TP]) -> None:
        """Claim the shards of an assignment and read on from their checkpoints."""
        await self.process.gate()
        async with self._assigning:
            await self.guard(self._claim_in_time(assignment))

    async def _claim_in_time(self, assignment: frozenset[TP]) -> None:
        async with asyncio.timeout(_SEEK_BOUND_S):
            await self._claim(assignment)

    async def _claim(self, assignment: frozenset[TP]) -> None:
        self._number += 1
        number = self._number
        await self.shards.let_go()
        for hosting, tp in hosted_partitions(self._hostings, assignment):
            key = shard_key(hosting, tp.topic, tp.partition)
            if (hosting.name, key) not in self.shards.running:
                await self.shards.open(hosting, key, tp.partition)
        for hosting, tp in hosted_partitions(self._hostings, assignment):
            target = self.shards.target(tp, 0, self._around.log.end(tp))
            self._start(self._read(hosting, tp, target, number))

    async def _read(self, hosting: StageHosting, tp: TP, position: int, number: int) -> None:
        """Fetch chunks of a partition and hand them to the shard of one stage, while the assignment holds."""
        log, dice = self._around.log, self._around.dice
        key = shard_key(hosting, tp.topic, tp.partition)
        while True:
            await log.beyond(tp, position)
            await asyncio.sleep(dice.delay_s(*(_SLOW_FETCH_S if dice.befalls("slow_fetch") else _FETCH_S)))
            await self.process.gate()
            shard = self.shards.running.get((hosting.name, key))
            if number != self._number or shard is None:
                return
            records = log.read(tp, position, dice.random.randint(1, _CHUNK_MOST))
            await shard.offer(records)
            if dice.befalls("redelivered"):
                await shard.offer(records)
            position += len(records)

    async def finish(self) -> None:
        """SIGTERM: end in order."""
        await self.guard(self._finish())
        self.process.kill()

    async def _finish(self) -> None:
        self._number += 1
        await self.shards.let_go(standalone=True)

    def die(self) -> None:
        """SIGKILL."""
        if not self.process.dead:
            self.process.kill()
            self.producer.die()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a resident of the process (a feed)."""
        return self._start(work)


EXPECTED_FAILURES: Final = (ShardLost, DatabaseGone)


def is_expected(error: Exception) -> bool:
    """Tell whether a process may end so in a world with faults: it lost a shard, or the database, or a record."""
    lost = isinstance(error, EXPECTED_FAILURES)
    return lost or (isinstance(error, WorkerFailed) and str(error).startswith("Kafka did not take a record"))
