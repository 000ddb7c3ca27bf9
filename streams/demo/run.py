"""Runs the whole platform: starts servers and workers, watches them, stops them in order, sums up.

Whatever happens (a signal, a worker that ends, an error of ours) every process is stopped and waited for.
"""

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.live import Live

from infra.audit_keys import development_overrides
from infra.kafka import Security
from infra.kafka_security import security_of
from infra.people import development_people
from infra.servers.process import ChildProcess, ServerFailed
from infra.settings import load_settings
from streams.composition import Run, compose
from streams.demo.book_check import check_book
from streams.demo.plan import EMBEDDED, REAL, DemoPlan
from streams.demo.servers import (
    start_broker,
    start_database,
    start_exchange,
    start_registry,
    write_overrides,
)
from streams.demo.starting import StartInterrupted, unless_stopped
from streams.demo.status import Snapshot, read_snapshot
from streams.demo.summary import records_to_store, summarise
from streams.demo.table import live_table
from streams.processes import settings_of_run, start_worker
from streams.restore_fresh import begin_at_the_end
from streams.venues import needs_simulated

_READY_S: Final = 60.0
_REFRESH_S: Final = 0.5
_REST_ROUNDS: Final = 4
_REST_S: Final = 60.0
_STOP_GRACE_S: Final = 6.0


