"""``tradermind backtest``: the stages in process over a capture, with a progress bar on a terminal."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.settings import load_settings
from infra.settings_costs import read_costs
from schemas.values import NS_PER_S
from streams.composition import Run, compose
from streams.cost_priors import priors_of
from streams.demo.plan import DemoPlan
from streams.sentences import one_sentence

_REFRESH_EVERY: Final = 2_000


def backtest(
    *,
    feed: Annotated[str, typer.Argument(help="simulated, or paths of captures, comma-separated.")] = "simulated",
    policy: Annotated[str | None, typer.Option(help="champion, baseline, null, probe; else the settings'.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long the simulated market lasts.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    settings: Annotated[Path | None, typer.Option("--settings")] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", help="What trading has cost: a file of `tca --write`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Run every stage in this process over a feed: trades, net P&L, costs, drawdown."""
    plan = DemoPlan(directory=Path(".run"), settings_file=settings, feed=feed, policy=policy, seed=seed)
    with one_sentence():
        run = compose(load_settings(settings, plan.overrides()))
        if costs is not None:
            run = replace(run, cost_priors=priors_of(read_costs(costs)))
        began = time.perf_counter()
        report = _with_progress(run, seconds)
        elapsed_s = time.perf_counter() - began
    result = report.as_json() | {"seconds": round(elapsed_s, 2), "messages_per_s": round(report.messages / elapsed_s)}
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in result.items():
        shown = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), shown or "none")
    Console().print(table)


def _with_progress(run: Run, seconds: float) -> Any:
    from streams.offline.backtest import backtest as run_backtest

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[at]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("backtest", total=None if run.on_capture else seconds, at="")
        seen = 0
        first_ns = 0

        def progress(time_ns: int) -> None:
            nonlocal seen, first_ns
            first_ns = first_ns or time_ns
            seen += 1
            if seen % _REFRESH_EVERY == 0:
                elapsed_s = (time_ns - first_ns) / NS_PER_S
                bar.update(task, completed=elapsed_s, at=f"{seen:,} messages, {elapsed_s:,.0f} s of market")

        return run_backtest(run, seconds=seconds, progress=progress)
