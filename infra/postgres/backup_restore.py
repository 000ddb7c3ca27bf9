"""Putting a backup back: into an empty database only, all or nothing, and counted afterwards against its manifest."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo

from infra.postgres.backups import Backup, BackupFailed
from infra.postgres.migrate import HEAD, is_newer
from infra.postgres.programs import program, run_program

_OWN_GRANTS: Final = " DEFAULT ACL "
"""What an owner grants beforehand names the owner, who may have another name here; grant_roles() says it anew."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: rows of each table, and the seconds it took."""

    rows: dict[str, int]
    seconds: float


def put_back(backup: Backup, dsn: str) -> Restored:
    """Verify a backup, restore it into an empty database in one transaction, and count.

    Raises BackupFailed where it is damaged, newer than this version, or the database is not empty; nothing is changed
    then. Raises ServerFailed and psycopg.Error.
    """
    began = time.monotonic()
    backup.verify()
    if is_newer(backup.manifest.revision):
        raise BackupFailed(
            f"The backup {backup.name} is of revision {backup.manifest.revision}, which is newer than this version"
            f" knows ({HEAD}): restore it with the version that made it, or a later one."
        )
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        _refuse_occupied(connection)
        for role in backup.manifest.roles:
            _make_role(connection, role)
    with TemporaryDirectory(prefix="tradermind-restore-") as scratch:
        contents = Path(scratch) / "contents"
        contents.write_text(_contents(backup.dump))
        arguments = ("--single-transaction", "--exit-on-error", "--no-owner", f"--use-list={contents}")
        run_program("pg_restore", (*arguments, str(backup.dump)), dsn, Path(scratch) / "pg_restore.log")
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        connection.execute("SELECT grant_roles()")
        rows = _compared(connection, backup)
        connection.execute("ANALYZE")
    return Restored(rows, time.monotonic() - began)


def drill(backup: Backup, server: str) -> Restored:
    """Restore a backup into a database of its own on a server, count it, and drop it again.

    ``server`` is the DSN of any database there, whose user may create databases. Raises as ``put_back``.
    """
    with scratch_database(server) as dsn:
        return put_back(backup, dsn)


@contextmanager
def scratch_database(server: str) -> Iterator[str]:
    """Give the DSN of an empty database on a server, dropped at the end."""
    name = f"tradermind_drill_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True, connect_timeout=5) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _refuse_occupied(connection: Connection[Any]) -> None:
    found = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
        " ORDER BY relname LIMIT 1"
    ).fetchone()
    if found is not None:
        raise BackupFailed(
            f"The database {connection.info.dbname} is not empty (it has {found[0]}): a backup is restored into an"
            " empty one, so that nothing that stands there is lost. Create one and name it with --dsn."
        )


def _make_role(connection: Connection[Any], role: str) -> None:
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None:
        return
    try:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    except psycopg.errors.InsufficientPrivilege:
        raise BackupFailed(
            f"The role {role}, to which the backup grants rights, is not on this server, and we may not make it: an"
            f" administrator does, with CREATE ROLE {role} NOLOGIN."
        ) from None


def _contents(dump: Path) -> str:
    """Return the dump's table of contents without what only its former owner could say."""
    listed = subprocess.run(
        [str(program("pg_restore")), "--list", str(dump)], capture_output=True, text=True, check=False, timeout=600
    )
    if listed.returncode != 0:
        raise BackupFailed(f"{dump} is no dump that pg_restore can read: {listed.stderr.strip()[-300:]}.")
    return "".join(line for line in listed.stdout.splitlines(keepends=True) if _OWN_GRANTS not in line)


def _compared(connection: Connection[Any], backup: Backup) -> dict[str, int]:
    rows: dict[str, int] = {}
    for table, expected in backup.manifest.rows.items():
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        assert row is not None
        rows[table] = int(row[0])
        if rows[table] != expected:
            raise BackupFailed(f"After the restore {table} has {rows[table]} rows, and the backup had {expected}.")
    return rows
