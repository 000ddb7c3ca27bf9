"""``tradermind simulate``: whole runs from seeds, on virtual time, each checked; a failing one is one command."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from streams.simulation.run import Outcome

    Observe = Callable[[Outcome], None]

DEFAULT_SEEDS: Final = 20


def simulate(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 1 on.")] = DEFAULT_SEEDS,
    seed: Annotated[int | None, typer.Option(min=0, help="Run this one seed.")] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Market events of each run.")] = None,
    crashes: Annotated[
        bool, typer.Option("--crash-points", help="One short run for each call to the world: its caller dies there.")
    ] = False,
    point: Annotated[int | None, typer.Option(min=1, help="With --crash-points: this one.")] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="With --point: every process dies.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Run the platform in this process under faults drawn from seeds, and check that nothing is lost or doubled."""
    began = time.perf_counter()
    with _unlogged():
        if crashes:
            total = _crash_points(seed, events, (point, everybody), quiet=as_json)
        else:
            total = _seeds([seed] if seed is not None else range(1, seeds + 1), events, quiet=as_json)
    elapsed_s = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(total | {"seconds": round(elapsed_s, 2)}, indent=1))
    elif crashes:
        typer.echo(
            f"{total['points']} points, {total['runs']} runs, {total['failed']} of them with a violation: each a short"
            f" run with {total['orders']} orders in which one call to the world was its caller's, or everybody's, last"
            f" ({elapsed_s:.1f} s here)."
        )
    else:
        _report(total, elapsed_s)
    raise typer.Exit(1 if total["failed"] else 0)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep what the simulated workers would log off the terminal: what matters of it is checked."""
    logger = logging.getLogger("tradermind")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _seeds(chosen: "range | list[int]", events: int | None, *, quiet: bool) -> dict[str, Any]:
    from streams.simulation.run import DEFAULT_EVENTS, campaign

    with _watched("seeds", len(chosen), quiet=quiet) as observe:
        return campaign(chosen, events or DEFAULT_EVENTS, observe=observe).as_json()


def _crash_points(seed: int | None, events: int | None, one: tuple[int | None, bool], *, quiet: bool) -> dict[str, Any]:
    from streams.simulation.crash_points import SHORT_EVENTS, SHORT_SEED, CrashCampaign, run_crash_points, undisturbed
    from streams.simulation.run import simulate as run_once
    from streams.simulation.world import CrashPoint

    first = undisturbed(SHORT_SEED if seed is None else seed, events or SHORT_EVENTS)
    point, everybody = one
    with _watched("points", 1 if point else 2 * first.calls + 2, quiet=quiet) as observe:
        if point is None:
            return run_crash_points(first.seed, first.events, observe=observe).as_json()
        outcome = run_once(first.seed, first.events, crash=CrashPoint(point, everybody))
        observe(outcome)
        total = CrashCampaign(first.calls, first.orders)
        total.add(outcome)
        return total.as_json()


@contextmanager
def _watched(what: str, count: int, *, quiet: bool) -> "Iterator[Observe]":
    """Show how far it is, on a terminal, and tell of each failure as it comes."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=count)

        def observe(outcome: "Outcome") -> None:
            bar.advance(task)
            if outcome.violations and not quiet:
                sentence = f"Again: {outcome.command}\n{outcome.violations[0]}\n"
                console.print(sentence, style="red", highlight=False, markup=False)

        yield observe


def _report(total: dict[str, Any], elapsed_s: float) -> None:
    typer.echo(
        f"{total['seeds']} seeds, {total['failed']} failed: {total['records']} records, {total['orders']} orders and"
        f" {total['fills']} fills in {total['virtual_s']} virtual seconds ({elapsed_s:.1f} s here)."
    )
    typer.echo("faults: " + ", ".join(f"{name} {times}" for name, times in total["faults"].items()))
