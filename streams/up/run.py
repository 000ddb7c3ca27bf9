"""The platform for good: every part is started, watched and started again, until somebody ends it."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.live import Live

from infra.kafka import BrokerUnreachable, topic_partitions
from infra.servers.process import ChildProcess, ServerFailed
from streams.cli_record import LATEST_RUN
from streams.composition import Run
from streams.demo.platform import Platform, lead
from streams.demo.starting import StartInterrupted, unless_stopped
from streams.metrics_port import TARGETS
from streams.processes import start_worker
from streams.up.parts import REFUSED, Part
from streams.up.plan import INFLUX, PROMETHEUS, UpPlan
from streams.up.presence import held, tell
from streams.up.servers import open_broker, open_database, open_exchange, open_influx, open_monitoring
from streams.up.status import read_standing, standing_table
from streams.venues import needs_simulated

_READY_S: Final = 120.0
_LOOK_S: Final = 0.5
_SHOW_EVERY: Final = 4
_ANSWER_S: Final = 3.0


class Up(Platform):
    """One platform on one machine, until it is told to end."""

    def __init__(self, plan: UpPlan, console: Console) -> None:
        super().__init__(plan, console)
        self.plan = plan
        self.parts: list[Part] = []
        self.addresses: dict[str, str] = {}
        self._servers = ExitStack()
        self._away: str | None = None
        self._began = ""

    async def run(self) -> int:
        """Return 0 when it was ended, 1 when it was and a worker had been left down.

        Raises SettingsError, ServerFailed, BrokerUnreachable, TopicsDiffer or psycopg.OperationalError.
        """
        self._end_on_signals()
        with held(self._directory):
            try:
                async with AsyncExitStack() as outer:
                    return await self._run(outer)
            except StartInterrupted:
                return 0

    async def _run(self, outer: AsyncExitStack) -> int:
        stack = outer.enter_context(self._servers)
        run_file = await self._start(stack, outer)
        # Before any server of theirs: a worker whose broker has gone takes its time to notice that it is to end.
        stack.callback(self._end_workers)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            row = connection.execute("SELECT now()::text").fetchone()
        self._began = str(row[0]) if row else ""
        self._start_workers(run_file)
        self._list_workers()
        await self._watch()
        self._say("Ending: workers first, then their servers.")
        self._end_workers()
        return int(any(part.refusal is not None for part in self.parts))

    def _point_to(self) -> None:
        lead(LATEST_RUN, self._directory)

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True, highlight=False)

    async def _open_broker(self, stack: ExitStack, run: Run) -> bool:
        self._bootstrap, parts = await unless_stopped(
            self._stop, open_broker, stack, self._broker, run.settings, self._directory, self._say
        )
        self.parts += parts
        return False

    async def _open_database(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        settings = run.settings.postgres
        self._dsn, parts = await unless_stopped(
            self._stop, open_database, stack, run.settings, self._directory, self._say
        )
        self.parts += parts
        if settings.dsn is None:
            return {"postgres.dsn": self._dsn}
        # What is written down names the password's file and never holds it.
        secret = (
            {} if settings.password_file is None else {"postgres.password_file": str(settings.password_file.resolve())}
        )
        return {"postgres.dsn": settings.dsn, **secret}

    def _exchange(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        if run.settings.venue.url is not None or not needs_simulated(run):
            return {}
        url, parts = open_exchange(stack, run, self._directory, self._say)
        self.parts += parts
        self.addresses["exchange"] = url
        return {"venue.url": url}

    async def _open_more(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        """Start InfluxDB, unless the settings name one or it was left out. Where it cannot be had, say so and go on."""
        influx = run.settings.influx
        if influx.url is not None:
            self.addresses["InfluxDB"] = influx.url
            return {}
        if INFLUX in self.plan.without:
            return {}
        try:
            server, parts = await unless_stopped(self._stop, open_influx, stack, self._directory, self._say)
        except ServerFailed as error:
            self._say(f"[bold red]Without InfluxDB[/]: {error} Its points go to files below {self._directory}/influx.")
            return {}
        self.parts += parts
        self.addresses["InfluxDB"] = server.url
        return {
            "influx.url": server.url,
            "influx.org": server.org,
            "influx.bucket": server.bucket,
            "influx.token_file": str(server.token_file),
        }

    async def _before_workers(self, run_file: Path) -> None:
        """Start Prometheus and Alertmanager, which find the workers by a file beside the run's."""
        stack, targets = self._servers, run_file.with_name(TARGETS)
        if PROMETHEUS in self.plan.without:
            return
        try:
            urls, parts = await unless_stopped(self._stop, open_monitoring, stack, self._directory, targets, self._say)
        except ServerFailed as error:
            self._say(f"[bold red]Without Prometheus and its alerts[/]: {error}")
            return
        self.parts += parts
        self.addresses |= urls

    def _start_worker(self, group: Sequence[str]) -> ChildProcess:
        instance = f"up-{'-'.join(group)}"
        return start_worker(group, self._run_file, self._settings_file, self._directory, instance=instance)

    def _list_workers(self) -> None:
        """Make each worker a part that is started again. It stays at its place among those that are ended together."""
        for place, group in enumerate(self._groups[: len(self._workers)]):
            self.parts.append(
                Part(
                    self._workers[place].name,
                    lambda place=place: self._workers[place],  # type: ignore[misc]
                    lambda place=place, group=group: self._start_anew(place, group),  # type: ignore[misc]
                    self._say,
                    final_code=REFUSED,
                )
            )

    def _start_anew(self, place: int, group: Sequence[str]) -> None:
        self._workers[place] = self._start_worker(group)

    async def _watch(self) -> None:
        """Look after every part until told to end."""
        ready = False
        live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        looks = 0
        with live or nullcontext():
            while not self._stop.is_set():
                await self._look_after()
                if looks % _SHOW_EVERY == 0:
                    standing = await asyncio.to_thread(read_standing, self._dsn, self._began)
                    if not ready and standing is not None and self._all_told(standing.stages):
                        ready = True
                        self._announce()
                    if live is not None:
                        live.update(standing_table(standing, self.parts, self._headline(ready)), refresh=True)
                looks += 1
                await self._pause(_LOOK_S)

    def _all_told(self, stages: Any) -> bool:
        return {stage for group in self._groups for stage in group} <= set(stages)

    def _headline(self, ready: bool) -> str:
        what = "up" if ready else "starting"
        return f"TraderMind is {what} in {self._directory}; Ctrl-C ends it, and `tradermind up` goes on."

    def _announce(self) -> None:
        described = json.loads(self._run_file.read_text())
        self.addresses = {
            "Kafka": self._bootstrap,
            "Postgres": described["overrides"]["postgres.dsn"],
            "schema registry": self._registry,
            **self.addresses,
            **{
                f"metrics of {name}": f"http://127.0.0.1:{port}/metrics"
                for name, port in described.get("metrics", {}).items()
            },
        }
        for name, address in self.addresses.items():
            self._say(f"  {name:<28} {address}")
        self._say("Every worker has reported: TraderMind is up. Ctrl-C or `tradermind down` ends it; its data stays.")
        tell(self._directory, self.addresses, ready=True)

    async def _look_after(self) -> None:
        for part in self.parts:
            part.notice()
        for part in self.parts:
            if not part.is_due or self._stop.is_set():
                continue
            if part.final_code is not None and not await self._servers_answer():
                return
            await asyncio.to_thread(part.start)

    async def _servers_answer(self) -> bool:
        """Return whether what every worker needs is there; what is away is told once, and again when it is back."""
        away = await asyncio.to_thread(self._what_is_away)
        if away != self._away and (away or self._away):
            self._say(f"Workers wait: {away}" if away else "Broker and database answer again.")
        self._away = away
        return away is None

    def _what_is_away(self) -> str | None:
        try:
            topic_partitions(self._bootstrap, self._security, timeout_s=_ANSWER_S)
            psycopg.connect(self._dsn, connect_timeout=int(_ANSWER_S)).close()
        except BrokerUnreachable as error:
            return str(error)
        except psycopg.OperationalError as error:
            return f"the database does not answer ({str(error).splitlines()[0]})."
        return None
