"""Apache Kafka 4.1 (KRaft, one node) from Maven Central, run with plain java on loopback ports."""

import base64
import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.servers.process import ChildProcess, Launch, ServerFailed, free_port, port_is_open, start_process
from infra.servers.process import wait_until_ready as _wait

VERSION: Final = "4.1.1"
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tradermind</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""
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
log.cleaner.enable=false
"""


class KafkaMissing(ServerFailed):
    """Real Kafka cannot be run here, and why."""


@dataclass(slots=True)
class RealKafka:
    """A running broker; its data stays in ``directory`` over a restart."""

    bootstrap: str
    directory: Path
    process: ChildProcess
    port: int

    def stop(self) -> None:
        """Shut it down in order."""
        self.process.terminate(20)

    def kill(self) -> None:
        """Kill it in the middle of whatever it does."""
        self.process.kill()

    def restart(self) -> None:
        """Start it again on the same port and data."""
        self.process = _run(self.directory, self.port)


def start_kafka(directory: Path) -> RealKafka:
    """Start a fresh broker below ``directory``. Raises KafkaMissing or ServerFailed."""
    libraries = kafka_libraries()
    port, controller = free_port(), free_port()
    directory.mkdir(parents=True, exist_ok=True)
    properties = directory / "server.properties"
    properties.write_text(_PROPERTIES.format(port=port, controller=controller, data=directory / "data"))
    formatted = subprocess.run(
        ["java", "-cp", f"{libraries}/*", "kafka.tools.StorageTool", "format", "-t", _uuid(), "-c", str(properties)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if formatted.returncode != 0:
        raise ServerFailed(f"Kafka's storage could not be formatted: {formatted.stderr.strip()[-300:]}")
    return RealKafka(f"127.0.0.1:{port}", directory, _run(directory, port), port)


def _uuid() -> str:
    """Return a fresh cluster id in Kafka's form: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _run(directory: Path, port: int) -> ChildProcess:
    flags = [
        "-Xms256m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
    command = ["java", *flags, "-cp", f"{kafka_libraries()}/*", "kafka.Kafka", str(directory / "server.properties")]
    child = start_process(Launch("Kafka", command, directory / "kafka.log"))
    _wait(child, lambda: port_is_open(port), 60)
    return child


def kafka_libraries() -> Path:
    """Return the folder of Kafka's jars, fetched once by Maven. Raises KafkaMissing with one clear sentence."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise KafkaMissing(
                f"BROKER=kafka needs {tool}, which is not on this machine: install a Java 17 runtime and Maven, "
                "or give the address of a running broker as BROKER=host:port."
            )
    cache = Path(os.environ.get("TRADERMIND_CACHE", Path.home() / ".cache" / "tradermind"))
    libraries = cache / f"kafka-{VERSION}"
    if libraries.is_dir():
        return libraries
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as partial:
        (Path(partial) / "pom.xml").write_text(_POM.format(version=VERSION))
        fetched = subprocess.run(
            ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"],
            cwd=partial,
            capture_output=True,
            text=True,
            check=False,
        )
        if fetched.returncode != 0:
            raise KafkaMissing(f"Maven could not fetch Kafka {VERSION}: {fetched.stdout.strip()[-300:]}")
        try:
            (Path(partial) / "libs").rename(libraries)
        except OSError:
            # Another process was quicker; its copy is as good.
            if not libraries.is_dir():
                raise
    return libraries
