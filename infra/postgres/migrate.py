"""Bring a database to the newest schema: Alembic over plain SQL files.

Alembic keeps the order and the version; the SQL is ours to read. The lock is taken inside Alembic's own
transaction: taken on the connection before it, it would open a transaction that Alembic then leaves uncommitted.
Importing Alembic costs more than migrating, so a database that is already there is recognised without it.

Revisions are numbers, in one line. A database may be newer than the code that works on it: while a release replaces
another, both do. ``refuse_other_schema`` says how far apart they may be.
"""

import threading
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from infra.settings_sources import SettingsError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
HEAD: Final = max(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
"""The newest revision of this version, by the names of its files."""
_ALEMBIC: Final = threading.Lock()
"""Alembic's context is a global of the process; between processes the database's own lock decides."""


class SchemaRefused(SettingsError):
    """A database whose schema this version cannot work on, and what to do, in one clear sentence."""


def migrate(dsn: str, revision: str = HEAD) -> None:
    """Upgrade the database to ``revision``; nothing happens when it is there.

    Several processes may call this at once: one migrates, the others wait for it. Raises SchemaRefused for a database
    that is newer than this version, and psycopg.Error when the server cannot be reached or refuses.
    """
    found = current_revision(dsn)
    if found == revision:
        return
    if found is not None and is_newer(found):
        raise SchemaRefused(
            f"The database is at revision {found}, newer than this version knows ({HEAD}): nothing to migrate."
        )
    _run(dsn, revision, upgrade=True)


def is_newer(revision: str) -> bool:
    """Return whether a revision is above the newest one of this version."""
    return int(revision) > int(HEAD)


def pending_revisions(dsn: str) -> list[str]:
    """Return the revisions that ``migrate`` would run, in order; none for a database that is newer."""
    at = current_revision(dsn)
    return [f"{number:04d}" for number in range(int(at or 0) + 1, int(HEAD) + 1)]


def refuse_other_schema(dsn: str) -> None:
    """Raise SchemaRefused for a database that is behind this version, or so far ahead that it serves it no more."""
    found = current_revision(dsn)
    if found is None or int(found) < int(HEAD):
        at = "has no schema of ours" if found is None else f"is at revision {found}"
        raise SchemaRefused(f"The database {at}, and this version needs {HEAD}: run `tradermind migrate` first.")
    if not is_newer(found):
        return
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        row = connection.execute("SELECT oldest_release_served()").fetchone()
    assert row is not None
    if int(HEAD) < int(row[0]):
        raise SchemaRefused(
            f"The database is at revision {found} and serves releases from {row[0]} on; this one is {HEAD}: run a newer"
            " release, or restore a backup from before the migration."
        )


def downgrade(dsn: str, revision: str) -> None:
    """Take the database back to ``revision``, or to nothing with ``base``. What the tables held is lost."""
    _run(dsn, revision, upgrade=False)


def current_revision(dsn: str) -> str | None:
    """Return the revision the database is at, or None for one without our schema."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        if row is None or not row[0]:
            return None
        version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if version is None else str(version[0])


def row_counts(dsn: str) -> dict[str, int]:
    """Return table -> number of rows for every table and view of ours, for the summary of a run."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        names = connection.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relkind IN ('r', 'p', 'v') AND NOT relispartition"
            " AND relname <> 'alembic_version' ORDER BY relname"
        ).fetchall()
        counts: dict[str, int] = {}
        for (name,) in names:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
            assert row is not None
            counts[name] = int(row[0])
        return counts


def _run(dsn: str, revision: str, *, upgrade: bool) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ProgrammingError
    from sqlalchemy.pool import NullPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    with _ALEMBIC, engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            (command.upgrade if upgrade else command.downgrade)(config, revision)
        except ProgrammingError as error:
            if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise
            said = str(error.orig).splitlines()[0]
            raise SchemaRefused(
                f"This user may not migrate the database ({said}): run `tradermind migrate` as its owner."
            ) from error
