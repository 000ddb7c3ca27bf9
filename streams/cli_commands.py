"""The commands by which people act on a running platform: kill, risk, flatten and cancel.

Each is a row in Postgres with an author and a reason; the control worker turns it into an event. The command waits
until the platform has heard it, and says so: a kill that nobody heard must not look like one that worked.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer

from agents.limits.changes import loosens_level
from infra.postgres.commands import ALL, Command, insert_command
from infra.postgres.queries import NotInRecord, RecordUnreachable, open_record
from schemas.control import ControlAction, ScopeKind
from schemas.values import Level
from streams.cli_change import say_proposed
from streams.cli_record import DsnOption, JsonOption, RunOption, author_of, database_of, one_sentence, print_json
from streams.proposals import level_change, place_of, propose
from streams.standing import read_standing, settings_for

app = typer.Typer(no_args_is_help=True)
_POLL_S: Final = 0.1

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stays in the record.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who orders it (default: the user).")]
WaitOption = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it was heard.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only this account.")]
StrategyOption = Annotated[str | None, typer.Option("--strategy", help="Only this strategy.")]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", help="Only this instrument (VENUE:SYMBOL).")]
ScopeOption = Annotated[
    ScopeKind | None, typer.Option("--scope", help="How far it reaches, with --target.", case_sensitive=False)
]
TargetOption = Annotated[str | None, typer.Option("--target", help="The account, strategy or instrument of --scope.")]


@app.command()
def kill(
    *,
    reason: ReasonOption,
    scope: ScopeOption = None,
    target: TargetOption = None,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="Close positions, too.")] = False,
    author: AuthorOption = None,
    wait: WaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Halt trading at once, everywhere or at one scope, and cancel; it stays so until `risk ACTIVE`.

    With --flatten the level is REDUCING, under which nothing leaves but what closes, and positions are closed.
    """
    with one_sentence():
        kind, name = _named_scope(scope, target, scope_of(account, strategy, instrument))
        who, database = author_of(author), _database(dsn, run)
        if not flatten:
            _order(Command(who, reason, ControlAction.SET_LEVEL, kind, name, Level.HALTED), database, wait, as_json)
            return
        commands = (
            Command(who, reason, ControlAction.SET_LEVEL, kind, name, Level.REDUCING),
            Command(who, reason, ControlAction.FLATTEN, kind, name),
        )
        _order_all(commands, database, wait, as_json)


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
    """Set what trading is allowed, everywhere or at one scope. What allows more is proposed, for two people to sign."""
    with one_sentence():
        scope, target = scope_of(account, strategy, instrument)
        database = _database(dsn, run)
        if not _loosens(database, (scope, target), level):
            _order(
                Command(author_of(author), reason, ControlAction.SET_LEVEL, scope, target, level),
                database,
                wait,
                as_json,
            )
            return
        place = place_of(database, settings_for(run))
        name, loosens = propose(place, level_change(place, (scope, target), level, author_of(author), reason))
        say_proposed(name, loosens, as_json=as_json)


def _loosens(dsn: str, scope: tuple[ScopeKind, str], level: Level) -> bool:
    """Return whether a level allows more than execution does now; ACTIVE may always release what was latched."""
    standing = read_standing(dsn)
    held = Level.ACTIVE if standing is None else standing.desk.levels.get(f"{scope[0]}|{scope[1]}", Level.ACTIVE)
    return level is Level.ACTIVE or loosens_level(held, level)


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
        scope, target = scope_of(account, strategy, instrument)
        command = Command(author_of(author), reason, ControlAction.FLATTEN, scope, target)
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
        command = Command(author_of(author), reason, ControlAction.CANCEL, target=order_id or ALL)
        _order(command, database, wait, as_json)


def scope_of(account: str | None, strategy: str | None, instrument: str | None) -> tuple[ScopeKind, str]:
    """Return the one scope that was named, else everything. Raises NotInRecord."""
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


def _named_scope(
    scope: ScopeKind | None, target: str | None, otherwise: tuple[ScopeKind, str]
) -> tuple[ScopeKind, str]:
    """Return what --scope and --target say, or ``otherwise`` where they say nothing."""
    if scope is None and target is None:
        return otherwise
    if otherwise[0] is not ScopeKind.GLOBAL:
        raise NotInRecord("Name one scope at most: by --scope and --target, or by the option of its kind.")
    if scope is None or (scope is ScopeKind.GLOBAL) is not (target in (None, ALL)):
        raise NotInRecord("--scope account, strategy or instrument needs a --target; --scope global has none.")
    return scope, target or ALL


def _database(dsn: str | None, run: Path | None) -> str:
    """Return the database of a running platform; one that has to be started first would hear nothing."""
    found = database_of(dsn, run)
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
    (told,) = _stored_and_heard((command,), dsn, wait_s)
    if as_json:
        print_json(told)
    _say((command,), (told,), wait_s, quiet=as_json)


def _order_all(commands: Sequence[Command], dsn: str, wait_s: float, as_json: bool) -> None:
    told = _stored_and_heard(commands, dsn, wait_s)
    if as_json:
        print_json(told)
    _say(commands, told, wait_s, quiet=as_json)


def _stored_and_heard(commands: Sequence[Command], dsn: str, wait_s: float) -> list[dict[str, Any]]:
    """Store commands, all before any is waited for: none may hang on whether another was heard."""
    try:
        ids = [insert_command(dsn, command) for command in commands]
    except ValueError as error:
        raise NotInRecord(str(error)) from error
    deadline = time.monotonic() + wait_s
    return [
        {
            "command_id": command_id,
            "action": command.action,
            "target": command.target,
            "heard": _await_hearing(dsn, command_id, deadline - time.monotonic()),
        }
        for command, command_id in zip(commands, ids, strict=True)
    ]


def _say(commands: Sequence[Command], told: Sequence[dict[str, Any]], wait_s: float, *, quiet: bool) -> None:
    """Say which commands were heard. Raises RecordUnreachable for one that was not, unless nobody waited."""
    for command, answer in zip(commands, told, strict=True):
        if answer["heard"] and not quiet:
            typer.echo(f"{_said(command)} (command {answer['command_id']}): heard.")
        if not answer["heard"] and wait_s > 0:
            raise RecordUnreachable(
                f"{_said(command)} (command {answer['command_id']}) is stored, but no control worker has passed it on"
                f" within {wait_s:g} s."
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
