"""Which record a reading command reads: the one it names, else the newest run's, else that of the settings.

The embedded database of a run that has ended is started for as long as the question takes, so that what a demo
prints at its end can be looked at.
"""

import contextlib
import getpass
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer

from infra.postgres.queries import Connection, NotInRecord, RecordUnreachable, open_record
from infra.servers.postgres import start_postgres
from infra.servers.process import ServerFailed
from infra.settings import DEFAULT_FILE, SettingsError, load_settings
from infra.settings_sections import PostgresSettings

LATEST_RUN: Final = Path(".run") / "latest"
_RUN_FILE: Final = "run.json"
_DSN_KEY: Final = "postgres.dsn"
_SECRET_KEY: Final = "postgres.password_file"  # noqa: S105 - the name of a setting

DsnOption = Annotated[str | None, typer.Option("--dsn", help="The database to read or write; else the newest run's.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="The directory of a run (default .run/latest).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextlib.contextmanager
def opened_record(dsn: str | None, run: Path | None) -> Iterator[Connection]:
    """Give a read-only connection to the record. Raises RecordUnreachable, SettingsError or ServerFailed."""
    with ExitStack() as stack:
        connection = open_record(stack.enter_context(reachable_database(dsn, run)))
        stack.callback(connection.close)
        yield connection


@contextlib.contextmanager
def reachable_database(dsn: str | None, run: Path | None) -> Iterator[str]:
    """Give the DSN of the database; that of an ended embedded run is started, and stopped at the end."""
    found, directory = (dsn, None) if dsn is not None else located_database(run)
    if directory is None or _answers(found) or not (directory / "postgres" / "PG_VERSION").exists():
        yield found
        return
    server = start_postgres(directory)
    try:
        yield server.dsn
    finally:
        server.stop()


def located_database(run: Path | None) -> tuple[str, Path | None]:
    """Return the DSN of a run and its directory, or that of the settings and None. Raises RecordUnreachable."""
    directory = run if run is not None else LATEST_RUN
    run_file = directory / _RUN_FILE
    if run_file.exists():
        try:
            overrides = json.loads(run_file.read_text())["overrides"]
            # A run on somebody's database names the file of its password, and does not hold it.
            named = PostgresSettings(dsn=overrides[_DSN_KEY], password_file=overrides.get(_SECRET_KEY))
            return str(named.conninfo()), directory.resolve()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordUnreachable(f"{run_file} does not describe a run.") from error
    if run is not None:
        raise RecordUnreachable(f"There is no run in {run}: {run_file} does not exist.")
    configured = load_settings().postgres.conninfo() if DEFAULT_FILE.exists() else None
    if configured is None:
        raise RecordUnreachable("No run is known here: start one with `make demo`, or name a database with --dsn.")
    return configured, None


def database_of(dsn: str | None, run: Path | None) -> str:
    """Return the database to act upon. Raises RecordUnreachable."""
    return dsn if dsn is not None else located_database(run)[0]


def author_of(author: str | None) -> str:
    """Return who acts: who was named, else the user."""
    return author if author is not None else getpass.getuser()


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can cause into one sentence on stderr: exit code 1 for what is not there, 2 for no record."""
    try:
        yield
    except NotInRecord as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from error
    except (RecordUnreachable, SettingsError, ServerFailed) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from error
    except psycopg.OperationalError as error:
        sys.stderr.write(f"The database broke off: {str(error).strip().splitlines()[-1]}\n")
        raise typer.Exit(2) from error


def answer(dsn: str | None, run: Path | None, question: Callable[[Connection], Any]) -> Any:
    """Ask the record one question; what goes wrong is one sentence and an exit code."""
    with one_sentence(), opened_record(dsn, run) as connection:
        return question(connection)


def print_json(content: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
    """Print what a program reads."""
    typer.echo(json.dumps(content, indent=1))


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
