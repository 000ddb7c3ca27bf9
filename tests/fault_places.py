"""What surrounds the workers of a fault: the shared servers, or some of its own where the fault would harm others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engine_runs
import engine_toys
from faults import Place
from full_disk import NotHere, small_disk
from secured_kafka import secured_kafka
from statement_wire import StatementWire
from wire import TlsWire, Wire

from infra.kafka import TopicSpec
from infra.kafka_security import security_of
from infra.servers import EmbeddedPostgres, RealKafka, free_port, start_kafka, start_postgres
from infra.servers.kafka_cluster import KafkaCluster, start_kafka_cluster
from infra.servers.ports import LOOPBACK
from infra.settings import load_settings
from infra.topic_specs import topic_specs

COPIES = 3
"""How many brokers a cluster has, and how many copies each topic."""
_DATABASE_DISK = "160m"
_BROKER_DISK = "64m"
_RUN_DISK = "64m"
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_LISTENERS = """
listeners=PLAINTEXT://{host}:{{port}},CONTROLLER://{host}:{{controller}},WIRED://{host}:{behind}
advertised.listeners=PLAINTEXT://{host}:{{port}},WIRED://{host}:{wire}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,WIRED:PLAINTEXT
"""
# Whoever has proved who he is must do so again every few seconds, or is hung up on.
_MAY_ALL = """
super.users=User:ANONYMOUS;User:tradermind
connections.max.reauth.ms=4000
"""


@dataclass(slots=True)
class Servers:
    """One broker and one database for all faults that leave them whole; the broker can be reached over a wire, too."""

    kafka: RealKafka
    postgres: EmbeddedPostgres
    broker_wire: Wire | None = None

    def stop(self) -> None:
        """Stop them."""
        if self.broker_wire is not None:
            self.broker_wire.stop()
        self.kafka.stop()
        self.postgres.stop()


def start_servers(directory: Path) -> Servers:
    """Start both. Raises ServerFailed."""
    wire = Wire(target_port=free_port())
    listeners = _LISTENERS.format(host=LOOPBACK, behind=wire.target_port, wire=wire.port)
    kafka = start_kafka(directory / "kafka", listeners)
    return Servers(kafka, start_postgres(directory / "postgres"), wire.start())


@dataclass(slots=True)
class Around:
    """The servers of one run, and what else the world has. ``settings`` and ``environment`` are the workers'.

    ``bootstrap`` is where everybody but the workers finds Kafka; ``topics`` are those it shall have, if not the usual.
    """

    kafka: RealKafka
    postgres: EmbeddedPostgres
    bootstrap: str
    topics: list[TopicSpec] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    wires: tuple[Wire, StatementWire] | None = None
    tls: TlsWire | None = None
    cluster: KafkaCluster | None = None
    disk: Path | None = None
    clock: Path | None = None


@contextmanager
def surroundings(place: Place, servers: Servers, directory: Path) -> Iterator[Around]:
    """Make what surrounds the workers, and clear it away. Raises NotHere."""
    around = Around(servers.kafka, servers.postgres, servers.kafka.bootstrap)
    with _MAKERS[place](around, servers, directory):
        yield around


@contextmanager
def _plain(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    yield


@contextmanager
def _wired(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    assert servers.broker_wire is not None
    database = StatementWire(target_port=servers.postgres.port).start()
    around.wires = (servers.broker_wire, database)
    around.settings = {"bootstrap": f"{LOOPBACK}:{servers.broker_wire.port}"}
    try:
        yield
    finally:
        database.stop()


@contextmanager
def _secured(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    around.tls = TlsWire(target_port=free_port()).start()
    try:
        with secured_kafka(directory / "kafka", _MAY_ALL, sasl_wire=around.tls) as secured:
            around.kafka, around.bootstrap = secured.server, secured.server.bootstrap
            around.settings = {"bootstrap": secured.sasl.bootstrap, "security": security_of(secured.sasl)}
            yield
    finally:
        around.tls.stop()


@contextmanager
def _cluster(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    around.cluster = start_kafka_cluster(directory / "cluster", COPIES)
    try:
        around.bootstrap = around.cluster.bootstrap
        wanted = {"kafka.replication": COPIES, "kafka.instrument_partitions": engine_toys.PARTITIONS}
        around.topics = topic_specs(load_settings(engine_runs.ROOT / "tradermind.toml", wanted))
        yield
    finally:
        around.cluster.stop()


@contextmanager
def _small_database(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    with small_disk(directory / "disk", _DATABASE_DISK) as around.disk:
        around.postgres = start_postgres(around.disk)
        try:
            yield
        finally:
            around.postgres.kill()


@contextmanager
def _small_broker(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    with small_disk(directory / "kafka" / "data", _BROKER_DISK) as around.disk:
        around.kafka = start_kafka(directory / "kafka")
        around.bootstrap = around.kafka.bootstrap
        try:
            yield
        finally:
            around.kafka.kill()


@contextmanager
def _small_run(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    with small_disk(directory / "logs", _RUN_DISK) as around.disk:
        around.settings = {"metrics": str(around.disk / "influx")}
        yield


@contextmanager
def _own_clock(around: Around, servers: Servers, directory: Path) -> Iterator[None]:
    if not _FAKETIME.exists():
        raise NotHere("setting a wall clock needs libfaketime, which is not on this machine")
    around.clock = directory / "clock"
    around.clock.parent.mkdir(parents=True, exist_ok=True)
    around.clock.write_text("+0s")
    around.environment = {
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(around.clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    yield


_MAKERS = {
    Place.PLAIN: _plain,
    Place.WIRED: _wired,
    Place.SECURED: _secured,
    Place.CLUSTER: _cluster,
    Place.SMALL_DATABASE: _small_database,
    Place.SMALL_BROKER: _small_broker,
    Place.SMALL_RUN: _small_run,
    Place.OWN_CLOCK: _own_clock,
}
