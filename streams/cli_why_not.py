"""``tradermind why-not``: why there was no trade in an instrument at a time, for a person to read.

Exit codes: 0 answered, 1 nothing was decided by then, 2 there is no record to ask.
"""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from infra.postgres.queries_why_not import why_not
from infra.settings import SettingsError
from schemas.values import NS_PER_S
from streams.cli_record import DsnOption, JsonOption, RunOption, one_sentence, opened_record, print_json
from streams.cli_tables import print_rows
from streams.cli_why import print_chain
from streams.offline.question import time_ns


def explain_absence(
    instrument: Annotated[str, typer.Argument(help="VENUE:SYMBOL")],
    *,
    at: Annotated[str, typer.Option("--at", help="ISO, UTC unless it says otherwise, or ns; the run's clock.")],
    account: Annotated[str | None, typer.Option("--account")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy")] = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why there was no trade at a time: the newest decision by then, its votes, the level, what was denied."""
    with one_sentence():
        try:
            at_ns = time_ns(at)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        with opened_record(dsn, run) as record:
            slots = why_not(record, instrument, at_ns, account, strategy)
    if as_json:
        print_json(slots)
        return
    console = Console()
    for slot in slots:
        _print(slot, console)


def _print(slot: dict[str, Any], console: Console) -> None:
    name = f"{slot['account']}/{slot['strategy']} on {slot['instrument']}"
    console.print(Rule(Text(name, style="bold"), align="left"))
    console.print(Text(slot["because"]))
    console.print(Text(f"The decision was {slot['age_ns'] / NS_PER_S:.3f} s old; level {slot['level']}."))
    if slot["levels"]:
        columns = ("scope", "target", "level", "author", "reason", "time")
        print_rows(slot["levels"], columns, "", console)
    print_chain(slot["chain"], console)
