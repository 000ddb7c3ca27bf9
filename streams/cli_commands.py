"""The commands by which people act on a running platform: kill, risk, flatten and cancel.

Each is a row in Postgres with an author and a reason; the control worker turns it into an event. The command waits
until the platform has heard it, and says so: a kill that nobody heard must not look like one that worked.
"""

import getpass
import time
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer

from infra.postgres.commands import ALL, Command, insert_command
from infra.postgres.queries import NotInRecord, RecordUnreachable, open_record
from schemas.control import ControlAction, ScopeKind
from schemas.values import Level
from streams.cli_record import DsnOption, JsonOption, RunOption, located_database, one_sentence, print_json

app = typer.Typer(no_args_is_help=True)
_POLL_S: Final = 0.1

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stays in the record.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who orders it (default: the user).")]
WaitOption = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it was heard.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only this account.")]
StrategyOption = Annotated[str | None, typer.Option("--strategy", help="Only this strategy.")]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", help="Only this instrument (VENUE:SYMBOL).")]


@app.command()
def kill(
    *,
    reason: ReasonOption,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Halt trading at once, everywhere or at one scope; it stays halted until `risk ACTIVE`."""
    with one_sentence():
        scope, target = _scope(account, strategy, instrument)
        command = Command(_author(author), reason, ControlAction.SET_LEVEL, scope, target, Level.HALTED)
        _order(command, _database(dsn, run), wait, as_json)


@app.command()
def risk(
    level: Annotated[Level, typer.Argument(help="ACTIVE, REDUCING or HALTED.", case_sensitive=False)],
    *,
    reason: ReasonOption,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what trading is allowed, everywhere or at one scope."""
    with one_sentence():
        scope, target = _scope(account, strategy, instrument)
        command = Command(_author(author), reason, ControlAction.SET_LEVEL, scope, target, level)
        _order(command, _database(dsn, run), wait, as_json)


@app.command()
def flatten(
    *,
    reason: ReasonOption,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel orders and close positions, everywhere or at one scope."""
    with one_sentence():
        scope, target = _scope(account, strategy, instrument)
        command = Command(_author(author), reason, ControlAction.FLATTEN, scope, target)
        _order(command, _database(dsn, run), wait, as_json)


@app.command()
def cancel(
    order_id: Annotated[str | None, typer.Argument(help="An order's whole id.")] = None,
    *,
    reason: ReasonOption,
    every: Annotated[bool, typer.Option("--all", help="All open orders.")] = False,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel one open order, or all of them."""
    with one_sentence():
        if (order_id is None) is not every:
            raise NotInRecord("Name one order, or say --all.")
        database = _database(dsn, run)
        if order_id is not None:
            _refuse_unknown_order(database, order_id)
        command = Command(_author(author), reason, ControlAction.CANCEL, target=order_id or ALL)
        _order(command, database, wait, as_json)


def _scope(account: str | None, strategy: str | None, instrument: str | None) -> tuple[ScopeKind, str]:
    named = [
        (kind, name)
        for kind, name in (
            (ScopeKind.ACCOUNT, account),
            (ScopeKind.STRATEGY, strategy),
            (ScopeKind.INSTRUMENT, instrument),
        )
        if name is not None
    ]
    if len(named) > 1:
        raise NotInRecord("Name one scope at most: an account, a strategy or an instrument.")
    return named[0] if named else (ScopeKind.GLOBAL, ALL)


def _author(author: str | None) -> str:
    return author if author is not None else getpass.getuser()


def _database(dsn: str | None, run: Path | None) -> str:
    """Return the database of a running platform; one that has to be started first would hear nothing."""
    found = dsn if dsn is not None else located_database(run)[0]
    open_record(found).close()
    return found


def _refuse_unknown_order(dsn: str, order_id: str) -> None:
    with open_record(dsn) as connection:
        row = connection.execute("SELECT final, status FROM orders WHERE order_id = %s", (order_id,)).fetchone()
    if row is None:
        raise NotInRecord(f"No order in the record has the id {order_id!r}.")
    if row["final"]:
        raise NotInRecord(f"The order {order_id} is {row['status']} already.")


def _order(command: Command, dsn: str, wait_s: float, as_json: bool) -> None:
    try:
        command_id = insert_command(dsn, command)
    except ValueError as error:
        raise NotInRecord(str(error)) from error
    heard = _await_hearing(dsn, command_id, wait_s)
    if as_json:
        print_json({"command_id": command_id, "action": command.action, "target": command.target, "heard": heard})
    elif heard:
        typer.echo(f"{_said(command)} (command {command_id}): heard.")
    if not heard and wait_s > 0:
        raise RecordUnreachable(
            f"{_said(command)} (command {command_id}) is stored, but no control worker has passed it on within"
            f" {wait_s:g} s."
        )


def _said(command: Command) -> str:
    where = "everywhere" if command.target == ALL else f"{command.scope} {command.target}"
    return f"{command.level or command.action} {where}"


def _await_hearing(dsn: str, command_id: str, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute("SELECT 1 FROM command_events WHERE command_id = %s", (command_id,)).fetchone()
            if row is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
