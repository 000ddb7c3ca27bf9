"""What surrounds the workers of a fault: the shared servers, or some of its own where the fault would harm others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import Place
from full_disk import NotHere, small_disk
from wire import Wire

from infra.servers import EmbeddedPostgres, RealKafka, free_port, start_kafka, start_postgres
from infra.servers.ports import LOOPBACK

_DATABASE_DISK = "160m"
_BROKER_DISK = "64m"
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_LISTENERS = """
listeners=PLAINTEXT://{host}:{{port}},CONTROLLER://{host}:{{controller}},WIRED://{host}:{behind}
advertised.listeners=PLAINTEXT://{host}:{{port}},WIRED://{host}:{wire}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,WIRED:PLAINTEXT
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
    """The servers of one run, and what else the world has. ``settings`` and ``environment`` are the workers'."""

    kafka: RealKafka
    postgres: EmbeddedPostgres
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    wires: tuple[Wire, Wire] | None = None
    disk: Path | None = None
    clock: Path | None = None


@contextmanager
def surroundings(place: Place, servers: Servers, directory: Path) -> Iterator[Around]:
    """Make what surrounds the workers, and clear it away. Raises NotHere."""
    around = Around(servers.kafka, servers.postgres)
    match place:
        case Place.PLAIN:
            yield around
        case Place.WIRED:
            assert servers.broker_wire is not None
            database = Wire(target_port=servers.postgres.port).start()
            around.wires = (servers.broker_wire, database)
            around.settings = {"bootstrap": f"{LOOPBACK}:{servers.broker_wire.port}"}
            try:
                yield around
            finally:
                database.stop()
        case Place.SMALL_DATABASE:
            with small_disk(directory / "disk", _DATABASE_DISK) as around.disk:
                around.postgres = start_postgres(around.disk)
                try:
                    yield around
                finally:
                    around.postgres.kill()
        case Place.SMALL_BROKER:
            with small_disk(directory / "kafka" / "data", _BROKER_DISK) as around.disk:
                around.kafka = start_kafka(directory / "kafka")
                try:
                    yield around
                finally:
                    around.kafka.kill()
        case Place.OWN_CLOCK:
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
            yield around
