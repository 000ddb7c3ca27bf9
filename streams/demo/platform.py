"""The whole platform on one machine: servers and workers, started in order and stopped in reverse.

What a run is for (a minute to look at, or to go on for months) is the business of whoever derives from this: both start
the same parts in the same way, and whatever happens (a signal, a worker that ends, an error of ours) every process is
stopped and waited for.
"""

import asyncio
import json
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final, Protocol

from rich.console import Console

from infra.audit_keys import development_overrides
from infra.kafka import Security
from infra.kafka_security import security_of
from infra.metrics.metric import EXCHANGE
from infra.people import development_people
from infra.servers import free_port
from infra.servers.process import ChildProcess
from infra.settings import load_settings
from streams.composition import Run, compose
from streams.demo.plan import EMBEDDED, REAL
from streams.demo.servers import start_broker, start_database, start_exchange, start_registry, write_overrides
from streams.demo.starting import unless_stopped
from streams.metrics_port import TARGETS, worker_name, write_targets
from streams.processes import start_worker
from streams.venues import needs_simulated

_STOP_GRACE_S: Final = 6.0


class Plan(Protocol):
    """What was asked for: where a run writes, its broker (``embedded``, ``kafka`` or an address), its processes."""

    @property
    def directory(self) -> Path:
        """Where the run writes."""

    @property
    def settings_file(self) -> Path | None:
        """The settings' file, if not the default one."""

    @property
    def broker(self) -> str:
        """``embedded``, ``kafka`` or host:port."""

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The stages of each process, in the order in which they start."""

    def overrides(self) -> dict[str, Any]:
        """Return the settings that the plan stands for. Raises SettingsError."""


class Platform:
    """The parts of one run. Whoever derives from it says what is done once they run."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        self._stop = asyncio.Event()
        self._directory = plan.directory
        self._settings_file = plan.settings_file
        self._broker = plan.broker
        self._groups = plan.groups
        self._overrides = plan.overrides
        self._workers: list[ChildProcess] = []
        self._run_file = plan.directory / "run.json"
        self._dsn = ""
        self._bootstrap = ""
        self._security: Security = {}
        self._registry = ""
        self._instruments: tuple[str, ...] = ()

    def _end_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)

    @property
    def _starts_broker(self) -> bool:
        return self._broker in (EMBEDDED, REAL)

    async def _start(self, stack: ExitStack, outer: AsyncExitStack) -> Path:
        """Start every server, write down where they are, and return that file.

        Raises SettingsError, ServerFailed, BrokerUnreachable, TopicsDiffer or StartInterrupted.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        overrides = self._overrides()
        run = compose(load_settings(self._settings_file, overrides))
        self._instruments = tuple(run.instruments)
        embedded = await self._open_broker(stack, run)
        found = await self._open_database(stack, run)
        await self._open_registry(run, outer)
        overrides |= self._audit(run) | self._people(run)
        overrides |= {
            "kafka.bootstrap": self._bootstrap,
            **({"kafka.security_protocol": "PLAINTEXT"} if self._starts_broker else {}),
            **found,
            **await unless_stopped(self._stop, self._exchange, stack, run),
            **await self._open_more(stack, run),
        }
        self._run_file = write_overrides(self._directory, overrides, self._groups)
        described = json.loads(self._run_file.read_text()) | {"embedded": embedded, "registry": self._registry}
        described["metrics"] = self._metrics_ports(overrides.get("venue.url"))
        if self._settings_file is not None:
            described["settings"] = str(self._settings_file.resolve())
        self._run_file.write_text(json.dumps(described, indent=1))
        await self._before_workers(self._run_file)
        self._point_to()
        return self._run_file

    def _point_to(self) -> None:
        """Lead the commands that read to this run."""
        lead(self._directory.parent / "latest", self._directory)

    def _metrics_ports(self, exchange: str | None) -> dict[str, int]:
        """Choose a free port for each worker's metrics, and tell a Prometheus where they are; return name -> port.

        ``exchange`` is the URL of the simulated exchange that was started, which tells of itself there.
        """
        ports = {worker_name(group): free_port() for group in self._groups}
        more = {} if exchange is None else {EXCHANGE: int(exchange.rpartition(":")[2])}
        write_targets(self._directory / TARGETS, ports | more)
        return ports

    async def _open_broker(self, stack: ExitStack, run: Run) -> bool:
        """Start or reach the broker; return whether it is the embedded one."""
        self._bootstrap, embedded = await unless_stopped(
            self._stop, start_broker, stack, self._broker, run.settings, self._directory
        )
        if not self._starts_broker:
            self._security = security_of(run.settings.kafka)
        return embedded

    async def _open_database(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        """Start the embedded database; return the settings that name it."""
        del run
        self._dsn = await unless_stopped(self._stop, start_database, stack, self._directory)
        return {"postgres.dsn": self._dsn}

    async def _open_more(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        """Start what else the run has beside it; return the settings that name it."""
        del stack, run
        return {}

    async def _before_workers(self, run_file: Path) -> None:
        """Do what must be done once the servers are up and described."""

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
        url, _ = start_exchange(stack, run, self._directory)
        return {"venue.url": url}

    def _audit(self, run: Run) -> dict[str, str]:
        """Name the key that signs the audit: the one of the settings, or one that is made beside the run's database."""
        if run.settings.audit.key_file is not None:
            return {}
        made = development_overrides(self._directory)
        self._console.print(f"The audit is signed with a development key: {made['audit.key_file']}.", soft_wrap=True)
        return made

    def _people(self, run: Run) -> dict[str, str]:
        """Name the list of people: the one of the settings, or two people made up beside the run's database."""
        if run.settings.people.allow_list_file is not None:
            return {}
        made = development_people(self._directory)
        self._console.print(
            f"Two development people may sign: ann and bob, {self._directory}/ann.key and bob.key.", soft_wrap=True
        )
        return made

    def _start_workers(self, run_file: Path) -> None:
        self._run_file = run_file
        for group in self._groups:
            if not self._stop.is_set():
                self._workers.append(self._start_worker(group))

    def _start_worker(self, group: Sequence[str]) -> ChildProcess:
        return start_worker(group, self._run_file, self._settings_file, self._directory)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    def _end_workers(self) -> None:
        """Ask all to end at once, then wait for each."""
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        for worker in self._workers:
            worker.terminate(_STOP_GRACE_S)
        self._workers.clear()


def lead(link: Path, directory: Path) -> None:
    """Make a link lead to a run's directory, beside it or elsewhere."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(directory.name if link.parent.resolve() == directory.parent else directory)
