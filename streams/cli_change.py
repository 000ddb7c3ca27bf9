"""Changes that wait for two people: listed, shown as they would be signed, approved with a key, and applied.

Exit codes: 0 done, 1 refused (the sentence begins with the closed reason), 2 wrong settings, or nobody has answered.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from infra.people import load_personal_key
from infra.postgres.changes import StoredChange, approvals_of, recent_changes
from infra.postgres.queries import NotInRecord, RecordUnreachable, json_ready
from schemas.changes import OutcomeKind, parsed_change
from streams.cli_record import (
    DsnOption,
    JsonOption,
    RunOption,
    database_of,
    one_sentence,
    print_json,
    reachable_database,
)
from streams.cli_tables import print_rows
from streams.proposals import apply, approve, await_outcome, key_file, known_change, missing, place_of, sentence_of
from streams.standing import settings_for

app = typer.Typer(no_args_is_help=True, help="Changes that two people sign: ls, show, approve, apply.")
_LISTED: Final = 20
_SHORT: Final = 12

ChangeArgument = Annotated[str, typer.Argument(help="The change's id, or how it begins.")]
ApplyWaitOption = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for what comes of it.")]


@app.command(name="ls")
def list_changes(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = _LISTED,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the newest proposals, who has approved each, and what came of it."""
    with one_sentence(), reachable_database(dsn, run) as database:
        found = recent_changes(database, limit)
    rows = [json_ready(row) for row in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["change"] = row["change_id"][:_SHORT]
        row["what"] = _what(row["content"])
        row["state"] = row["refusal"] or row["outcome"] or "OPEN"
    columns = ("change", "state", "what", "author", "approved_by", "reason", "created_at")
    print_rows(rows, columns, "Nothing was proposed yet.", Console())


def _what(text: str) -> str:
    try:
        change = parsed_change(text)
    except ValueError:
        return "not a change"
    where = "everywhere" if change.target == "*" else f"{change.scope} {change.target}"
    said = change.level or " ".join(f"{name}={value}" for name, value in change.values.items())
    return f"{said} {where}"


@app.command()
def show(change: ChangeArgument, *, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print a change exactly as it is signed, and who has signed it."""
    with one_sentence(), reachable_database(dsn, run) as database:
        stored = known_change(database, change)
        approved_by = [approval.person for approval in approvals_of(database, stored.change_id)]
    if as_json:
        content: Any = msgspec.json.decode(stored.text)
        print_json({"change_id": stored.change_id, "change": content, "approved_by": approved_by})
        return
    typer.echo(f"{stored.change_id}\n{stored.text}\napproved by: {', '.join(approved_by) or 'nobody'}")


@app.command(name="approve")
def approve_change(
    change: ChangeArgument,
    *,
    key: Annotated[Path, typer.Option("--key", help="Your private key's file.")],
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a change with your key. Read it first: `tradermind change show`."""
    with one_sentence():
        mine = load_personal_key(key_file(key))
        place = place_of(database_of(dsn, run), settings_for(run))
        stored = known_change(place.dsn, change)
        approved_by = approve(place, stored, mine)
    if as_json:
        print_json({"change_id": stored.change_id, "approved_by": approved_by, "missing": missing(approved_by)})
        return
    left = f"{missing(approved_by)} more must sign" if missing(approved_by) else "it can be applied"
    typer.echo(f"{mine.name} approves {stored.change_id[:_SHORT]}; {left}.")


@app.command(name="apply")
def apply_change(
    change: ChangeArgument,
    *,
    wait: ApplyWaitOption = 5.0,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Order a change with the signatures that it has, and say what execution made of it."""
    with one_sentence():
        database = database_of(dsn, run)
        say_outcome(database, known_change(database, change), wait, as_json=as_json)


def say_proposed(name: str, loosens: tuple[str, ...], *, as_json: bool) -> None:
    """Say that a change is stored, and what it waits for."""
    if as_json:
        print_json({"change_id": name, "loosens": loosens, "outcome": None, "needs": 2})
        return
    short = name[:_SHORT]
    typer.echo(f"Proposed as {short}: it loosens {', '.join(loosens)} and needs two people.")
    typer.echo(f"Each: tradermind change approve {short} --key FILE. Then: tradermind change apply {short}")


def say_outcome(dsn: str, stored: StoredChange, wait_s: float, *, as_json: bool) -> None:
    """Apply a change and say what came of it. Raises RecordUnreachable when nobody has answered in time."""
    try:
        command_id = apply(dsn, stored)
    except ValueError as error:
        raise NotInRecord(str(error)) from error
    found = await_outcome(dsn, command_id, wait_s)
    if as_json:
        print_json({"change_id": stored.change_id, "command_id": command_id, **json_ready(found or {"outcome": None})})
    if found is None:
        if wait_s > 0:
            raise RecordUnreachable(
                f"The change {stored.change_id[:_SHORT]} (command {command_id}) is stored, but nothing was heard of it"
                f" within {wait_s:g} s."
            )
        return
    if found["outcome"] == OutcomeKind.REFUSED:
        sys.stderr.write(sentence_of(found["refusal"], found["detail"]) + "\n")
        raise typer.Exit(1)
    if not as_json:
        in_force = f"; limits {found['version']} are in force" if found["version"] else ""
        typer.echo(f"Applied {stored.change_id[:_SHORT]}{in_force}.")
