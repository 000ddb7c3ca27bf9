"""``tradermind report self-assessment``: what the controls did over a year, from the signed audit (RTS 6 article 9).

Exit codes: 0 answered, 1 nothing was audited in that time, 2 there is no record to ask.
"""

import time
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from infra.postgres.queries_assessment import Assessment, assessment
from infra.settings import SettingsError
from schemas.decisions import DenyReason
from schemas.values import NS_PER_S
from streams.cli_record import DsnOption, JsonOption, RunOption, answer, one_sentence, print_json
from streams.cli_tables import table_of
from streams.offline.question import time_ns

app = typer.Typer(no_args_is_help=True, help="Reports from the audit: self-assessment.")
_YEAR_NS: Final = 366 * 86_400 * NS_PER_S
_PEOPLE: Final = "time author action target level outcome refusal approved_by reason"


@app.callback()
def reports() -> None:
    """Reports from the audit."""


@app.command(name="self-assessment")
def self_assessment(
    *,
    since: Annotated[str | None, typer.Option("--from", help="ISO or ns (default: a year before --to).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="ISO or ns (default: now).")] = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what each control refused, what people ordered, and by which limits orders were judged."""
    with one_sentence():
        to_ns = time.time_ns() if until is None else _moment(until)
        from_ns = to_ns - _YEAR_NS if since is None else _moment(since)
    found: Assessment = answer(dsn, run, lambda record: assessment(record, from_ns, to_ns))
    if not found.streams:
        typer.echo("Nothing was audited in that time.", err=True)
        raise typer.Exit(1)
    never = sorted(set(DenyReason) - {row["reason"] for row in found.reasons})
    if as_json:
        print_json({"from_ns": from_ns, "to_ns": to_ns, **asdict(found), "reasons_never_given": never})
        return
    _show(found, never)


def _moment(given: str) -> int:
    try:
        return time_ns(given)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _show(found: Assessment, never: list[DenyReason]) -> None:
    console = Console()
    _section(console, "What is audited", found.streams, "stream rows first last since until")
    _section(console, "Orders", [found.orders], " ".join(found.orders))
    _section(console, "Refused by the controls", found.reasons, "reason by_risk by_execution")
    console.print(Text(f"Never refused for: {', '.join(never) or 'nothing'}"))
    console.print()
    _section(console, "What people ordered, and what came of it", found.people, _PEOPLE)
    _section(console, "Limits that orders were judged by", found.limits, "version orders since until")
    console.print("Which test proves each control: docs/controls.md. That no row was changed: tradermind audit verify.")


def _section(console: Console, title: str, rows: list[dict[str, Any]], columns: str) -> None:
    console.print(table_of(rows, columns.split(), title) if rows else Text(f"{title}: none"))
    console.print()
