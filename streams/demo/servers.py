"""The servers of a run on one machine: broker, database, exchange, registry. Started in order, stopped in reverse."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from agents.sim.instruments import START_PRICES
from agents.sim.regimes import Regime
from infra.kafka import Security, topic_partitions
from infra.kafka_security import security_of
from infra.kafka_topics import mend_topics
from infra.postgres.migrate import migrate
from infra.registry import EmbeddedRegistry
from infra.servers import start_embedded_broker, start_kafka, start_postgres
from infra.servers.process import ChildProcess, Launch, start_process, wait_until_ready
from infra.settings import Settings
from infra.topic_specs import topic_specs
from schemas.schema_table import SchemaTable
from schemas.values import NS_PER_MS, units
from streams.composition import Run
from streams.demo.plan import EMBEDDED, REAL
from streams.exchange_core import ExchangeConfig
from streams.processes import python_module

_EXCHANGE_READY_S: Final = 30.0


def start_broker(stack: ExitStack, broker: str, settings: Settings, directory: Path) -> tuple[str, bool]:
    """Start or reach the broker with all topics made; return its address and whether it is the embedded one.

    Raises ServerFailed, BrokerUnreachable or TopicsDiffer with one clear sentence.
    """
    specs = topic_specs(settings)
    if broker == EMBEDDED:
        embedded = start_embedded_broker(directory, {spec.name: spec.partitions for spec in specs})
        stack.callback(embedded.stop)
        return embedded.bootstrap, True
    security: Security = {}
    if broker == REAL:
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        bootstrap = kafka.bootstrap
    else:
        bootstrap = broker
        security = security_of(settings.kafka)
        topic_partitions(bootstrap, security)
    mend_topics(bootstrap, specs, security)
    return bootstrap, False


def start_database(stack: ExitStack, directory: Path) -> str:
    """Start the embedded database, migrated; return its DSN."""
    postgres = start_postgres(directory)
    stack.callback(postgres.stop)
    migrate(postgres.dsn)
    return postgres.dsn


def start_exchange(stack: ExitStack, run: Run, directory: Path) -> tuple[str, ChildProcess]:
    """Start the simulated exchange for this run; return its URL."""
    return launch_exchange(stack, exchange_config(run, directory), directory)


def exchange_config(run: Run, directory: Path) -> ExchangeConfig:
    """Return the exchange that suits this run, with its record below ``directory``."""
    settings = run.settings
    simulated = {name: run.instruments[name] for name in sorted(run.fed)}
    fill_max = {
        name: units(item.quote_fill_max)
        for name, item in settings.instruments.items()
        if name in simulated and item.quote_fill_max is not None
    }
    return ExchangeConfig(
        mode="replay" if run.on_capture else "full",
        instruments=tuple(simulated.values()),
        seed=settings.sim.seed if settings.sim.seed is not None else settings.run.seed,
        regime=None if settings.sim.regime == "mixed" else Regime[settings.sim.regime.upper()],
        start_prices={} if run.on_capture else {name: START_PRICES[name] for name in simulated},
        latency_ns=settings.venue.latency_ms * NS_PER_MS,
        receive_window_ns=settings.venue.receive_window_ms * NS_PER_MS,
        clock_ahead_max_ns=settings.venue.clock_skew_max_ms * NS_PER_MS,
        captures=tuple(str(path) for path in settings.feed.paths),
        fill_max=fill_max,
        excess={name: item.excess for name, item in settings.costs.items() if name in simulated and item.excess > 0},
        record=str(directory / "exchange.record"),
        api_key_file=_resolved(settings.venue.api_key_file),
        secret_file=_resolved(settings.venue.secret_file),
    )


def _resolved(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def launch_exchange(
    stack: ExitStack, config: ExchangeConfig, directory: Path, module: str = "streams.exchange"
) -> tuple[str, ChildProcess]:
    """Start an exchange, ended with ``stack``; return its URL. ``module`` is run as ``streams.exchange`` would be."""
    config_file, port_file = directory / "exchange.json", directory / "exchange.port"
    config_file.write_bytes(msgspec.json.encode(config))
    port_file.unlink(missing_ok=True)
    command = [*python_module(module), "--config", str(config_file), "--port-file", str(port_file)]
    child = start_process(Launch("The exchange", command, directory / "logs" / "exchange.log"))
    stack.callback(child.terminate, 5)
    wait_until_ready(child, port_file.exists, _EXCHANGE_READY_S)
    return f"http://127.0.0.1:{int(port_file.read_text())}", child


async def start_registry() -> tuple[web.AppRunner, str]:
    """Serve the committed schemas on a loopback port of this process; the caller cleans the runner up."""
    runner = web.AppRunner(EmbeddedRegistry(SchemaTable.committed()).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def write_overrides(directory: Path, values: dict[str, Any], groups: Sequence[Sequence[str]]) -> Path:
    """Write what the workers of a run, and the reading commands, must know; return the file."""
    file = directory / "run.json"
    file.write_text(json.dumps({"overrides": values, "groups": [list(group) for group in groups]}, indent=1))
    return file
