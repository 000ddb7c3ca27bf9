"""``tradermind reconcile``: our books against the venue's own statement, order by order and cent by cent.

Exit codes: 0 no difference, 1 each is listed with both sides, or execution's own comparison is not over, 2 the venue
or the database cannot be asked.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer
from psycopg import IsolationLevel
from rich.console import Console

from infra.feeds.binance.parse import SPOT
from infra.postgres.queries import Connection
from infra.postgres.queries_statement import EVERYWHERE, AtVenue, book_faults, our_statement, sent_orders
from infra.settings import Settings, SettingsError, load_settings
from infra.venues.account import AccountReader
from infra.venues.account_binance import BinanceAccountReader
from infra.venues.account_compare import Difference, compared, differences
from infra.venues.account_simulated import SimulatedAccountReader
from infra.venues.binance.credentials import read_credentials
from infra.venues.binance.profiles import addresses_of
from infra.venues.simulated import VenueUnreachable
from schemas.values import NS_PER_S
from streams.books_standing import COLUMNS as STANDING_COLUMNS
from streams.books_standing import BooksStanding, books_standing
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
from streams.venues import exchange_credentials

_COLUMNS: Final = "what name field ours theirs"
_ROUND_S: Final = 0.5
_CLOCKS_APART_NS: Final = 2 * NS_PER_S


class Asked(NamedTuple):
    """One venue: its name for people, whom to ask, which instruments are its, and whether it has ended."""

    name: str
    reader: AccountReader
    at_venue: AtVenue = EVERYWHERE
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One comparison: with whom, how many things of each kind, and what differs; and how execution's own stands."""

    venue: str
    counts: dict[str, int | None]
    found: list[Difference]
    standing: BooksStanding | None = None

    @property
    def agrees(self) -> bool:
        """Whether nothing differs, neither now nor in what execution waits for."""
        return not self.found and (self.standing is None or self.standing.clean)

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        found = [msgspec.to_builtins(item) for item in self.found]
        told = {"difference": len(found), "venue": self.venue, "compared": self.counts, "differences": found}
        return told | {"start_up": msgspec.to_builtins(self.standing)}


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
            with opened_record(dsn, run) as connection:
                asked = _venues(connection, venue, run, settings)
                done = settled(connection, asked, 0 if all(one.ended for one in asked) else settle)
        except VenueUnreachable as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    if as_json:
        print_json(done.as_json())
    else:
        _show(done)
    raise typer.Exit(0 if done.agrees else 1)


def settled(connection: Connection, venues: Sequence[Asked], settle_s: float) -> Reconciled:
    """Compare until a comparison finds nothing or ``settle_s`` are over; return the last. Raises VenueUnreachable.

    What the venue has done and we have not heard of yet is a difference of the moment, and gone in the next; what has
    been lost, or is wrong, is there in all of them.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    limit = time.monotonic() + settle_s
    while True:
        done = _compared(connection, venues)
        if done.agrees or time.monotonic() >= limit:
            return done
        time.sleep(_ROUND_S)


def _compared(connection: Connection, venues: Sequence[Asked]) -> Reconciled:
    stated = [asyncio.run(one.reader.account_statement()) for one in venues]
    counts: dict[str, int | None] = {}
    with connection.transaction():
        found = book_faults(connection)
        standing = books_standing(connection)
        for one, theirs in zip(venues, stated, strict=True):
            ours = our_statement(connection, one.at_venue)
            found += differences(ours, theirs)
            for name, count in compared(ours, theirs).items():
                before = counts.get(name)
                counts[name] = count if before is None else before + (count or 0)
    return Reconciled(", ".join(one.name for one in venues), counts, found, standing)


def _venues(connection: Connection, venue: str | None, run: Path | None, settings: Path | None) -> list[Asked]:
    """Return whom to ask: the simulated exchange, and Binance for its instruments where it is configured."""
    directory = run if run is not None else LATEST_RUN
    run_file = directory / "run.json"
    known = settings_of_run(run_file, settings) if run_file.exists() else load_settings(settings)
    asked = _binance(connection, known)
    elsewhere = AtVenue(without=(SPOT,) if asked else ())
    if venue is not None:
        return [Asked(venue, SimulatedAccountReader(venue, credentials=exchange_credentials(known)), elsewhere)]
    if known.venue.url is not None:
        asked.append(_simulated(known, known.venue.url, directory, elsewhere))
    if not asked:
        raise SettingsError("No venue is known here: start a run, set venue.url, or name the venue with --venue.")
    return asked


def _simulated(known: Settings, url: str, directory: Path, at_venue: AtVenue) -> Asked:
    """An exchange that has ended is asked by its record, which holds all that it ever did."""
    reader = SimulatedAccountReader(url, credentials=exchange_credentials(known))
    record = directory / RECORD_NAME
    if not record.exists() or _answers(reader):
        return Asked(url, reader, at_venue)
    name = str(msgspec.json.decode((directory / "exchange.json").read_bytes())["name"])
    return Asked(f"{record} (the exchange has ended)", EndedExchange(record, name), at_venue, ended=True)


def _binance(connection: Connection, known: Settings) -> list[Asked]:
    """What was there before our first order is not ours to explain; two seconds allow for the clocks' difference."""
    if known.venues.binance is None or known.feed.kind == "capture":
        return []
    at_venue = AtVenue(only=(SPOT,))
    first_ns = sent_orders(connection, at_venue)[1]
    if first_ns is None:
        return []
    terms = known.venues.binance
    network = addresses_of(terms), read_credentials(terms.api_key_file, terms.secret_file)
    instruments = [item for item in known.instrument_events().values() if item.venue == SPOT]
    reader = BinanceAccountReader(
        terms, network, instruments, lambda: sent_orders(connection, at_venue)[0], first_ns - _CLOCKS_APART_NS
    )
    return [Asked(f"Binance ({network[0].profile})", reader, at_venue)]


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
    if done.standing is not None:
        typer.echo(done.standing.sentence)
        if done.standing.rows():
            print_rows(done.standing.rows(), STANDING_COLUMNS.split(), "", console)
