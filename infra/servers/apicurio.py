"""Apicurio Registry 2.6, fetched by Maven and run with plain java: a real server behind the Confluent REST API."""

import http.client
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.servers.child_server import ChildServer
from infra.servers.fetching import DEPENDENCY_PLUGIN, cache_directory, fetch_once, run_maven
from infra.servers.ports import LOOPBACK, free_port
from infra.servers.process import ChildProcess, Launch, ServerFailed, start_process, wait_until_ready

VERSION: Final = "2.6.13.Final"
_API: Final = "/apis/ccompat/v7"
_ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_START_S: Final = 60.0
_JAVA: Final = ("-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class RegistryMissing(ServerFailed):
    """A real registry cannot be run here, and why, in one clear sentence."""


@dataclass(slots=True)
class RealRegistry(ChildServer):
    """A running registry. It keeps its schemas in memory: a restart on the same port begins with none."""

    url: str
    directory: Path
    process: ChildProcess
    port: int


def start_registry(directory: Path) -> RealRegistry:
    """Start an empty registry whose log lies in ``directory``. Raises RegistryMissing or ServerFailed."""
    program = _program()
    port = free_port()
    options = (f"-Dquarkus.http.host={LOOPBACK}", f"-Dquarkus.http.port={port}")
    directory.mkdir(parents=True, exist_ok=True)
    command = ["java", *_JAVA, *options, "-jar", str(program)]
    child = start_process(Launch("Apicurio", command, directory / "apicurio.log", directory=directory))
    wait_until_ready(child, lambda: _answers(port), _START_S)
    return RealRegistry(f"http://{LOOPBACK}:{port}{_API}", directory, child, port)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", f"{_API}/subjects")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _program() -> Path:
    """Return the registry's jar, fetched once by Maven into the cache that Kafka's jars lie in."""
    _require("java")
    folder = cache_directory() / f"apicurio-{VERSION}"
    program = folder / f"apicurio-registry-app-{VERSION}-runner.jar"
    if program.is_file():
        return program
    _require("mvn")
    fetch_once(folder, program.is_file, lambda: _fetch(folder))
    return program


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        place = Path(partial)
        copy = (f"{DEPENDENCY_PLUGIN}:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={place}")
        get = (f"{DEPENDENCY_PLUGIN}:get", f"-Dartifact={_ARTIFACT}", "-Dtransitive=false")
        for goal in (get, copy):
            run_maven(goal, place, f"Apicurio {VERSION}", RegistryMissing)
        with tarfile.open(next(place.glob("*.tar.gz"))) as archive:
            archive.extractall(place / "unpacked", filter="data")
        (place / "unpacked").rename(folder)


def _require(tool: str) -> None:
    if shutil.which(tool) is None:
        raise RegistryMissing(f"A schema registry of the suite's own needs {tool}, which is not on this machine.")
