"""One run: every worker of the platform, its processes, what is done to them, and how they come to rest again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import msgspec

from agents.execution.orders import OrderState
from infra.postgres.patient_store import PatientStore, ShardName
from schemas.orders import OrderStatus
from schemas.values import TimeInForce
from streams import execution
from streams.engine.lane import lane_of
from streams.engine.ports import EngineSettings, StageHosting, StageKind
from streams.engine.shard import Progress
from streams.execution import VenueCompanion
from streams.ingestion import FeedResident
from streams.launch import stage_hosting
from streams.simulation.database import SimulatedDatabase, SimulatedStore
from streams.simulation.faults import CALM, Dice
from streams.simulation.feed import SimulatedMarketFeed
from streams.simulation.group import Group
from streams.simulation.log import SimulatedLog, SimulatedProducer
from streams.simulation.member import CODEC, Member, Surroundings, is_expected
from streams.simulation.plan import PARTITIONS, Plan
from streams.simulation.process import SimulatedProcess
from streams.simulation.venue import LyingVenue, VenueClient
from streams.simulation.virtual_time import VirtualLoop

FEED_SHARD: Final = "feed-SIM-0"
_MEMBERS: Final = 2
_SESSION_S: Final = (0.2, 1.0)
_RESTART_S: Final = (0.02, 0.8)
_POLL_S: Final = 0.05
_MARKET_MOST_S: Final = 120.0
_CALM_S: Final = 0.8
_REST_MOST_S: Final = 60.0
_AT_VENUE: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})
_RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.POST_ONLY})


@dataclass(frozen=True, slots=True)
class Parts:
    """What the world is made of. A test puts a faulty part in, to see that the checkers find it."""

    store: type[SimulatedStore] = SimulatedStore
    producer: type[SimulatedProducer] = SimulatedProducer
    client: type[VenueClient] = VenueClient


@dataclass(slots=True)
class Unforgetting:
    """Latencies go nowhere: no checker asks for them."""

    written: int = 0

    async def write(self, rows: Sequence[tuple[str, int]]) -> None:
        """Count them."""
        self.written += len(rows)

    async def close(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Happened:
    """What a run leaves behind beside log, database and venue: why processes ended that nobody had killed."""

    expected_ends: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class World:
    """All processes of a run on one virtual loop."""

    def __init__(self, loop: VirtualLoop, plan: Plan, parts: Parts) -> None:
        self.loop = loop
        self.plan = plan
        self.dice = Dice(Random(f"run/{plan.seed}"))
        self.log = SimulatedLog()
        self.database = SimulatedDatabase()
        self.venue = LyingVenue(loop, plan.venue_terms(), plan.engine(), self.dice)
        self.happened = Happened()
        self.groups: list[Group] = []
        self.members: dict[str, Member] = {}
        self.hostings: dict[str, StageHosting] = {}
        self._parts = parts
        self._births = 0
        self._feeding = True
        self._around = Surroundings(
            loop=loop,
            log=self.log,
            dice=self.dice,
            open_store=self._open_store,
            open_producer=lambda process: parts.producer(loop, self.log, process, self.dice),
            failed=self._failed,
        )
        self._engine = EngineSettings(
            bootstrap="",
            dsn="",
            instrument_partitions=PARTITIONS,
            settings_hash="1",
            code_version="1",
            codec=CODEC,
            heartbeat_interval_ms=plan.heartbeat_ms,
            checkpoint_interval_s=0.5,
        )

    def _open_store(self, name: ShardName, process: SimulatedProcess) -> PatientStore:
        return self._parts.store(self.database, name, process, self.dice)

    async def run(self) -> None:
        """Let the market run under faults, then without, and wait until everything has come to rest."""
        tasks = self._begin()
        self.venue.start()
        try:
            async with asyncio.timeout(_MARKET_MOST_S):
                while self.venue.market_events < self.plan.events:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self.happened.broken.append(f"the market did not reach {self.plan.events} events")
        self.venue.engine.ended = True
        tasks[0].cancel()
        await asyncio.sleep(0)
        self._heal()
        await asyncio.sleep(_CALM_S)
        self._feeding = False
        await self.members["ingestion"].finish()
        await self._rest()
        for task in tasks:
            task.cancel()
        for member in self.members.values():
            member.process.kill()
        await asyncio.sleep(0)

    def _begin(self) -> list["asyncio.Task[None]"]:
        from streams.simulation.strokes import strike

        tasks = [self.loop.create_task(strike(self))]
        for stages in self.plan.layout:
            hostings = [stage_hosting(self.plan.run, "", name) for name in stages]
            self.hostings.update({hosting.name: hosting for hosting in hostings})
            group = Group("+".join(stages), hostings, self.dice)
            self.groups.append(group)
            for number in range(_MEMBERS):
                self._join(group, stages, number)
            tasks.append(self.loop.create_task(group.coordinate()))
        self._feed()
        return tasks

    def _join(self, group: Group, stages: tuple[str, ...], number: int) -> None:
        name = f"{group.name}.{number}"
        process = self._process(name)
        hostings = [self._hosting(stage, process) for stage in stages]
        member = self.members[name] = Member(self._around, self._engine, process, hostings)
        group.join(member)

    def _process(self, name: str) -> SimulatedProcess:
        self._births += 1
        return SimulatedProcess(f"{name}#{self._births}")

    def _hosting(self, stage: str, process: SimulatedProcess) -> StageHosting:
        hosting = stage_hosting(self.plan.run, "", stage)
        if stage != "execution":
            return hosting

        async def open_venue() -> VenueClient:
            client = self._parts.client(self.loop, self.venue, process)
            await client.start()
            return client

        def companion() -> VenueCompanion:
            return VenueCompanion(open_venue, Unforgetting(), on_capture=False, now_ns=self.loop.now_ns)

        assert hosting.event_types == execution.INJECTED
        return replace(hosting, companion=companion)

    def _feed(self) -> None:
        process = self._process("ingestion")
        member = self.members["ingestion"] = Member(self._around, self._engine, process, [])
        instruments = tuple(sorted(self.plan.run.fed))
        feed = SimulatedMarketFeed(self.loop, self.venue, instruments, process)
        member.spawn(FeedResident(self.plan.run, feed, FEED_SHARD).run(member))

    def kill(self, name: str) -> None:
        """SIGKILL a process; its place is taken after a while, and the group may notice before or after that."""
        member = self.members[name]
        if not member.process.dead:
            member.die()
            self._bury(name, member)

    def _bury(self, name: str, member: Member) -> None:
        for group in self.groups:
            if member in group.members:
                self.loop.call_later(self.dice.delay_s(*_SESSION_S), group.leave, member)
        self.loop.call_later(self.dice.delay_s(*_RESTART_S), self._restart, name)

    def _restart(self, name: str) -> None:
        if not self.members[name].process.dead:
            return
        if name == "ingestion":
            if self._feeding:
                self._feed()
            return
        for group, stages in zip(self.groups, self.plan.layout, strict=True):
            if name.rpartition(".")[0] == group.name:
                self._join(group, stages, int(name.rpartition(".")[2]))

    def terminate(self, name: str) -> None:
        """SIGTERM a process."""
        member = self.members[name]
        if not member.process.dead and not member.process.stopped:
            task = self.loop.create_task(member.finish())
            task.add_done_callback(lambda _: self._bury(name, member))

    def _failed(self, member: Member, error: Exception) -> None:
        """A process ends by itself, as ``Worker.fail`` ends it."""
        sentence = f"{member.process.name}: {type(error).__name__}: {error}"
        (self.happened.expected_ends if is_expected(error) else self.happened.broken).append(sentence)
        for name, known in self.members.items():
            if known is member:
                self.loop.call_soon(self.kill, name)

    def _heal(self) -> None:
        self.dice.odds = CALM
        self.database.away = False
        for member in self.members.values():
            member.process.go_on()

    async def _rest(self) -> None:
        deadline = self.loop.time() + _REST_MOST_S
        while (waiting := self.unfinished()) and not self.happened.broken:
            if self.loop.time() > deadline:
                self.happened.broken.append(f"no rest within {_REST_MOST_S:g} s: {waiting}")
                return
            await asyncio.sleep(_POLL_S)

    def unfinished(self) -> str | None:
        """Return what is still under way, or None."""
        for hosting in self.hostings.values():
            for topic in hosting.topics:
                for number in range(topic.partitions(PARTITIONS)):
                    lane = (topic.name, number)
                    if self.log.end(lane) > self._reached(hosting, lane):
                        return f"{hosting.name} stands at {self._reached(hosting, lane)} of {lane_of(*lane)}"
        for (stage, shard), rows in self.database.shards.items():
            if rows.outbox:
                return f"{stage}/{shard} has not sent {sorted(rows.outbox)}"
        if self.venue.core.next_due_ns is not None:
            return "the venue has something to say"
        return self._open_question()

    def _open_question(self) -> str | None:
        """Return an order of which execution does not know yet what became of it, or None."""
        rows = self.database.shards["execution", "0"]
        for key in sorted(rows.state):
            if key.startswith("order/"):
                order = msgspec.msgpack.decode(rows.state[key], type=OrderState)
                waits = order.status not in _AT_VENUE or order.time_in_force not in _RESTING
                if waits and not order.final:
                    return f"order {order.order_id} is {order.status}"
        return None

    def _reached(self, hosting: StageHosting, lane: tuple[str, int]) -> int:
        shard = str(lane[1]) if hosting.kind is StageKind.OUTBOX else lane_of(*lane)
        rows = self.database.shards.get((hosting.name, shard))
        if rows is None or not rows.progress:
            return 0
        return msgspec.msgpack.decode(rows.progress, type=Progress).next_offsets.get(lane_of(*lane), 0)
