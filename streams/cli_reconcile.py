"""``tradermind reconcile``: our books against the venue's own statement, order by order and cent by cent.

Exit codes: 0 no difference, 1 each difference is listed with both sides, 2 the venue or the database cannot be asked.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from psycopg import IsolationLevel
from rich.console import Console

from infra.postgres.queries import Connection
from infra.postgres.queries_statement import book_faults, our_statement
from infra.settings import SettingsError, load_settings
from infra.venues.account import AccountReader
from infra.venues.account_compare import Difference, compared, differences
from infra.venues.account_simulated import SimulatedAccountReader
from infra.venues.simulated import VenueUnreachable
from streams.cli_record import (
    LATEST_RUN,
    DsnOption,
    JsonOption,
    RunOption,
    one_sentence,
    opened_record,
    print_json,
)
from streams.cli_tables import print_rows
from streams.exchange_statement import RECORD_NAME, EndedExchange
from streams.processes import settings_of_run

_COLUMNS: Final = "what name field ours theirs"
_ROUND_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One comparison: what was compared, what differs from the venue, and where our own tables disagree."""

    venue: str
    counts: dict[str, int | None]
    found: list[Difference]

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        found = [msgspec.to_builtins(item) for item in self.found]
        return {"difference": len(found), "venue": self.venue, "compared": self.counts, "differences": found}


def reconcile(
    *,
    venue: Annotated[
        str | None, typer.Option("--venue", help="The venue's URL; else the run's or the settings'.")
    ] = None,
    settle: Annotated[
        float,
        typer.Option("--settle-s", min=0, help="So long a running platform may take to agree: what is on its way."),
    ] = 10.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    settings: Annotated[Path | None, typer.Option("--settings", help="The settings file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare orders, fills, positions, cash, fees and funding with the venue: difference 0, or each of them."""
    with one_sentence():
        try:
            named, reader, ended = _reader(venue, run, settings)
            with opened_record(dsn, run) as connection:
                done = settled(connection, named, reader, 0 if ended else settle)
        except VenueUnreachable as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    if as_json:
        print_json(done.as_json())
    else:
        _show(done)
    raise typer.Exit(1 if done.found else 0)


def settled(connection: Connection, venue: str, reader: AccountReader, settle_s: float) -> Reconciled:
    """Compare until a comparison finds nothing or ``settle_s`` are over; return the last. Raises VenueUnreachable.

    What the venue has done and we have not heard of yet is a difference of the moment, and gone in the next; what has
    been lost, or is wrong, is there in all of them.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    limit = time.monotonic() + settle_s
    while True:
        theirs = asyncio.run(reader.account_statement())
        with connection.transaction():
            ours, faults = our_statement(connection), book_faults(connection)
        done = Reconciled(venue, compared(ours, theirs), faults + differences(ours, theirs))
        if not done.found or time.monotonic() >= limit:
            return done
        time.sleep(_ROUND_S)


def _reader(venue: str | None, run: Path | None, settings: Path | None) -> tuple[str, AccountReader, bool]:
    """Return what to ask, by name, and whether it has ended: then its record is asked, which holds all it ever did."""
    directory = run if run is not None else LATEST_RUN
    run_file = directory / "run.json"
    if venue is not None:
        return venue, SimulatedAccountReader(venue), False
    of_a_run = run_file.exists()
    venue = (settings_of_run(run_file, settings) if of_a_run else load_settings(settings)).venue.url
    if venue is None:
        raise SettingsError("No venue is known here: start a run, set venue.url, or name the venue with --venue.")
    reader = SimulatedAccountReader(venue)
    record = directory / RECORD_NAME
    if of_a_run and record.exists() and not _answers(reader):
        name = str(msgspec.json.decode((directory / "exchange.json").read_bytes())["name"])
        return f"{record} (the exchange has ended)", EndedExchange(record, name), True
    return venue, reader, False


def _answers(reader: AccountReader) -> bool:
    try:
        asyncio.run(reader.account_statement())
    except VenueUnreachable:
        return False
    return True


def _show(done: Reconciled) -> None:
    console = Console()
    told = ", ".join(
        f"{name.replace('_', ' ')} {'not told' if count is None else count}" for name, count in done.counts.items()
    )
    typer.echo(f"{done.venue}: {told}")
    typer.echo(f"difference {len(done.found)}")
    if done.found:
        rows = [msgspec.to_builtins(item) for item in done.found]
        print_rows(rows, _COLUMNS.split(), "", console)
