"""``tradermind rebuild influx``: fill an InfluxDB from the record, with exactly the points that the sinks write.

Exit codes: 0 done, 1 some points were refused, 2 no database, no InfluxDB, or it stayed away.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from infra.settings import SettingsError
from infra.settings_sections import InfluxSettings, read_secret
from streams.cli_record import (
    LATEST_RUN,
    DsnOption,
    JsonOption,
    RunOption,
    one_sentence,
    print_json,
    reachable_database,
)
from streams.cli_tables import print_rows
from streams.cli_topics import DryRunOption, SettingsOption
from streams.offline.question import time_ns
from streams.processes import settings_of_run

if TYPE_CHECKING:
    from infra.influx import PointTarget
    from infra.influx.rebuild import Connection, Rebuild, Rebuilt, Source, Stretch

app = typer.Typer(no_args_is_help=True, help="Make again what can be made from the record: influx.")
_COLUMNS: Final = ("measurement", "rows", "points", "refused")


@app.callback()
def rebuilds() -> None:
    """Make again what can be made from the record."""


@app.command()
def influx(
    *,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this time on: ISO or ns.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time: ISO or ns.")] = None,
    measurement: Annotated[list[str] | None, typer.Option(help="Only this measurement; repeatable.")] = None,
    points_per_s: Annotated[float, typer.Option(min=1, help="No more points a second; the sinks write, too.")] = 20_000,
    files: Annotated[Path | None, typer.Option(help="Write line protocol into this folder instead.")] = None,
    dry_run: DryRunOption = False,
    dsn: DsnOption = None,
    run: RunOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write every point again that the record has the event of. Points that are there already stay as they are."""
    # The client takes longer to import than all else, and every command imports this module.
    from infra.influx.rebuild import Rebuild, Stretch, count_rows

    with one_sentence():
        wanted = _wanted(measurement)
        stretch = Stretch(_moment(since, 0), _moment(until, 2**63 - 1))
        if stretch.from_ns >= stretch.to_ns:
            raise SettingsError("--from is not before --to: there is nothing in between.")
        with _record(dsn, run, settings) as connection:
            if dry_run:
                rebuilt = [count_rows(connection, source, stretch) for source in wanted.values()]
            else:
                with contextlib.closing(_target(run, settings, files)) as target:
                    rebuilt = _rebuild(Rebuild(connection, target, points_per_s), connection, wanted, stretch)
    _tell(rebuilt, dry_run=dry_run, as_json=as_json)
    raise typer.Exit(1 if any(one.refused for one in rebuilt) else 0)


def _rebuild(
    rebuild: "Rebuild", connection: "Connection", wanted: Mapping[str, "Source"], stretch: "Stretch"
) -> "list[Rebuilt]":
    from infra.influx import Unwritten
    from infra.influx.rebuild import count_rows

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} rows"),
        TimeElapsedColumn(),
    )
    rebuilt: list[Rebuilt] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name, source in wanted.items():
            rows = count_rows(connection, source, stretch).rows if console.is_terminal else None
            task = progress.add_task(name, total=rows)
            try:
                rebuilt.append(rebuild.run(source, stretch, partial(progress.advance, task)))
            except Unwritten as fault:
                done = sum(one.points for one in rebuilt)
                raise SettingsError(
                    f"InfluxDB takes no points ({fault}); {done:,} points of {len(rebuilt)} measurements were written."
                    " Run it again when it does: what is written twice is there once."
                ) from fault
    return rebuilt


def _wanted(names: list[str] | None) -> Mapping[str, "Source"]:
    from infra.influx.rebuild import sources

    known = sources()
    for name in names or ():
        if name not in known:
            raise SettingsError(f"{name!r} is not a measurement of an event: {', '.join(sorted(known))}.")
    return {name: source for name, source in known.items() if not names or name in names}


@contextlib.contextmanager
def _record(dsn: str | None, run: Path | None, settings: Path | None) -> "Iterator[Connection]":
    configured = settings_of_run(None, settings).postgres.conninfo() if settings is not None and run is None else None
    with (
        reachable_database(dsn or configured, run) as database,
        psycopg.connect(
            database,
            autocommit=True,
            connect_timeout=5,
            application_name="tradermind rebuild",
            options="-c default_transaction_read_only=on",
        ) as connection,
    ):
        yield connection


def _target(run: Path | None, settings: Path | None, files: Path | None) -> "PointTarget":
    from infra.influx import InfluxServer, LineFiles

    if files is not None:
        return LineFiles(files)
    described = (run or LATEST_RUN) / "run.json"
    of_a_run = settings is None and (run is not None or described.exists())
    where: InfluxSettings = settings_of_run(described if of_a_run else None, settings).influx
    if where.url is None or where.token_file is None:
        raise SettingsError("influx.url is not set: name an InfluxDB in the settings, or a folder with --files.")
    try:
        token = read_secret(where.token_file)
    except OSError as error:
        raise SettingsError(f"influx.token_file cannot be read: {error.strerror}: {where.token_file}.") from error
    return InfluxServer(where.url, token, where.org, where.bucket, where.timeout_ms)


def _moment(given: str | None, default: int) -> int:
    if given is None:
        return default
    try:
        return time_ns(given)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _tell(rebuilt: "list[Rebuilt]", *, dry_run: bool, as_json: bool) -> None:
    points, refused = sum(one.points for one in rebuilt), sum(one.refused for one in rebuilt)
    if as_json:
        rows: list[dict[str, Any]] = [asdict(one) for one in rebuilt]
        print_json({"dry_run": dry_run, "points": points, "refused": refused, "measurements": rows})
        return
    print_rows([asdict(one) for one in rebuilt if one.rows], list(_COLUMNS), "The record has none.", Console())
    typer.echo(f"{points:,} points {'would be written' if dry_run else 'written'}, {refused:,} refused.")
