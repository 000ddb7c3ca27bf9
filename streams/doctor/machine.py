"""The machine: the interpreter, its packages against the lock file, the disk, the ports, java."""

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.servers.fetching import cache_directory
from infra.servers.kafka_real import VERSION as KAFKA_VERSION
from streams.doctor.examination import Finding, failed, ok, warning

LOCK_NAME: Final = "requirements.lock"
_PYTHONS: Final = ((3, 11), (3, 12))
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)\s*(;[^\\]*)?", re.MULTILINE)
_JAVA: Final = re.compile(r'version "(\d+)')
_JAVA_LEAST: Final = 17
_JAVA_S: Final = 10.0
_SHOWN: Final = 4
GIB: Final = 2**30
_FREE_LEAST: Final = 1 * GIB
_FREE_ENOUGH: Final = 10 * GIB


def python() -> Iterator[Finding]:
    """Ask whether the interpreter is one that the platform is tested on."""
    found = sys.version_info[:2]
    said = f"Python {sys.version.split()[0]}"
    if found in _PYTHONS:
        yield ok("python", f"{said}.")
    else:
        yield failed("python", f"{said} is not supported.", "Install Python 3.11 or 3.12, and set it up with `make`.")


def lock_file() -> Path | None:
    """Return the lock file of this installation: beside a checkout's packages, or where a wheel puts it."""
    places = (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "tradermind")
    return next((place / LOCK_NAME for place in places if (place / LOCK_NAME).is_file()), None)


def packages(lock: Path | None) -> Iterator[Finding]:
    """Ask whether every package is there in the version that was tested."""
    name = "packages"
    if lock is None:
        yield warning(name, f"There is no {LOCK_NAME} to compare with.", "Install from a checkout, or from our wheel.")
        return
    wanted: dict[str, set[str]] = {}
    conditional: set[str] = set()
    for package, version, marker in _PINNED.findall(lock.read_text()):
        wanted.setdefault(package, set()).add(version)
        if marker:
            conditional.add(package)
    wrong = [said for package, versions in wanted.items() if (said := _wrong(package, versions, conditional))]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        mend = f"Install what was tested: `uv pip install --require-hashes -r {lock.name}`, or `make setup`."
        yield failed(name, f"Not as in {lock.name}: {', '.join(wrong[:_SHOWN])}{more}.", mend)
    else:
        yield ok(name, f"{len(wanted)} packages are as in {lock.name}.")


def _wrong(package: str, versions: set[str], conditional: set[str]) -> str | None:
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # One that is asked for on other machines only need not be here.
        return None if package in conditional else f"{package} is missing"
    return None if found in versions else f"{package} {found} instead of {' or '.join(sorted(versions))}"


def directory(path: Path) -> Iterator[Finding]:
    """Ask whether a directory can be written, and how much room its disk has."""
    name = "run directory"
    place = _nearest(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        place = path
        with tempfile.NamedTemporaryFile(dir=path) as file:
            file.write(b"\0" * 65_536)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        mend = f"Make room, or let the user {os.getuid()} write there, or set run.directory."
        yield failed(name, f"{path} cannot be written: {error.strerror}.", mend)
    else:
        yield ok(name, f"{path} can be written.")
    yield _room(place)


def _room(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    said = f"{free / GIB:.1f} GiB are free on the disk of {place}"
    if free < _FREE_LEAST:
        return failed("disk", f"{said}.", "Make room: Kafka, Postgres and checkpoints stop where a disk is full.")
    if free < _FREE_ENOUGH:
        return warning("disk", f"{said}, less than {_FREE_ENOUGH // GIB}.", "Make room, or `tradermind prune`.")
    return ok("disk", f"{said}.")


def _nearest(path: Path) -> Path:
    return next((parent for parent in (path, *path.resolve().parents) if parent.exists()), Path("/"))


def port(name: str, host: str, number: int) -> Iterator[Finding]:
    """Ask whether a port that a worker is to listen on is free."""
    if number == 0:
        yield ok(name, "No port is asked for.")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            mend = (
                f"If no worker of ours has it (`ss -ltnp sport = :{number}`), give each worker its own --metrics-port."
            )
            yield warning(name, f"{host}:{number} cannot be listened on: {error.strerror}.", mend)
        else:
            yield ok(name, f"{host}:{number} is free.")


def java() -> Iterator[Finding]:
    """Ask for what a Kafka of our own takes: java, and mvn where its jars were never fetched."""
    name = "java"
    program = shutil.which("java")
    if program is None:
        yield warning(name, "There is no java, so no Kafka of ours.", "Install Java 17, or set kafka.bootstrap.")
        return
    told = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=_JAVA_S, check=False)
    found = _JAVA.search(told.stderr + told.stdout)
    if found is None or int(found[1]) < _JAVA_LEAST:
        said = f"java is {'of an unknown version' if found is None else found[1]}, and Kafka {KAFKA_VERSION} needs 17"
        yield warning(name, f"{said}.", "Put a Java 17 runtime or newer first on the PATH.")
    else:
        yield ok(name, f"java {found[1]}.")
    if not (cache_directory() / f"kafka-{KAFKA_VERSION}").is_dir() and shutil.which("mvn") is None:
        yield warning("mvn", "Kafka's jars were never fetched, and there is no mvn to do it.", "Install Maven.")
