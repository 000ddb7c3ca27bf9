"""The servers of a platform that stays: each goes on with its data and, where it can, on the port that it had."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from msgspec.structs import replace

from infra.kafka import topic_partitions
from infra.kafka_security import security_of
from infra.kafka_topics import mend_topics
from infra.postgres.migrate import migrate
from infra.servers import KafkaMissing, free_port, start_kafka, start_postgres
from infra.servers.influx import RealInflux, start_influx
from infra.servers.process import ChildProcess
from infra.servers.prometheus import start_alertmanager, start_prometheus
from infra.settings import Settings
from infra.topic_specs import topic_specs
from streams.composition import Run
from streams.demo.plan import REAL
from streams.demo.servers import exchange_config, launch_exchange
from streams.up.parts import Part

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
"""Where rules and routes lie in a checkout; a wheel has none."""
Say = Callable[[str], None]


def open_broker(stack: ExitStack, broker: str, settings: Settings, directory: Path, say: Say) -> tuple[str, list[Part]]:
    """Start Kafka on the logs that it left, or reach the one of the settings; return its address, all topics made.

    Raises KafkaMissing, ServerFailed, BrokerUnreachable or TopicsDiffer.
    """
    specs = topic_specs(settings)
    if broker != REAL:
        security = security_of(settings.kafka)
        topic_partitions(broker, security)
        mend_topics(broker, specs, security)
        return broker, []
    try:
        kafka = start_kafka(directory / "kafka", keep=True)
    except KafkaMissing as error:
        raise KafkaMissing(f"{error} For `tradermind up` that address is kafka.bootstrap in the settings.") from error
    stack.callback(kafka.stop)
    mend_topics(kafka.bootstrap, specs, {})
    return kafka.bootstrap, [Part("Kafka", lambda: kafka.process, kafka.restart, say)]


def open_database(stack: ExitStack, settings: Settings, directory: Path, say: Say) -> tuple[str, list[Part]]:
    """Start Postgres on the data that it left, or reach the one of the settings; return its DSN, migrated.

    Raises ServerFailed, SchemaRefused, or psycopg.OperationalError for one that does not answer.
    """
    given = settings.postgres.conninfo()
    if given is None:
        note = directory / "postgres.port"
        postgres = start_postgres(directory, _former_port(note))
        stack.callback(postgres.stop)
        note.write_text(f"{postgres.port}\n")
        migrate(postgres.dsn)
        return postgres.dsn, [Part("Postgres", lambda: postgres.process, postgres.restart, say)]
    migrate(given)
    return given, []


def open_exchange(stack: ExitStack, run: Run, directory: Path, say: Say) -> tuple[str, list[Part]]:
    """Start the simulated exchange on the record that it left; return its URL."""
    config = replace(exchange_config(run, directory), port=_former_port(directory / "exchange.port"))
    url, child = launch_exchange(stack, config, directory)
    kept = [child]

    def again() -> None:
        # The stack ends only the last one that it was told of, and those before it have ended.
        kept.append(launch_exchange(stack, replace(config, port=int(url.rpartition(":")[2])), directory)[1])

    return url, [Part("The exchange", lambda: kept[-1], again, say)]


def open_influx(stack: ExitStack, directory: Path, say: Say) -> tuple[RealInflux, list[Part]]:
    """Start InfluxDB on the data that it left. Raises InfluxMissing or ServerFailed."""
    influx = start_influx(directory / "influxdb")
    stack.callback(influx.stop)
    return influx, [Part("InfluxDB", lambda: influx.process, influx.restart, say)]


def open_monitoring(stack: ExitStack, directory: Path, targets: Path, say: Say) -> tuple[dict[str, str], list[Part]]:
    """Start Alertmanager and Prometheus with the committed rules; return name -> URL. Raises ServerFailed."""
    rules, routes = DEPLOY / "prometheus" / "rules", DEPLOY / "alertmanager" / "alertmanager.yaml"
    if not rules.is_dir():
        say(f"There are no alert rules at {rules}, so Prometheus only keeps the series.")
    ours = rules if rules.is_dir() else None
    manager = _Kept(
        directory / "alertmanager",
        lambda place, port: start_alertmanager(place, config=routes if routes.is_file() else None, port=port),
    )
    stack.callback(manager.stop)
    url = manager.url
    server = _Kept(
        directory / "prometheus",
        lambda place, port: start_prometheus(place, targets, ours, alertmanager=url, port=port),
    )
    stack.callback(server.stop)
    parts = [
        Part("Alertmanager", lambda: manager.process, manager.again, say),
        Part("Prometheus", lambda: server.process, server.again, say),
    ]
    return {"Prometheus": server.url, "Alertmanager": manager.url}, parts


class _Server(Protocol):
    """What a server of the monitoring is to us."""

    url: str
    process: ChildProcess
    port: int

    def stop(self) -> None:
        """Shut it down in order."""


class _Kept:
    """A server that is started with a place and a port, and again with the same."""

    def __init__(self, place: Path, start: Callable[[Path, int], _Server]) -> None:
        self._place = place
        self._start = start
        note = place.with_suffix(".port")
        self._server = start(place, _former_port(note))
        note.write_text(f"{self._server.port}\n")

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def process(self) -> ChildProcess:
        return self._server.process

    def stop(self) -> None:
        self._server.stop()

    def again(self) -> None:
        self._server = self._start(self._place, self._server.port)


def _former_port(note: Path) -> int:
    """Return the port noted in a file if it is still to be had, else a free one."""
    text = note.read_text().strip() if note.exists() else ""
    return free_port(int(text) if text.isdigit() else None)
