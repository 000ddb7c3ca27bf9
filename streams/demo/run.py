"""The whole platform for a while: watched, brought to rest, summed up."""

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.live import Live

from infra.servers.process import ServerFailed
from streams.demo.book_check import check_book
from streams.demo.plan import DemoPlan
from streams.demo.platform import Platform
from streams.demo.starting import StartInterrupted, unless_stopped
from streams.demo.status import Snapshot, read_snapshot
from streams.demo.summary import records_to_store, summarise
from streams.demo.table import live_table
from streams.processes import settings_of_run
from streams.restore_fresh import begin_at_the_end

_READY_S: Final = 60.0
_REFRESH_S: Final = 0.5
_REST_ROUNDS: Final = 4
_REST_S: Final = 60.0
_STOP_GRACE_S: Final = 6.0


class Demo(Platform):
    """One demo, from start to summary."""

    def __init__(self, plan: DemoPlan, console: Console) -> None:
        super().__init__(plan, console)
        self.plan = plan

    async def run(self) -> dict[str, Any] | None:
        """Return the summary, or None when the run was ended before its workers were ready.

        Raises SettingsError, FeedFailed, ServerFailed, BrokerUnreachable or TopicsDiffer with one clear sentence.
        """
        self._end_on_signals()
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

    async def _before_workers(self, run_file: Path) -> None:
        if not self._starts_broker:
            # A broker of somebody's may hold the logs of former runs, of which this run's database knows nothing.
            await unless_stopped(self._stop, begin_at_the_end, settings_of_run(run_file, self._settings_file))

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

    def _sum_up(self) -> dict[str, Any]:
        summary = summarise(self._dsn, self._bootstrap, self._security)
        # Of a long run this reads for many seconds; who has pressed Ctrl-C does not wait for it.
        checked = () if self._stop.is_set() else self._instruments
        summary["book_against_venue"] = {name: check_book(self._dsn, name) for name in checked}
        return summary
