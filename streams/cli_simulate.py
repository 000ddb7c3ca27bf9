"""``tradermind simulate``: whole runs from seeds, on virtual time, each checked; a failing seed is one command."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from streams.simulation.run import Outcome

DEFAULT_SEEDS: Final = 20


def simulate(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 1 on.")] = DEFAULT_SEEDS,
    seed: Annotated[int | None, typer.Option(min=0, help="Run this one seed.")] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Market events of each run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Run the platform in this process under faults drawn from seeds, and check that nothing is lost or doubled."""
    from streams.simulation.run import DEFAULT_EVENTS
    from streams.simulation.run import campaign as run_campaign

    chosen = [seed] if seed is not None else range(1, seeds + 1)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.perf_counter()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("seeds", total=len(chosen))

        def observe(outcome: "Outcome") -> None:
            bar.advance(task)
            if outcome.violations and not as_json:
                console.print(_failure(outcome), style="red", highlight=False, markup=False)

        total = run_campaign(chosen, events or DEFAULT_EVENTS, observe=observe)
    elapsed_s = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(total.as_json() | {"seconds": round(elapsed_s, 2)}, indent=1))
    else:
        _report(total.as_json(), elapsed_s)
    raise typer.Exit(1 if total.failed else 0)


def _failure(outcome: "Outcome") -> str:
    first = outcome.violations[0]
    return f"seed {outcome.seed} failed. Again: {outcome.command}\n{first}\n"


def _report(total: dict[str, object], elapsed_s: float) -> None:
    faults = total["faults"]
    assert isinstance(faults, dict)
    typer.echo(
        f"{total['seeds']} seeds, {total['failed']} failed: {total['records']} records, {total['orders']} orders and"
        f" {total['fills']} fills in {total['virtual_s']} virtual seconds ({elapsed_s:.1f} s here)."
    )
    typer.echo("faults: " + ", ".join(f"{name} {times}" for name, times in faults.items()))
