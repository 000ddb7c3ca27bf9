"""Shards' checkpoints in memory, with Postgres's contract: one transaction or nothing, and only under one's epoch.

A commit may be lost before it arrives, or only its answer; the database may be away for a while, and is then away
for everybody. What the engine does about it is the engine's own code (``PatientStore``).
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import psycopg

from infra.postgres.patient_store import Checkpoint, Commit, PatientStore, RunFacts, ShardLost, ShardName
from schemas.control import ControlCommand
from streams.simulation.faults import Dice
from streams.simulation.process import SimulatedProcess

_COMMIT_S: Final = (0.0002, 0.002)
_SLOW_COMMIT_S: Final = (0.05, 0.5)
_LATE_COMMIT_S: Final = (0.01, 0.4)
_CLAIM_S: Final = (0.001, 0.01)


@dataclass(slots=True)
class ShardRows:
    """What the tables hold of one shard. ``session`` is whose connection is the newest holder's."""

    epoch: int = 0
    generation: int = 1
    batch: int = 0
    progress: bytes = b""
    facts: RunFacts = field(default_factory=lambda: RunFacts("", "", ""))
    state: dict[str, bytes] = field(default_factory=dict)
    journal: list[tuple[int, bytes]] = field(default_factory=list)
    outbox: dict[int, bytes] = field(default_factory=dict)
    reached_ns: int = 0
    snapshots: dict[int, "ShardRows"] = field(default_factory=dict)
    kept_at_s: float | None = None


class SimulatedDatabase:
    """All shards' rows. ``away`` is set while nobody answers.

    ``locked``: a commit whose client has gone is still under way there, and whoever touches the row waits for it.
    """

    def __init__(self) -> None:
        self.shards: dict[tuple[str, str], ShardRows] = {}
        self.commands: dict[str, ControlCommand] = {}
        self.away = False
        self.locked: dict[tuple[str, str], asyncio.Event] = {}

    def order(self, command: ControlCommand) -> None:
        """Take a person's command as a row; the same id again changes nothing."""
        if command.command_id not in self.commands:
            ordinal = len(self.commands) + 1
            self.commands[command.command_id] = msgspec.structs.replace(command, ordinal=ordinal)

    def claim(self, name: ShardName, facts: RunFacts) -> Checkpoint:
        """Raise the epoch and return what the shard holds."""
        rows = self.shards.get((name.stage, name.shard))
        if rows is None:
            rows = self.shards[name.stage, name.shard] = ShardRows(facts=facts)
        rows.epoch += 1
        if rows.progress and rows.facts != facts:
            self._keep(rows)
        return Checkpoint(
            epoch=rows.epoch,
            generation=rows.generation,
            batch=rows.batch,
            progress=rows.progress,
            state=dict(rows.state),
            unsent=tuple(sorted(rows.outbox.items())),
            cluster_id=rows.facts.cluster_id,
            code_version=rows.facts.code_version,
            settings_hash=rows.facts.settings_hash,
            fresh=not rows.progress,
            snapshot_age_s=None if rows.kept_at_s is None else asyncio.get_running_loop().time() - rows.kept_at_s,
        )

    def keep(self, name: ShardName, epoch: int) -> None:
        """Keep a shard as it is now, unless it has another epoch."""
        rows = self.shards.get((name.stage, name.shard))
        if rows is not None and rows.epoch == epoch and rows.progress:
            self._keep(rows)

    def _keep(self, rows: ShardRows) -> None:
        kept = replace(rows, state=dict(rows.state), journal=[], outbox={}, snapshots={})
        rows.snapshots.setdefault(rows.batch, kept)
        rows.kept_at_s = asyncio.get_running_loop().time()

    def write(self, name: ShardName, epoch: int, commit: Commit, facts: RunFacts) -> bool:
        """Write a batch whole, or nothing and return False when the shard has another epoch."""
        rows = self.shards.get((name.stage, name.shard))
        if rows is None or rows.epoch != epoch:
            return False
        rows.batch, rows.progress, rows.facts, rows.reached_ns = commit.batch, commit.progress, facts, commit.reached_ns
        if commit.generation is not None:
            rows.generation = commit.generation
        for key, value in commit.state.items():
            if value is None:
                rows.state.pop(key, None)
            else:
                rows.state[key] = value
        if commit.sent_through is not None:
            for batch in [batch for batch in rows.outbox if batch <= commit.sent_through]:
                del rows.outbox[batch]
        if commit.journal is not None:
            rows.journal.append((commit.batch, commit.journal))
        if commit.outbox is not None:
            rows.outbox[commit.batch] = commit.outbox
        return True

    def copy(self, name: tuple[str, str]) -> ShardRows:
        """Return a shard's rows as they are now, for a test that compares."""
        rows = self.shards[name]
        return replace(rows, state=dict(rows.state), journal=list(rows.journal), outbox=dict(rows.outbox))