class Demo:
    """One demo, from start to summary."""

    def __init__(self, plan: DemoPlan, console: Console) -> None:
        self.plan = plan
        self._console = console
        self._stop = asyncio.Event()
        self._workers: list[ChildProcess] = []
        self._dsn = ""
        self._bootstrap = ""
        self._security: Security = {}
        self._registry = ""
        self._instruments: tuple[str, ...] = ()

    async def run(self) -> dict[str, Any] | None:
        """Return the summary, or None when the run was ended before its workers were ready.

        Raises SettingsError, FeedFailed, ServerFailed, BrokerUnreachable or TopicsDiffer with one clear sentence.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            async with AsyncExitStack() as outer:
                return await self._run(outer)
        except StartInterrupted:
            return None

    async def _run(self, outer: AsyncExitStack) -> dict[str, Any] | None:
        stack = outer.enter_context(ExitStack())
        run_file = await self._start(stack, outer)
        # Before any server of theirs: a worker whose broker has gone takes its time to notice that it is to end.
        stack.callback(self._end_workers)
        self._start_workers(run_file)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            if not await self._watch(connection):
                return None
            await self._come_to_rest(connection)
        self._end_workers()
        return self._sum_up()

    async def _start(self, stack: ExitStack, outer: AsyncExitStack) -> Path:
        plan = self.plan
        plan.directory.mkdir(parents=True, exist_ok=True)
        overrides = plan.overrides()
        run = compose(load_settings(plan.settings_file, overrides))
        self._instruments = tuple(run.instruments)
        self._bootstrap, embedded = await unless_stopped(
            self._stop, start_broker, stack, plan.broker, run.settings, plan.directory
        )
        if plan.broker not in (EMBEDDED, REAL):
            self._security = security_of(run.settings.kafka)
        self._dsn = await unless_stopped(self._stop, start_database, stack, plan.directory)
        await self._open_registry(run, outer)
        overrides |= self._audit(run) | self._people(run)
        overrides |= {
            "kafka.bootstrap": self._bootstrap,
            **({"kafka.security_protocol": "PLAINTEXT"} if plan.broker in (EMBEDDED, REAL) else {}),
            "postgres.dsn": self._dsn,
            **await unless_stopped(self._stop, self._exchange, stack, run),
        }
        run_file = write_overrides(plan.directory, overrides, plan.groups)
        described = json.loads(run_file.read_text()) | {"embedded": embedded, "registry": self._registry}
        if plan.settings_file is not None:
            described["settings"] = str(plan.settings_file.resolve())
        run_file.write_text(json.dumps(described, indent=1))
        if plan.broker not in (EMBEDDED, REAL):
            # A broker of somebody's may hold the logs of former runs, of which this run's database knows nothing.
            await unless_stopped(self._stop, begin_at_the_end, settings_of_run(run_file, plan.settings_file))
        _point_to(plan.directory)
        return run_file

    async def _open_registry(self, run: Run, outer: AsyncExitStack) -> None:
        """Name the registry that outsiders ask: the one of the settings, or one that serves the committed table."""
        if run.settings.registry.url is not None:
            self._registry = run.settings.registry.url
            return
        runner, self._registry = await start_registry()
        outer.push_async_callback(runner.cleanup)

    def _exchange(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        if run.settings.venue.url is not None or not needs_simulated(run):
            return {}
        url, _ = start_exchange(stack, run, self.plan.directory)
        return {"venue.url": url}

    def _audit(self, run: Run) -> dict[str, str]:
        """Name the key that signs the audit: the one of the settings, or one that is made beside the run's database."""
        if run.settings.audit.key_file is not None:
            return {}
        made = development_overrides(self.plan.directory)
        self._console.print(f"The audit is signed with a development key: {made['audit.key_file']}.", soft_wrap=True)
        return made

    def _people(self, run: Run) -> dict[str, str]:
        """Name the list of people: the one of the settings, or two people made up beside the run's database."""
        if run.settings.people.allow_list_file is not None:
            return {}
        made = development_people(self.plan.directory)
        self._console.print(
            f"Two development people may sign: ann and bob, {self.plan.directory}/ann.key and bob.key.", soft_wrap=True
        )
        return made

    def _start_workers(self, run_file: Path) -> None:
        for group in self.plan.groups:
            if not self._stop.is_set():
                self._workers.append(start_worker(group, run_file, self.plan.settings_file, self.plan.directory))

    async def _watch(self, connection: psycopg.Connection[Any]) -> bool:
        """Show the live table until the time is up, the capture has ended, or a signal; False if never ready."""
        expected = {stage for group in self.plan.groups for stage in group}
        began = time.monotonic()
        ready_at: float | None = None
        with Live(console=self._console, transient=False, refresh_per_second=4) as live:
            while not self._stop.is_set():
                self._check_workers()
                snapshot = read_snapshot(connection)
                if ready_at is None:
                    if expected <= snapshot.stages.keys():
                        ready_at = time.monotonic()
                    elif time.monotonic() - began > _READY_S:
                        missing = ", ".join(sorted(expected - snapshot.stages.keys()))
                        raise ServerFailed(f"After {_READY_S:g} s these workers have not reported: {missing}.")
                live.update(live_table(snapshot, self._headline(ready_at)))
                if ready_at is not None and self._is_over(snapshot, ready_at):
                    break
                await self._pause(_REFRESH_S)
        self._console.print()
        # Who presses Ctrl-C just when the last worker has come up gets the summary all the same.
        return ready_at is not None or expected <= read_snapshot(connection).stages.keys()

    def _headline(self, ready_at: float | None) -> str:
        plan = self.plan
        if ready_at is None:
            return f"TraderMind: starting on {self._bootstrap} ..."
        lasts = f" of {plan.lasts_s:g} s" if plan.lasts_s is not None else " (to the end of the capture)"
        elapsed_s = time.monotonic() - ready_at
        return (
            f"TraderMind: {plan.feed} on {plan.broker} ({self._bootstrap}), {elapsed_s:.0f} s{lasts}; "
            f"registry {self._registry}; Ctrl-C ends it"
        )

    def _is_over(self, snapshot: Snapshot, ready_at: float) -> bool:
        if snapshot.feed_finished:
            return True
        return self.plan.lasts_s is not None and time.monotonic() - ready_at >= self.plan.lasts_s

    async def _come_to_rest(self, connection: psycopg.Connection[Any]) -> None:
        """Stop the feed, then wait until nothing moves any more, so that the summary tells of everything."""
        for worker in self._workers:
            if "ingestion" in worker.name:
                await asyncio.to_thread(worker.terminate, _STOP_GRACE_S)
        if self._stop.is_set():
            return
        deadline = time.monotonic() + _REST_S
        last, still = -1, 0
        while still < _REST_ROUNDS and time.monotonic() < deadline and not self._stop.is_set():
            await self._pause(1.0)
            snapshot = read_snapshot(connection)
            due = await asyncio.to_thread(records_to_store, self._bootstrap, self._security)
            stored = snapshot.stages.get("sinks", {}).get("records", 0)
            # The last to hear of anything are the sinks, and on a loaded machine they may be a while behind.
            at_rest = snapshot.records == last and stored >= due
            still = still + 1 if at_rest else 0
            last = snapshot.records

    def _check_workers(self) -> None:
        for worker in self._workers:
            if not worker.alive():
                raise ServerFailed(f"{worker.name} ended with code {worker.exit_code()}: {worker.last_lines(3)}")

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    def _end_workers(self) -> None:
        """Ask all to end at once, then wait for each."""
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        for worker in self._workers:
            worker.terminate(_STOP_GRACE_S)
        self._workers.clear()

    def _sum_up(self) -> dict[str, Any]:
        summary = summarise(self._dsn, self._bootstrap, self._security)
        # Of a long run this reads for many seconds; who has pressed Ctrl-C does not wait for it.
        checked = () if self._stop.is_set() else self._instruments
        summary["book_against_venue"] = {name: check_book(self._dsn, name) for name in checked}
        return summary


def _point_to(directory: Path) -> None:
    """Make ``latest`` beside the run's directory lead to it, for the commands that read."""
    link = directory.parent / "latest"
    link.unlink(missing_ok=True)
    link.symlink_to(directory.name)
