"""The platform with each stage in a process of its own, killed and started again with ever more history behind it."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from msgspec.structs import replace
from rich.console import Console

from benchmarks.new_outputs import OutputWatch
from benchmarks.paced_exchange import events_per_step, step_for
from benchmarks.results import say
from infra.kafka import log_ends
from infra.postgres.commands import Command, insert_command
from infra.servers.process import ChildProcess, ServerFailed
from schemas.codec import Codec
from schemas.control import ControlAction
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT
from schemas.values import NS_PER_S
from streams.composition import Run
from streams.demo.plan import DemoPlan
from streams.demo.run import Demo
from streams.demo.servers import exchange_config, launch_exchange
from streams.launch import WORKERS
from streams.processes import start_worker

CALM_S: Final = 2.0
_BEHIND_MOST: Final = 200
_CALM_LOOKS: Final = 2
_STATUS_S: Final = 6.0
_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.004
_DRAIN_S: Final = 0.3
_ESTABLISHED: Final = "01"
_BEHIND: Final = "SELECT coalesce(max((counters->>'behind_records')::bigint), 0) FROM worker_status"
_STORED: Final = "SELECT max(available_at_ns) FROM market_data WHERE instrument = %s"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One kill: seconds from the new process's start to its first connection, claim, and new output."""

    stage: str
    minutes: float
    connected_s: float | None
    claimed_s: float | None
    output_s: float


@dataclass(frozen=True, slots=True)
class History:
    """What lies behind the workers: of ``minutes`` of market data, and in fact."""

    minutes: float
    market_records: int
    journal_rows: int
    took_s: float


