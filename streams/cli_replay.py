"""``tradermind replay --verify``: prove of a run that its outputs follow from its inputs, byte for byte."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from streams.cli_record import LATEST_RUN
from streams.composition import Run, compose
from streams.offline.log_reader import RecomputeImpossible
from streams.offline.question import Question, Stretch, time_ns
from streams.processes import settings_of_run
from streams.sentences import one_sentence

if TYPE_CHECKING:
    from streams.offline.difference import Difference
    from streams.offline.verify import StageVerdict

_FIELDS_MOST: Final = 20


def replay(
    *,
    run: Annotated[Path | None, typer.Option("--run", help="The directory of a run (default .run/latest).")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every output to the byte.")] = False,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only from this time on: ISO (UTC), or ns.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Only to this time, by the run's clock.")
    ] = None,
    stage: Annotated[list[str] | None, typer.Option("--stage", help="Only this stage; may be given again.")] = None,
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Compare also what other code or settings have made.")
    ] = False,
    settings: Annotated[Path | None, typer.Option("--settings", help="The settings file of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Step a run's inputs through its stages again and compare; the run's broker and database must still be up.

    A stretch begins at the newest kept snapshot before it. Exit code 0: all equal; 1: a stage differs, and where and
    how is shown; 2: it cannot be said, because something is not kept, or other code or settings made it.
    """
    if not verify:
        typer.echo("replay does one thing so far: run it with --verify.", err=True)
        raise typer.Exit(2)
    stretch = _stretch(begin, end)
    with one_sentence():
        composed = compose(settings_of_run((run or LATEST_RUN) / "run.json", settings))
        try:
            verdicts = _verdicts(composed, stretch, tuple(stage or ()), any_version=any_version)
        except RecomputeImpossible as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps([verdict.as_json() for verdict in verdicts], indent=1))
    else:
        report(verdicts)
    if any(verdict.first_difference is not None for verdict in verdicts):
        raise typer.Exit(1)


def _stretch(begin: str | None, end: str | None) -> Stretch:
    try:
        stretch = Stretch(None if begin is None else time_ns(begin), None if end is None else time_ns(end))
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if stretch.from_ns is not None and stretch.is_over(stretch.from_ns):
        typer.echo("--from is later than --to: there is nothing in between.", err=True)
        raise typer.Exit(2)
    return stretch


def _verdicts(run: Run, stretch: Stretch, stages: tuple[str, ...], *, any_version: bool) -> "list[StageVerdict]":
    from streams.offline.verify import stages_of, verify_run

    console = Console(stderr=True)
    names = stages or stages_of(run)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading", total=len(names))
        finished = 0

        def observe(verdict: "StageVerdict") -> None:
            nonlocal finished
            finished += 1
            bar.update(task, completed=finished)
            if console.is_terminal:
                console.print(f"{verdict.stage}: {verdict.matched:,} of {verdict.outputs:,} outputs equal")

        def advance(source: str, done: float) -> None:
            # A stage's shards each fill its part of the bar again: how many there are shows only as they come.
            bar.update(task, description=source, completed=finished + done)

        return asyncio.run(verify_run(run, observe, Question(stretch, stages, any_version, advance)))


def report(verdicts: "list[StageVerdict]") -> None:
    """Print the verdicts and, of each stage that differs, both sides of its first difference."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for column in ("shards", "lead-in", "inputs", "outputs", "matched"):
        table.add_column(column, justify="right")
    table.add_column("first difference")
    for verdict in verdicts:
        figures = (verdict.shards, verdict.lead_in, verdict.inputs, verdict.outputs, verdict.matched)
        found = "none" if verdict.difference is None else "see below"
        table.add_row(verdict.stage, *(f"{figure:,}" for figure in figures), found)
    console = Console()
    console.print(table)
    made_by = sorted({version for verdict in verdicts for version in verdict.versions()})
    for code, kept in made_by:
        console.print(f"made by code {code or 'unknown'} with settings {kept or 'unknown'}", highlight=False)
    for verdict in verdicts:
        if verdict.difference is not None:
            console.print(f"\n{verdict.first_difference}", soft_wrap=True, markup=False, highlight=False)
            _show_sides(console, verdict.difference)


def _show_sides(console: Console, difference: "Difference") -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("field", "recomputed", "in the log"):
        table.add_column(column, overflow="fold")
    if difference.fields:
        for one in difference.fields[:_FIELDS_MOST]:
            table.add_row(*map(Text, (one.path, one.recomputed, one.logged)))
        if len(difference.fields) > _FIELDS_MOST:
            table.add_row(f"and {len(difference.fields) - _FIELDS_MOST} more", "", "")
    else:
        sides = (difference.recomputed, difference.logged)
        table.add_row("the whole event", *(Text("no such record" if side is None else repr(side)) for side in sides))
    console.print(table)