class SimulatedStore(PatientStore):
    """A claimed shard in the simulated database, as one process holds it."""

    def __init__(self, database: SimulatedDatabase, name: ShardName, process: SimulatedProcess, dice: Dice) -> None:
        self._database = database
        self._name = name
        self._process = process
        self._dice = dice
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch under which this holder writes."""
        return self._epoch

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        """Claim after a while, unless the database is away."""
        await self._travel(_CLAIM_S)
        if self._dice.befalls("claim_refused"):
            raise psycopg.OperationalError("the simulated database refused a connection")
        checkpoint = self._database.claim(self._name, facts)
        self._epoch = checkpoint.epoch
        return checkpoint

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        """Write after a while; the answer takes a while, too, and either may be lost."""
        await self._travel(_SLOW_COMMIT_S if self._dice.befalls("slow_commit") else _COMMIT_S)
        if self._dice.befalls("commit_lost"):
            raise psycopg.OperationalError("a simulated connection broke before the commit")
        if self._dice.befalls("commit_late"):
            self._write_later(commit, facts)
            raise psycopg.OperationalError("a simulated connection broke during the commit")
        if not self._database.write(self._name, self._epoch, commit, facts):
            raise self._lost()
        await self._travel(_COMMIT_S)
        if self._dice.befalls("commit_answer_lost"):
            raise psycopg.OperationalError("a simulated connection broke after the commit")

    async def is_written(self, batch: int) -> bool | None:
        """Look whether a batch has arrived."""
        try:
            await self._travel(_COMMIT_S)
        except psycopg.OperationalError:
            return None
        rows = self._database.shards.get((self._name.stage, self._name.shard))
        if rows is None or rows.epoch != self._epoch:
            raise self._lost()
        return rows.batch == batch

    async def keep_once(self, hours: int) -> None:
        """Keep the shard as it is; no run lasts as long as what is kept."""
        del hours
        await self._travel(_COMMIT_S)
        self._database.keep(self._name, self._epoch)

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _write_later(self, commit: Commit, facts: RunFacts) -> None:
        """The server goes on with a statement whose client has gone; until it is done it holds the row's lock."""
        name = (self._name.stage, self._name.shard)
        done = self._database.locked[name] = asyncio.Event()

        def finish() -> None:
            self._database.write(self._name, self._epoch, commit, facts)
            del self._database.locked[name]
            done.set()

        asyncio.get_running_loop().call_later(self._dice.delay_s(*_LATE_COMMIT_S), finish)

    async def _travel(self, bounds_s: tuple[float, float]) -> None:
        await self._process.gate()
        await asyncio.sleep(self._dice.delay_s(*bounds_s))
        while (lock := self._database.locked.get((self._name.stage, self._name.shard))) is not None:
            await lock.wait()
        await self._process.gate()
        if self._database.away:
            raise psycopg.OperationalError("the simulated database is away")

    def _lost(self) -> ShardLost:
        return ShardLost(f"{self._name.stage}/{self._name.shard} belongs to another worker now.")
