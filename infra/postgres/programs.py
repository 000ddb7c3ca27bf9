"""PostgreSQL's own programs, run against a database: a dump is theirs to make, not ours.

A program's arguments and its environment can be read by others on the machine, so the password goes by neither: libpq
reads it from a file, which is there for as long as the program runs.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.servers.postgres import binaries
from infra.servers.process import Launch, ServerFailed, run_to_end

_LONGEST_S: Final = 24 * 3600.0


def program(name: str) -> Path:
    """Return where a program of PostgreSQL 18 lies: ours if it is installed, else the PATH's. Raises ServerFailed."""
    try:
        ours = binaries() / name
    except ServerFailed:
        ours = None
    if ours is not None and ours.is_file():
        return ours
    found = shutil.which(name)
    if found is None:
        raise ServerFailed(f"{name} is not installed: it comes with PostgreSQL's client programs.")
    return Path(found)


def run_program(name: str, arguments: Sequence[str], dsn: str, log_file: Path) -> None:
    """Run a program against a database to its end. Raises ServerFailed with its last words."""
    with _without_password(dsn) as conninfo:
        command = [str(program(name)), "--no-password", f"--dbname={conninfo}", *arguments]
        run_to_end(Launch(name, command, log_file), _LONGEST_S)


@contextmanager
def _without_password(dsn: str) -> Iterator[str]:
    parts: dict[str, Any] = conninfo_to_dict(dsn)
    password = parts.pop("password", None)
    if password is None:
        yield dsn
        return
    escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.NamedTemporaryFile("w", prefix="tradermind-", suffix=".pass") as file:
        assert os.fstat(file.fileno()).st_mode & 0o077 == 0, "a temporary file is its owner's alone"
        file.write(f"*:*:*:*:{escaped}\n")
        file.flush()
        yield make_conninfo(**{**parts, "passfile": file.name})
