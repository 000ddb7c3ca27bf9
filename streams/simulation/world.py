"""One run: every worker of the platform, its processes, what is done to them, and how they come to rest again."""

import asyncio
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from infra.postgres.patient_store import PatientStore, ShardName
from streams import execution
from streams.control import CommandReader
from streams.engine.ports import EngineSettings, StageHosting
from streams.execution import VenueCompanion
from streams.ingestion import FeedResident
from streams.sending_right import SendingRight
from streams.simulation.database import SimulatedDatabase
from streams.simulation.faults import CALM, Dice, Odds
from streams.simulation.feed import SimulatedMarketFeed
from streams.simulation.group import Group
from streams.simulation.log import SimulatedLog
from streams.simulation.member import CODEC, Member, Surroundings, is_expected
from streams.simulation.parts import Parts, Unforgetting
from streams.simulation.people import People
from streams.simulation.plan import INGRESS, PARTITIONS, Plan
from streams.simulation.process import SimulatedProcess
from streams.simulation.rest import unfinished
from streams.simulation.signers import simulated_people
from streams.simulation.strangers import Strangers
from streams.simulation.strokes import strike
from streams.simulation.venue import LyingVenue, VenueClient
from streams.simulation.virtual_time import VirtualLoop

__all__ = ["CrashPoint", "Parts", "World"]

FEED_SHARD: Final = "feed-SIM-0"
_FEED: Final = "ingestion"
_CONTROL: Final = "control"
_MEMBERS: Final = 2
_SESSION_S: Final = (0.2, 1.0)
_RESTART_S: Final = (0.02, 0.8)
_POLL_S: Final = 0.05
_MARKET_MOST_S: Final = 120.0
_CALM_S: Final = 0.8
_REST_MOST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """The one fault of a run: at the ``at``-th call to the world (0: never) its caller dies, or ``everybody`` does."""

    at: int
    everybody: bool = False


@dataclass(slots=True)
class Happened:
    """What a run leaves behind beside log, database and venue: why processes ended that nobody had killed."""

    expected_ends: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    calls: int = 0
    crashed: str | None = None


