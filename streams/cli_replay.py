"""``tradermind replay --verify``: prove of a run that its outputs follow from its inputs, byte for byte."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streams.cli_record import LATEST_RUN
from streams.composition import compose
from streams.offline.log_reader import RecomputeImpossible
from streams.processes import settings_of_run
from streams.sentences import one_sentence


def replay(
    run: Annotated[Path | None, typer.Option("--run", help="The directory of a run (default .run/latest).")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every output to the byte.")] = False,
    settings: Annotated[Path | None, typer.Option("--settings", help="The settings file of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Step a run's inputs through its stages again and compare; the run's broker and database must still be up.

    Exit code 0: all equal; 1: a stage differs; 2: something that is needed is not there.
    """
    from streams.offline.verify import StageVerdict, verify_run

    if not verify:
        typer.echo("replay does one thing so far: run it with --verify.", err=True)
        raise typer.Exit(2)
    progress = Console(stderr=True)

    def tell(verdict: StageVerdict) -> None:
        if progress.is_terminal:
            progress.print(f"{verdict.stage}: {verdict.matched:,} of {verdict.outputs:,} outputs equal")

    with one_sentence():
        composed = compose(settings_of_run((run or LATEST_RUN) / "run.json", settings))
        try:
            verdicts = asyncio.run(verify_run(composed, tell))
        except RecomputeImpossible as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    _report(verdicts, as_json)
    if any(verdict.first_difference is not None for verdict in verdicts):
        raise typer.Exit(1)


def _report(verdicts: list[Any], as_json: bool) -> None:
    if as_json:
        rows = [{name: value for name, value in asdict(v).items() if name != "by_shard"} for v in verdicts]
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for column in ("shards", "inputs", "outputs", "matched"):
        table.add_column(column, justify="right")
    table.add_column("first difference")
    for verdict in verdicts:
        figures = (verdict.shards, verdict.inputs, verdict.outputs, verdict.matched)
        table.add_row(verdict.stage, *(f"{figure:,}" for figure in figures), verdict.first_difference or "none")
    Console().print(table)
