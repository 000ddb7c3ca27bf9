"""``tradermind tca``: what each order cost against the mid it was decided on, and why; and what the next will cost.

Exit codes: 0 answered, 1 no order has reached the venue, 2 there is no record to ask.
"""

import enum
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from agents.costs.estimate import HORIZON_NS, CostEstimate
from infra.postgres.queries_costs import CostsAsked, finished_orders
from infra.settings_costs import costs_as_toml
from schemas.values import NS_PER_S
from streams.cli_record import DsnOption, JsonOption, RunOption, answer, print_json
from streams.cli_tables import print_rows
from streams.cost_priors import settings_of
from streams.order_costs import estimates, grouped, measure

_COLUMNS: Final = "orders measured filled delay drift spread impact fees opportunity total total_bp paid_bp currency"
_ESTIMATE: Final = "instrument fills excess_bp fee_bp impact_coefficient"
_ORDERS_SHOWN: Final = 50


class Grouping(enum.StrEnum):
    """What a row of the answer stands for."""

    INSTRUMENT = "instrument"
    STRATEGY = "strategy"
    ORDER = "order"


def tca(
    *,
    by: Annotated[Grouping, typer.Option("--by", help="One row for each of these.")] = Grouping.INSTRUMENT,
    account: Annotated[str | None, typer.Option("--account")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy")] = None,
    instrument: Annotated[str | None, typer.Option("--instrument", help="VENUE:SYMBOL")] = None,
    horizon: Annotated[
        float, typer.Option("--horizon-s", min=0.1, max=3600, help="How long after a fill the mid is looked at.")
    ] = HORIZON_NS / NS_PER_S,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the estimates as sections of the settings.")
    ] = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Split what orders cost into delay, drift, spread, impact, fees and opportunity; the parts sum to the total."""
    asked = CostsAsked(round(horizon * NS_PER_S), account, strategy, instrument)
    measured = [measure(*one) for one in answer(dsn, run, lambda record: finished_orders(record, asked))]
    rows = grouped(measured, by)
    unmeasured = Counter(item.why_not for item in measured if item.why_not is not None)
    found = estimates(measured)
    if write is not None:
        write.write_text(costs_as_toml(settings_of(found)))
    if as_json:
        told = {"horizon_s": horizon, "rows": rows, "unmeasured": dict(unmeasured)}
        print_json(told | {"estimates": {name: item._asdict() for name, item in found.items()}})
    elif measured:
        _show(rows, unmeasured, found, by)
    else:
        typer.echo("No order has reached the venue.", err=True)
    if not measured:
        raise typer.Exit(1)


def _show(rows: list[dict[str, Any]], unmeasured: Counter[str], found: dict[str, CostEstimate], by: Grouping) -> None:
    console = Console()
    name = "order_id" if by is Grouping.ORDER else by.value
    shown = rows[-_ORDERS_SHOWN:] if by is Grouping.ORDER else rows
    print_rows(shown, [name, *_COLUMNS.split()], "", console)
    if len(shown) < len(rows):
        typer.echo(f"The newest {len(shown)} of {len(rows)} orders; --json prints all.")
    for why, count in sorted(unmeasured.items()):
        typer.echo(f"{count} not measured: {why}.")
    if found:
        console.print()
        print_rows([_estimate_row(name, item) for name, item in found.items()], _ESTIMATE.split(), "", console)


def _estimate_row(name: str, item: CostEstimate) -> dict[str, Any]:
    return {
        "instrument": name,
        "fills": item.fills,
        "excess_bp": item.excess * 10_000,
        "fee_bp": item.fee * 10_000,
        "impact_coefficient": item.impact_coefficient,
    }
