"""``tradermind backup``: keep the database while the platform works, look whether that is worth anything, put it back.

Exit codes: 0 done, 1 the backup is missing, damaged or too old, or the restore is refused, 2 settings or surroundings.
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from infra.postgres.backup_make import BackupOrder, make_backup
from infra.postgres.backup_restore import drill, put_back
from infra.postgres.backups import ANCHORS, Backup, BackupFailed, backups_in, newest_backup, now_utc, read_backup
from infra.settings import Settings, SettingsError
from streams.cli_record import print_json
from streams.cli_tables import print_rows
from streams.cli_topics import JsonOption, RunFileOption, SettingsOption
from streams.processes import settings_of_run
from streams.sentences import one_sentence

app = typer.Typer(help="Backups of the database: create, ls, check and restore.", no_args_is_help=True)
DirectoryOption = Annotated[Path | None, typer.Option("--directory", help="Where they lie (default backup.directory).")]
DsnOption = Annotated[str | None, typer.Option("--dsn", help="The database (default postgres.dsn).")]
NameArgument = Annotated[str | None, typer.Argument(help="A backup's name (default: the newest).")]
_COLUMNS: Final = ("name", "age", "size", "revision", "rows", "shards")


@app.command()
def create(
    *,
    directory: DirectoryOption = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep the newest so many (default backup.keep).")] = None,
    dsn: DsnOption = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back the database up while the platform works, then remove the backups that are too many."""
    from streams.launch import code_version

    with _told():
        loaded = settings_of_run(run_file, settings)
        order = BackupOrder(
            dsn=_database(loaded, dsn),
            directory=directory_of(loaded, directory),
            keep=keep if keep is not None else loaded.backup.keep,
            code_version=code_version(),
            platform=version("tradermind"),
            anchors=loaded.audit.anchor_file,
        )
        backup, removed = make_backup(order)
    if order.anchors is not None and all(file.name != ANCHORS for file in backup.manifest.files):
        typer.echo(
            f"The audit's anchors {order.anchors} are not on this machine: keep them from where they are.", err=True
        )
    took = (backup.manifest.finished_at - backup.manifest.started_at).total_seconds()
    if as_json:
        print_json(_row(backup) | {"folder": str(backup.folder), "seconds": took, "removed": removed})
        return
    typer.echo(f"{backup.folder}: {backup.size / 2**20:,.1f} MiB of {sum(backup.manifest.rows.values()):,} rows.")
    for name in removed:
        typer.echo(f"Removed {name}.")


@app.command()
def ls(
    *,
    directory: DirectoryOption = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the backups, oldest first."""
    with _told():
        rows = [_row(backup) for backup in backups_in(directory_of(settings_of_run(run_file, settings), directory))]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, _COLUMNS, "There is no backup.", Console())


@app.command()
def check(
    *,
    directory: DirectoryOption = None,
    age_max: Annotated[
        float | None, typer.Option("--age-max-h", min=0, help="Hours that the newest may be old (backup.age_max_h).")
    ] = None,
    restore_drill: Annotated[
        bool, typer.Option("--restore-drill", help="Restore it into a database of its own, which is dropped again.")
    ] = False,
    dsn: DsnOption = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look whether the newest backup is young and whole, and with --restore-drill whether it can be put back.

    A drill needs a user who may create databases on the server of --dsn, which may be another server.
    """
    with _told():
        loaded = settings_of_run(run_file, settings)
        backup = newest_backup(directory_of(loaded, directory))
        backup.verify()
        age, bound = backup.age(now_utc()), timedelta(hours=loaded.backup.age_max_h if age_max is None else age_max)
        if age > bound:
            raise BackupFailed(f"The newest backup, {backup.name}, is {age} old, and may be {bound} old.")
        restored = drill(backup, _database(loaded, dsn)) if restore_drill else None
    took = None if restored is None else round(restored.seconds, 3)
    if as_json:
        print_json(_row(backup) | {"rpo_s": age.total_seconds(), "rto_s": took})
        return
    typer.echo(f"{backup.name} is whole. RPO: {age}, of which Kafka and the venue remember what happened.")
    if restored is not None:
        typer.echo(f"RTO: restored in {took} s, {sum(restored.rows.values()):,} rows in {len(restored.rows)} tables.")


@app.command()
def restore(
    name: NameArgument = None,
    *,
    directory: DirectoryOption = None,
    dsn: DsnOption = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty database, all or nothing. `tradermind restore` then lets the platform go on."""
    with _told():
        loaded = settings_of_run(run_file, settings)
        place = directory_of(loaded, directory)
        backup = newest_backup(place) if name is None else read_backup(place / name)
        age = backup.age(now_utc())
        restored = put_back(backup, _database(loaded, dsn))
    if as_json:
        print_json(_row(backup) | {"rpo_s": age.total_seconds(), "rto_s": round(restored.seconds, 3)})
        return
    rows = sum(restored.rows.values())
    typer.echo(f"{backup.name} restored in {restored.seconds:.1f} s: {rows:,} rows. It is {age} old.")
    typer.echo("No worker starts on it yet: `tradermind restore --reason WHY` goes on at the ends of the logs.")


def directory_of(settings: Settings, told: Path | None) -> Path:
    """Return where the backups lie."""
    return told or settings.backup.directory or settings.run.directory / "backups"


def _database(settings: Settings, told: str | None) -> str:
    found = told if told is not None else settings.postgres.conninfo()
    if found is None:
        raise SettingsError("postgres.dsn is not set, and no --dsn was given.")
    return found


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell a backup that cannot be relied on, exit code 1, from surroundings that are wrong, 2."""
    with one_sentence():
        try:
            yield
        except BackupFailed as failure:
            typer.echo(str(failure), err=True)
            raise typer.Exit(1) from failure


def _row(backup: Backup) -> dict[str, Any]:
    manifest = backup.manifest
    return {
        "name": backup.name,
        "age": str(backup.age(now_utc())),
        "size": backup.size,
        "revision": manifest.revision,
        "rows": sum(manifest.rows.values()),
        "shards": len(manifest.shards),
    }