class RecoveringDemo(Demo):
    """A demo that, once it runs, makes history at ``fill_per_s`` and then kills each of ``stages`` ``runs`` times."""

    def __init__(self, plan: DemoPlan, minutes: Sequence[float], fill_per_s: float, runs: int, stages: Sequence[str]):
        super().__init__(plan, Console(quiet=True))
        self._minutes = sorted(minutes)
        self._fill_per_s = fill_per_s
        self._runs = runs
        self._stages = stages
        self._partitions = 0
        self._market_stack = ExitStack()
        self._codec = Codec(SchemaTable.committed())
        self.recoveries: list[Recovery] = []
        self.histories: list[History] = []

    def _exchange(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        stack.callback(self._market_stack.close)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # Its port stays: the market is made quicker and slower by starting it again, and the workers must find it.
        self._calm = replace(exchange_config(run, self.plan.directory), port=port)
        self._calm_per_s = events_per_step(self._calm) / self._calm.step_ns * NS_PER_S
        self._quick = step_for(self._calm, max(self._fill_per_s, self._calm_per_s))
        self._partitions = run.settings.kafka.instrument_partitions
        self._instrument = next(iter(sorted(run.fed)))
        return {"venue.url": self._market(quick=False)}

    def _market(self, *, quick: bool) -> str:
        self._market_stack.close()
        url, _ = launch_exchange(self._market_stack, self._quick if quick else self._calm, self.plan.directory)
        return url

    def _start_workers(self, run_file: Path) -> None:
        self._run_file = run_file
        for group in self.plan.groups:
            if not self._stop.is_set():
                self._workers.append(self._start_worker(group))

    def _start_worker(self, group: Sequence[str]) -> ChildProcess:
        name = "-".join(group)
        return start_worker(
            group, self._run_file, self.plan.settings_file, self.plan.directory, instance=f"bench-{name}"
        )

    async def _watch(self, connection: psycopg.Connection[Any]) -> bool:
        if not await super()._watch(connection):
            return False
        for minutes in self._minutes:
            await self._make_history(minutes, connection)
            for stage in (stage for _ in range(self._runs) for stage in self._stages):
                if self._stop.is_set():
                    return False
                await self._until("the platform to be up with its logs", lambda: self._is_calm(connection))
                recovery = await asyncio.to_thread(self._kill, stage, minutes, connection)
                self.recoveries.append(recovery)
                say(f"{minutes:g} min of history, {stage}: {recovery.output_s:.2f} s")
        return True

    async def _make_history(self, minutes: float, connection: psycopg.Connection[Any]) -> None:
        wanted = round(minutes * 60 * self._calm_per_s)
        say(f"making {minutes:g} min of history: {wanted:,} records of market data")
        began_s = time.monotonic()
        if self._market_records() < wanted:
            await asyncio.to_thread(self._market, quick=True)
            await self._until("the history", lambda: self._market_records() >= wanted, 60 * max(minutes, 1) + _LIMIT_S)
            await asyncio.to_thread(self._market, quick=False)
        await asyncio.sleep(_STATUS_S)
        found = connection.execute("SELECT count(*) FROM shard_journal").fetchone()
        assert found is not None
        history = History(minutes, self._market_records(), int(found[0]), time.monotonic() - began_s)
        self.histories.append(history)

    def _market_records(self) -> int:
        slots = [(MARKET_EVENT.name, number) for number in range(self._partitions)]
        return sum(log_ends(self._bootstrap, slots).values())

    async def _until(self, what: str, holds: Callable[[], bool], limit_s: float = 10 * _LIMIT_S) -> None:
        began_s, looks = time.monotonic(), 0
        while looks < _CALM_LOOKS and not self._stop.is_set():
            self._check_workers()
            looks = looks + 1 if await asyncio.to_thread(holds) else 0
            if time.monotonic() - began_s > limit_s:
                raise ServerFailed(f"After {limit_s:g} s there was still no sign of {what}.")
            await self._pause(CALM_S)

    def _is_calm(self, connection: psycopg.Connection[Any]) -> bool:
        found = connection.execute(_BEHIND.encode()).fetchone()
        return found is not None and int(found[0]) <= _BEHIND_MOST

    def _kill(self, stage: str, minutes: float, connection: psycopg.Connection[Any]) -> Recovery:
        group = next(group for group in self.plan.groups if stage in group)
        place = self.plan.groups.index(group)
        watch = OutputWatch(self._bootstrap, stage, self._partitions, self._codec)
        watch.open()
        try:
            limit_s = time.monotonic() + CALM_S
            while time.monotonic() < limit_s:
                watch.first_new_ms(float("inf"), 0.1)
            self._workers[place].kill()
            # What the old process has still written is known before the new one begins.
            watch.first_new_ms(float("inf"), _DRAIN_S)
            times = _Times(stage, connection, self._instrument)
            began_ms = time.time() * 1000
            self._workers[place] = worker = self._start_worker(group)
            if stage == "control":
                insert_command(self._dsn, Command("benchmark", "something to do", ControlAction.CANCEL))
            return self._observe(worker, watch, times, began_ms, minutes)
        finally:
            watch.close()

    def _observe(
        self, worker: ChildProcess, watch: OutputWatch, times: "_Times", began_ms: float, minutes: float
    ) -> Recovery:
        while time.time() * 1000 - began_ms < _LIMIT_S * 1000:
            if not worker.alive():
                raise ServerFailed(f"{worker.name} ended with {worker.exit_code()}: {worker.last_lines(3)}")
            times.look(worker.pid)
            at_ms = times.stored_ms if times.stage == "sinks" else watch.first_new_ms(began_ms, _POLL_S)
            if at_ms is not None:
                return Recovery(
                    times.stage,
                    minutes,
                    _since(times.connected_ms, began_ms),
                    _since(times.claimed_ms, began_ms),
                    (at_ms - began_ms) / 1000,
                )
            time.sleep(_POLL_S)
        raise ServerFailed(f"{times.stage} gave nothing new within {_LIMIT_S:g} s: {worker.last_lines(3)}")

    async def _come_to_rest(self, connection: psycopg.Connection[Any]) -> None:
        """Nothing is summed up, so nothing has to come to rest."""

    def _sum_up(self) -> dict[str, Any]:
        return {}


class _Times:
    """What can be seen of a start from outside: the first connection, the claim, and for sinks the first new row."""

    def __init__(self, stage: str, connection: psycopg.Connection[Any], instrument: str) -> None:
        self.stage = stage
        self._connection = connection
        self._instrument = instrument
        self._epochs = self._sum_of_epochs()
        self._stored = self._newest_stored()
        self.connected_ms: float | None = None
        self.claimed_ms: float | None = None
        self.stored_ms: float | None = None

    def look(self, pid: int) -> None:
        """Look once at everything that has not been seen yet."""
        now_ms = time.time() * 1000
        if self.connected_ms is None:
            self.connected_ms = now_ms if _has_connection(pid) else None
        elif self.claimed_ms is None and self._sum_of_epochs() > self._epochs:
            self.claimed_ms = now_ms
        if self.stage == "sinks" and self.stored_ms is None and self._newest_stored() > self._stored:
            self.stored_ms = now_ms

    def _sum_of_epochs(self) -> int:
        found = self._connection.execute(
            "SELECT coalesce(sum(epoch), 0) FROM shard WHERE stage = %s", (self.stage,)
        ).fetchone()
        assert found is not None
        return int(found[0])

    def _newest_stored(self) -> int:
        if self.stage != "sinks":
            return 0
        found = self._connection.execute(_STORED.encode(), (self._instrument,)).fetchone()
        return int(found[0]) if found is not None and found[0] is not None else 0


def _since(at_ms: float | None, began_ms: float) -> float | None:
    return None if at_ms is None else (at_ms - began_ms) / 1000


def _has_connection(pid: int) -> bool:
    """Tell whether a process has a TCP connection that is up: all its imports are behind it then."""
    try:
        mine = {entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    except (FileNotFoundError, ProcessLookupError):
        return False
    sockets = {name.removeprefix("socket:[").removesuffix("]") for name in mine if name.startswith("socket:[")}
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return any(field[3] == _ESTABLISHED and field[9] in sockets for field in fields)


def single_groups() -> tuple[tuple[str, ...], ...]:
    """Return every stage as a process of its own, in the order of a demo: whoever reads first, first."""
    return tuple((name,) for name in reversed(WORKERS))