class World:
    """All processes of a run on one virtual loop. With a ``crash`` nothing else goes wrong in it."""

    def __init__(self, loop: VirtualLoop, plan: Plan, parts: Parts, crash: CrashPoint | None = None) -> None:
        self.loop = loop
        self.plan = plan
        self.dice = Dice(Random(f"run/{plan.seed}"), Odds() if crash is None else CALM)
        self.log = SimulatedLog()
        self.database = SimulatedDatabase()
        self.venue = LyingVenue(loop, plan.venue_terms(), plan.engine(), self.dice)
        self.happened = Happened()
        self.healed = False
        self.groups: dict[str, Group] = {}
        self.members: dict[str, Member] = {}
        self.hostings: dict[str, StageHosting] = {}
        self._stages: dict[str, tuple[str, ...]] = {}
        self._parts = parts
        self._crash = crash
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
            snapshot_interval_s=plan.snapshot_s,
        )

    def _open_store(self, name: ShardName, process: SimulatedProcess) -> PatientStore:
        return self._parts.store(self.database, name, process, self.dice)

    async def run(self) -> None:
        """Let the market run under faults, then without, and wait until everything has come to rest."""
        disturbing, coordinating = self._begin()
        self.venue.start()
        try:
            async with asyncio.timeout(_MARKET_MOST_S):
                while self.venue.market_events < self.plan.events:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self.happened.broken.append(f"the market did not reach {self.plan.events} events")
        self.venue.engine.ended = True
        for task in disturbing:
            task.cancel()
        await asyncio.sleep(0)
        self._heal()
        await asyncio.sleep(_CALM_S)
        self._feeding = False
        await asyncio.wait([self.loop.create_task(self.members[_FEED].finish())])
        await self._rest()
        for task in coordinating:
            task.cancel()
        for member in self.members.values():
            member.process.kill()
        await asyncio.sleep(0)

    def _begin(self) -> tuple[list["asyncio.Task[None]"], list["asyncio.Task[None]"]]:
        disturbing = [People(self).order_about(), Strangers(self).write()]
        if self._crash is None:
            disturbing.append(strike(self))
        coordinating = []
        for stages in (*self.plan.layout, INGRESS):
            hostings = [self._known(name) for name in stages]
            group = Group("+".join(stages), hostings, self.dice)
            self.groups[group.name], self._stages[group.name] = group, stages
            for number in range(_MEMBERS):
                self._join(group, stages, number)
            coordinating.append(self.loop.create_task(group.coordinate()))
        self._known(_CONTROL)
        self._feed()
        self._control()
        return [self.loop.create_task(work) for work in disturbing], coordinating

    def _known(self, stage: str) -> StageHosting:
        hosting = self.hostings[stage] = self._parts.hosting(self.plan.run, stage)
        return hosting

    def _join(self, group: Group, stages: tuple[str, ...], number: int) -> None:
        name = f"{group.name}.{number}"
        process = self._process(name)
        hostings = [self._hosting(stage, process) for stage in stages]
        member = self.members[name] = Member(self._around, self._engine, process, hostings)
        group.join(member)

    def _process(self, name: str) -> SimulatedProcess:
        self._births += 1
        return SimulatedProcess(f"{name}#{self._births}", self._touched)

    def _touched(self, process: SimulatedProcess) -> None:
        self.happened.calls += 1
        if self._crash is None or self.happened.calls != self._crash.at:
            return
        self.happened.crashed = process.name
        for name, member in sorted(self.members.items()):
            if self._crash.everybody or member.process is process:
                self.kill(name)

    def _hosting(self, stage: str, process: SimulatedProcess) -> StageHosting:
        hosting = self.hostings[stage]
        commands = self._parts.commands(self.database, process, self.dice)
        if stage == _CONTROL:
            return replace(hosting, companion=lambda: CommandReader(commands, simulated_people))
        if stage != "execution":
            return hosting

        async def open_venue() -> VenueClient:
            client = self._parts.client(self.loop, self.venue, process)
            await client.start()
            return client

        def companion() -> VenueCompanion:
            right = SendingRight(commands, self._parts.claims(self.database, process, self.dice))
            return VenueCompanion(
                open_venue,
                Unforgetting(),
                right,
                on_capture=False,
                now_ns=self.loop.now_ns,
                people=simulated_people,
            )

        assert hosting.event_types == execution.INJECTED
        return replace(hosting, companion=companion)

    def _feed(self) -> None:
        process = self._process(_FEED)
        member = self.members[_FEED] = Member(self._around, self._engine, process, [])
        instruments = tuple(sorted(self.plan.run.fed))
        feed = SimulatedMarketFeed(self.loop, self.venue, instruments, process)
        member.spawn(FeedResident(self.plan.run, feed, FEED_SHARD).run(member))

    def _control(self) -> None:
        """The worker without topics: one process, which claims its shard as it starts."""
        process = self._process(_CONTROL)
        hosting = self._hosting(_CONTROL, process)
        member = self.members[_CONTROL] = Member(self._around, self._engine, process, [hosting])
        member.spawn(member.hold(hosting))

    def kill(self, name: str) -> None:
        """SIGKILL a process; its place is taken after a while, and the group may notice before or after that."""
        member = self.members[name]
        if not member.process.dead:
            member.die()
            self._bury(name, member)

    def _bury(self, name: str, member: Member) -> None:
        for group in self.groups.values():
            if member in group.members:
                self.loop.call_later(self.dice.delay_s(*_SESSION_S), group.leave, member)
        self.loop.call_later(self.dice.delay_s(*_RESTART_S), self._restart, name)

    def _restart(self, name: str) -> None:
        if not self.members[name].process.dead:
            return
        if name == _FEED:
            if self._feeding:
                self._feed()
        elif name == _CONTROL:
            self._control()
        else:
            group, _, number = name.rpartition(".")
            self._join(self.groups[group], self._stages[group], int(number))

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
        self.healed = True
        self.dice.odds = CALM
        self.database.away = False
        for member in self.members.values():
            member.process.go_on()

    async def _rest(self) -> None:
        deadline = self.loop.time() + _REST_MOST_S
        while (waiting := unfinished(self)) and not self.happened.broken:
            if self.loop.time() > deadline:
                self.happened.broken.append(f"no rest within {_REST_MOST_S:g} s: {waiting}")
                return
            await asyncio.sleep(_POLL_S)
