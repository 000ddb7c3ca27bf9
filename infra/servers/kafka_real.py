"""Apache Kafka 4.1 (KRaft), fetched by Maven and run with plain java on loopback ports: one node of it, or several."""

import base64
import re
import shutil
import signal
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from infra.kafka import BrokerUnreachable, cluster_id
from infra.servers.child_server import ChildServer
from infra.servers.fetching import DEPENDENCY_PLUGIN, cache_directory, fetch_once, run_maven
from infra.servers.ports import LOOPBACK, free_port, port_is_open
from infra.servers.process import ChildProcess, Launch, ServerFailed, run_to_end, start_process, wait_until_ready

VERSION: Final = "4.1.1"
_FETCH: Final = f"{DEPENDENCY_PLUGIN}:copy-dependencies"
_FORMAT_S: Final = 60.0
_START_S: Final = 60.0
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tradermind</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""
# After a kill the controller takes no broker of the same number until the dead one's session is over: 9 s if not told.
_PROPERTIES: Final = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
_PORTS: Final = re.compile(r"^listeners=PLAINTEXT://[^:]*:(\d+),CONTROLLER://[^:]*:(\d+)$", re.MULTILINE)
# The heap is small because a test machine is. This broker lives for minutes: only the first, quick compiler works,
# since the second would take a core from the workers just while something is measured.
_JAVA: Final = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-XX:TieredStopAtLevel=1",
)
_LOGGING: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class KafkaMissing(ServerFailed):
    """Real Kafka cannot be run here, and why, in one clear sentence."""


@dataclass(slots=True)
class RealKafka(ChildServer):
    """A running broker; its data stays in ``directory`` over a stop, a kill and a restart."""

    bootstrap: str
    directory: Path
    process: ChildProcess
    port: int
    STOP_S: ClassVar[float] = 20.0

    def restart(self) -> None:
        """Start it again on the same port and data; it is stopped first if it runs. Raises ServerFailed."""
        self.stop()
        self.process = _run(self.directory, self.port)


def start_kafka(
    directory: Path, more_properties: str = "", format_arguments: Sequence[str] = (), *, keep: bool = False
) -> RealKafka:
    """Start a broker, made afresh, below ``directory``. Raises KafkaMissing or ServerFailed.

    ``more_properties`` follow its own and win; ``{port}`` and ``{controller}`` in them are its plain-text ports.
    ``format_arguments`` go to Kafka's storage tool, which makes the first users. With ``keep`` a broker whose data is
    there goes on with it, on the ports that it had unless somebody has taken them.
    """
    directory = directory.resolve()
    former = KafkaNode.found(directory) if keep else None
    node = former or KafkaNode(directory, free_port(), free_port())
    if former is None:
        node.make(cluster_uuid(), more_properties, format_arguments)
    else:
        node.describe(more_properties)
    child = node.launch()
    wait_until_answers(child, node.port)
    return RealKafka(f"{LOOPBACK}:{node.port}", node.directory, child, node.port)


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """The place and the two plain-text ports of a node, before it runs."""

    directory: Path
    port: int
    controller: int

    @classmethod
    def found(cls, directory: Path) -> "KafkaNode | None":
        """Return the node whose data lies below ``directory``, or None where none was ever made there to its end."""
        properties = directory / "server.properties"
        if not (directory / "data" / "meta.properties").exists() or not properties.exists():
            return None
        had = _PORTS.search(properties.read_text())
        ports = (None, None) if had is None else (int(had[1]), int(had[2]))
        return cls(directory, free_port(ports[0]), free_port(ports[1]))

    def make(self, cluster: str, more_properties: str, format_arguments: Sequence[str] = ()) -> None:
        """Make its files afresh, for the cluster of this id. Raises KafkaMissing or ServerFailed."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.describe(more_properties)
        tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), *format_arguments)
        quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
        command = ["java", *quick, "-cp", f"{kafka_libraries()}/*", *tool]
        _run_java(Launch("The formatting of Kafka's storage", command, self.directory / "kafka.log"))

    def describe(self, more_properties: str) -> Path:
        """Write its settings and return their file; its data is left as it is."""
        properties = self.directory / "server.properties"
        template = _PROPERTIES + more_properties
        data = self.directory / "data"
        properties.write_text(template.format(port=self.port, controller=self.controller, data=data))
        return properties

    def launch(self) -> ChildProcess:
        """Start its process, which takes a while to answer."""
        return _launch(self.directory)


def _run_java(launch: Launch) -> None:
    """Run a Java program to its end. A Java that is too old is told from other failures."""
    try:
        run_to_end(launch, _FORMAT_S)
    except ServerFailed as error:
        if "UnsupportedClassVersionError" in launch.log_file.read_text(errors="replace"):
            raise KafkaMissing(
                f"BROKER=kafka needs Java 17 or newer for Kafka {VERSION}, and the java on the PATH is older."
            ) from error
        raise


def cluster_uuid() -> str:
    """Return a fresh cluster id in Kafka's form: 22 characters of URL-safe base64.

    One id in 64 would begin with a dash, which Kafka's own command line takes for an option: the letter k stands first.
    """
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _run(directory: Path, port: int) -> ChildProcess:
    child = _launch(directory)
    wait_until_answers(child, port)
    return child


def _launch(directory: Path) -> ChildProcess:
    main = ("kafka.Kafka", str(directory / "server.properties"))
    command = ["java", *_JAVA, _LOGGING, "-cp", f"{kafka_libraries()}/*", *main]
    return start_process(Launch("Kafka", command, directory / "kafka.log", death_signal=signal.SIGKILL))


def wait_until_answers(child: ChildProcess, port: int) -> None:
    """Return when a broker serves. Raises ServerFailed, and kills it, when it ends or is too slow."""
    wait_until_ready(child, lambda: _answers(port), _START_S)


def _answers(port: int) -> bool:
    """Tell whether the broker serves: it takes connections for a while before it answers any."""
    if not port_is_open(port):
        return False
    try:
        return bool(cluster_id(f"{LOOPBACK}:{port}", timeout_s=2))
    except BrokerUnreachable:
        return False


def kafka_libraries() -> Path:
    """Return the folder of Kafka's jars, fetched once by Maven. Raises KafkaMissing with one clear sentence."""
    _require("java")
    libraries = cache_directory() / f"kafka-{VERSION}"
    if libraries.is_dir():
        return libraries
    _require("mvn")
    fetch_once(libraries, libraries.is_dir, lambda: _fetch(libraries))
    return libraries


def _fetch(libraries: Path) -> None:
    with tempfile.TemporaryDirectory(dir=libraries.parent) as partial:
        folder = Path(partial)
        (folder / "pom.xml").write_text(_POM.format(version=VERSION))
        run_maven((_FETCH, "-DoutputDirectory=libs"), folder, f"Kafka {VERSION}", KafkaMissing)
        (folder / "libs").rename(libraries)


def _require(tool: str) -> None:
    if shutil.which(tool) is None:
        raise KafkaMissing(
            f"BROKER=kafka needs {tool}, which is not on this machine: install a Java 17 runtime and Maven, "
            "or give the address of a running broker as BROKER=host:port."
        )
