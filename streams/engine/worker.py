"""The one wrapper around every stage: a Faust app whose agents feed shards, and a process that ends in order.

No exception reaches Faust: a bad record is a dead letter, a fault of the world is retried in place, and anything
else ends the process before a checkpoint or an acknowledgement could pass it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

import faust
from aiokafka.errors import KafkaError
from faust.contrib.asgi import faust_app_running
from faust.types import TP

from infra.kafka import BrokerUnreachable, cluster_id
from infra.postgres.checkpoints import RunFacts
from streams.engine.credentials import credentials_of
from streams.engine.ending import as_failure, end_process
from streams.engine.letter_desk import LetterDesk
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind, WorkerFailed
from streams.engine.rewind import Hosted, RewindCheck
from streams.engine.sending import Sender
from streams.engine.shards import Shard, Shards, hosted_partitions, shard_key, to_be_claimed
from streams.engine.status import report_status
from streams.engine.telling import Teller, Told
from streams.engine.transport import Checkpoints, ChunkSchema, ChunkTransport
from streams.engine.watchdog import RealWorld, Watch

LOG: Final = logging.getLogger("tradermind.worker")
STREAM_CHUNKS: Final = 16
_SEEK_BOUND_S: Final = 20.0
_BROKER_ANSWER_S: Final = 15.0
_STOP_GRACE_S: Final = 8.0
_CRASH_WATCH_S: Final = 0.5
_PATIENT_WAIT_MS: Final = 200
_THREAD_SWITCH_S: Final = 0.0005
_PATIENT_BYTES: Final = 256 * 1024
_BATCH_BYTES: Final = 128 * 1024


class Resident(Protocol):
    """What lives in a worker beside its Kafka stages (a feed): started when the app runs, stopped with it."""

    async def run(self, worker: "Worker") -> None:
        """Work until cancelled; an exception ends the worker."""


class Worker:
    """One process, one Faust app, its stages and their shards."""

    def __init__(
        self,
        engine: EngineSettings,
        hostings: Sequence[StageHosting],
        residents: Sequence[Resident] = (),
        teller: Teller | None = None,
    ) -> None:
        self.engine = engine
        self.hostings = {hosting.name: hosting for hosting in hostings}
        self.holder = engine.instance_id or f"{socket.gethostname()}-{os.getpid()}"
        self._residents = residents
        self._tasks: set[asyncio.Task[None]] = set()
        self._shards = Shards(engine, hostings, self.holder, self._start, desk=LetterDesk(engine))
        self.shards = self._shards.running
        self._teller = teller
        self._dealt = False
        self.watch = Watch(engine.stuck_after_s, RealWorld(engine), self._shards.held)
        if teller is not None:
            self._shards.flow, self.watch.tell = teller.flow, teller.look
        self._failure: asyncio.Future[WorkerFailed] | None = None
        self._hooks = Checkpoints()
        self._dealing = asyncio.Lock()
        self.app = self._build_app()
        self._rewinds = RewindCheck(engine, self.app.conf.id)

    def _build_app(self) -> faust.App:
        engine = self.engine
        app = faust.App(
            "tradermind." + ".".join(sorted(self.hostings)),
            broker=f"kafka://{engine.bootstrap}",
            broker_credentials=credentials_of(engine.security),
            consumer_group_instance_id=engine.instance_id,
            consumer_auto_offset_reset="earliest",
            broker_session_timeout=6.0 if engine.embedded else engine.session_timeout_s,
            broker_heartbeat_interval=1.0 if engine.embedded else engine.session_timeout_s / 5,
            broker_rebalance_timeout=6.0 if engine.embedded else 20.0,
            broker_request_timeout=30.0,
            broker_max_poll_records=engine.chunk_records,
            broker_commit_interval=1.0,
            broker_commit_every=None,
            producer_linger=0.0,
            producer_max_batch_size=_BATCH_BYTES,
            producer_acks=-1,
            producer_request_timeout=30.0,
            producer_max_request_size=16 * 1024 * 1024,
            stream_buffer_maxsize=STREAM_CHUNKS,
            stream_wait_empty=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            store="memory://",
            # Faust makes this folder, and nothing writes to it: where a worker was started stays as it was.
            datadir=tempfile.gettempdir(),
            debug=False,
        )
        vars(app)["tradermind_checkpoints"] = self._hooks
        self._hooks.seek_targets = self._seek_targets
        self._hooks.committed_offsets = self._shards.committed_offsets
        self._hooks.fetch_wait_ms = 5 if engine.embedded else 20
        if all(hosting.kind is StageKind.HANDLER for hosting in self.hostings.values()):
            # Nobody waits for sinks, and they read every topic: few large fetches leave the machine to the others.
            self._hooks.fetch_wait_ms, self._hooks.fetch_bytes_min = _PATIENT_WAIT_MS, _PATIENT_BYTES
        revoked: Any = app.on_partitions_revoked
        revoked.connect(self._hand_over)
        assigned: Any = app.on_partitions_assigned
        assigned.connect(self._stand_by)
        app.transport = ChunkTransport(app.conf.broker, app)
        # A worker that reads no topic has nothing to subscribe to, and Faust would crash on trying.
        app.producer_only = not any(hosting.topics for hosting in self.hostings.values())
        for hosting in self.hostings.values():
            if hosting.topics:
                self._add_agent(app, hosting)
        return app

    def _add_agent(self, app: faust.App, hosting: StageHosting) -> None:
        channel = app.topic(*hosting.topic_names(), schema=ChunkSchema())

        async def processor(stream: Any) -> None:
            async for event in stream.events():
                await self._guard(self._offer(hosting, event.message))

        app.agent(channel, name=f"tradermind.{hosting.name}")(processor)

    async def _offer(self, hosting: StageHosting, message: Any) -> None:
        records: list[RawRecord] = message.value
        if self.engine.learn is not None:
            await self.engine.learn(records)
        if int(message.headers[0][1]) != self._hooks.assignment_number:
            # Fetched before the newest seek: the same records come again from the checkpoint.
            return
        shard = self.shards.get((hosting.name, shard_key(hosting, message.topic, message.partition)))
        if shard is None:
            # Fetched while the shard was being let go of: the same records come again, here or elsewhere.
            return
        await shard.offer(records)

    async def _seek_targets(self, assignment: frozenset[TP]) -> Mapping[TP, int]:
        """Claim the shards of a new assignment and return where to read on; bounded, since Faust would hang."""
        try:
            # One at a time: Faust gives an assignment up for the next while this one is still being claimed.
            async with self._dealing, asyncio.timeout(_SEEK_BOUND_S):
                return await self._claim(assignment)
        except TimeoutError:
            self.fail(WorkerFailed(f"The checkpoints could not be read within {_SEEK_BOUND_S:g} s."))
        except Exception as error:
            self.fail(as_failure(error))
        await asyncio.Event().wait()  # The process is ending; Faust must not go on from a guess.
        raise AssertionError("unreachable")

    async def _claim(self, assignment: frozenset[TP]) -> dict[TP, int]:
        self._hooks.assignment_number += 1
        await self._shards.let_go()
        self._shards.assigned = assignment
        self._shards.cleared = await self._rewinds.refuse_rewound(to_be_claimed(self.hostings, assignment))
        for hosting, tp in hosted_partitions(self.hostings, assignment):
            key = shard_key(hosting, tp.topic, tp.partition)
            if (hosting.name, key) in self.shards:
                continue
            if hosting.kind is StageKind.HANDLER:
                consumer: Any = self.app.consumer
                self._shards.open_handler(hosting, tp, await consumer.committed_offset(tp))
            else:
                await self.open_shard(hosting, key, tp.partition)
        self._dealt = True
        if not assignment:
            return {}
        starts = await self.app.consumer.earliest_offsets(*assignment)
        ends = await self.app.consumer.highwaters(*assignment)
        return {tp: self._shards.target(tp, int(starts[tp]), int(ends[tp])) for tp in assignment}

    async def _hand_over(self, app: Any, *revoked: Any, signal: Any, **named: Any) -> None:
        """Let go of the shards before the group deals them out anew, so that no two workers hold one."""
        del app, revoked, signal, named
        async with self._dealing:  # What an assignment is still claiming would be held behind the group's back.
            self._hooks.assignment_number += 1
            self._dealt = False
            await self._guard(self._shards.let_go())

    async def _stand_by(self, app: Any, assigned: Any, signal: Any, **named: Any) -> None:
        """Take note that the group has nothing for this worker: nothing is claimed then, and nobody else says so."""
        del app, signal, named
        if not assigned:
            self._shards.assigned, self._dealt = frozenset(), True

    async def open_shard(self, hosting: StageHosting, key: str, partition: int | None) -> Shard:
        """Claim a shard, check its checkpoint against this run, and start it."""
        if not hosting.topics:
            self._shards.cleared = await self._rewinds.refuse_rewound([Hosted(hosting, key, ())])
        return await self._shards.open(hosting, key, partition)

    def _start(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.fail(as_failure(error))

    def fail(self, failure: WorkerFailed) -> None:
        """End the process with this sentence; the first one counts."""
        assert self._failure is not None
        if not self._failure.done():
            self._failure.set_result(failure)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT (0) or a failure (its exit code), whose sentence goes to stderr."""
        loop = asyncio.get_running_loop()
        # Faust fetches in a thread of its own, which at the usual 5 ms would wait that long for every busy step.
        sys.setswitchinterval(_THREAD_SWITCH_S)
        self._failure = loop.create_future()
        # Watched from here on: a failure at the first assignment comes while Faust is still starting.
        self._failure.add_done_callback(end_process)
        if self._teller is not None:
            self._start(self._teller.beat())
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        try:
            at = (self.engine.bootstrap, self.engine.security)
            cluster = await asyncio.to_thread(cluster_id, *at, timeout_s=_BROKER_ANSWER_S)
        except BrokerUnreachable as error:
            sys.stderr.write(f"{error}\n")
            return 2
        self._shards.facts = RunFacts(cluster, self.engine.code_version, self.engine.settings_hash)
        self._shards.sender = Sender(self.app, self._shards.flow)
        stop = asyncio.ensure_future(stopped.wait())
        try:
            async with faust_app_running(self.app, stop_timeout=_STOP_GRACE_S):
                await self._serve(stop)
                await self._finish()
        except KafkaError as error:
            sys.stderr.write(f"Kafka refuses this worker at {self.engine.bootstrap}: {error}.\n")
            return 2
        return 0

    async def _serve(self, stop: "asyncio.Future[Any]") -> None:
        for hosting in self.hostings.values():
            if not hosting.topics:
                await self._guard(self._open_standalone(hosting))
        for resident in self._residents:
            self._start(resident.run(self))
        self._start(report_status(self))
        if self._teller is not None:
            self._start(self._teller.run(self._told))
        self._start(self.watch.run())
        self._start(self._watch_faust())
        await stop

    def _told(self) -> Told:
        """Return where this worker stands, for whoever tells of it."""
        standalone = len(self._residents) + sum(not hosting.topics for hosting in self.hostings.values())
        return Told(
            self.shards,
            self._dealt or self.app.producer_only,
            self._shards.due() + standalone,
            [hosting.observer for hosting in self.hostings.values() if hosting.observer is not None],
        )

    async def _watch_faust(self) -> None:
        """Faust that has crashed inside leaves its process up and still; nobody would notice."""
        while not self.app.crashed:
            await asyncio.sleep(_CRASH_WATCH_S)
        reason = getattr(self.app, "crash_reason", None)
        raise WorkerFailed(f"Faust has crashed: {reason}.")

    async def _open_standalone(self, hosting: StageHosting) -> None:
        await self.open_shard(hosting, "0", None)

    async def _finish(self) -> None:
        await self._shards.let_go(standalone=True)
        for hosting in self.hostings.values():
            if hosting.close is not None:
                await hosting.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
