"""People and their keys: a new one is a private file, and a line for the list of people."""

from pathlib import Path
from typing import Annotated

import typer

from infra.people import SIGNING_ROLE, load_people, new_personal_key
from infra.postgres.queries import RecordUnreachable
from streams.cli_record import JsonOption, RunOption, one_sentence, print_json
from streams.standing import settings_for

app = typer.Typer(no_args_is_help=True, help="People who may sign what raises a limit or lifts a kill.")


@app.command(name="new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="The private key's file; it must not be there yet.")],
    *,
    name: Annotated[str, typer.Option("--name", help="Whose it is.")],
    role: Annotated[str, typer.Option("--role", help=f"Only {SIGNING_ROLE} may sign.")] = SIGNING_ROLE,
) -> None:
    """Make a person's key (mode 0600), and print the line for the list of people."""
    with one_sentence():
        key = new_personal_key(file, name)
    typer.echo(key.line(role))


@app.command(name="ls")
def list_people(*, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print who is on the list of people."""
    with one_sentence():
        path = settings_for(run).people.allow_list_file
        if path is None:
            raise RecordUnreachable("There is no list of people: set people.allow_list_file.")
        people = load_people(path)
    rows = [{"name": item.name, "role": item.role, "public_key": item.public_key.hex()} for item in people.values()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(" ".join(row.values()))
