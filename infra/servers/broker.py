"""Start the embedded broker in a process of its own, and tell where it is."""

import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from infra.servers.child_server import ChildServer
from infra.servers.process import ChildProcess, Launch, start_process, wait_until_ready

_START_S: Final = 20.0
_CREATE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class EmbeddedBroker(ChildServer):
    """A running embedded broker. What it holds is gone when it ends, so there is no restart.

    ``bootstrap`` is host:port. ``cluster_id`` is what its metadata tells any client; no two brokers share one.
    """

    bootstrap: str
    cluster_id: str
    process: ChildProcess
    port_file: Path
    STOP_S: ClassVar[float] = 5.0

    @property
    def port(self) -> int:
        """The loopback port it listens on."""
        return int(self.bootstrap.rpartition(":")[2])

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create topics, name -> partitions, while it runs; those that are there with that count are left alone.

        Raises ServerFailed when it refuses; it is then gone.
        """
        topics_file(self.port_file).write_text(json.dumps(dict(topics)))
        self.process.send(signal.SIGHUP)
        wait_until_ready(self.process, lambda: self._has(topics), _CREATE_S)

    def _has(self, topics: Mapping[str, int]) -> bool:
        present = json.loads(self.port_file.read_text())["topics"]
        return all(present.get(name) == partitions for name, partitions in topics.items())


def start_embedded_broker(directory: Path, topics: Mapping[str, int]) -> EmbeddedBroker:
    """Start the broker with these topics (name -> partitions); ``directory`` takes its port file and log.

    Raises ServerFailed.
    """
    port_file = directory.resolve() / "broker.json"
    port_file.parent.mkdir(parents=True, exist_ok=True)
    port_file.unlink(missing_ok=True)
    program = [sys.executable, "-m", "infra.servers.broker_embedded"]
    arguments = ["--port-file", str(port_file), "--topics", json.dumps(dict(topics))]
    root = str(Path(__file__).resolve().parents[2])
    log = directory / "logs" / "broker.log"
    child = start_process(Launch("The embedded broker", [*program, *arguments], log, {"PYTHONPATH": root}))
    wait_until_ready(child, port_file.exists, _START_S)
    told = json.loads(port_file.read_text())
    return EmbeddedBroker(told["bootstrap"], told["cluster_id"], child, port_file)


def topics_file(port_file: Path) -> Path:
    """Return the file that SIGHUP makes the broker read: JSON, topic name -> partitions."""
    return port_file.with_name(port_file.name + ".topics")
