"""``tradermind experts``: whom the committee trusts, how far it may, and what each would have earned alone.

Exit codes: 0 answered, 2 there is no record to ask.
"""

from typing import Annotated, Any, Final

import typer
from rich.console import Console

from infra.postgres.queries_experts import Pool, pools
from schemas.values import NS_PER_S
from streams.cli_record import DsnOption, JsonOption, RunOption, answer, print_json
from streams.cli_tables import print_rows
from streams.expert_record import POOL, rows_of, scored_ballot

_COLUMNS: Final = (
    "instrument horizon_s expert weight skill ballots abstained base_log_loss log_loss_before log_loss_after"
    " ece_before ece_after signal_bp net_bp regret_fixed regret_shifting"
)
_OVER_TIME: Final = (
    "instrument horizon_s expert from_ballot brier_before brier_after log_loss_before log_loss_after"
    " ece_before ece_after"
)


def experts(
    *,
    instrument: Annotated[str | None, typer.Option("--instrument", help="VENUE:SYMBOL")] = None,
    ballots: Annotated[int, typer.Option("--ballots", min=1, max=100_000, help="The newest of each horizon.")] = 2_000,
    shifts: Annotated[int, typer.Option("--shifts", min=0, max=100, help="Of the best sequence of experts.")] = 3,
    over_time: Annotated[bool, typer.Option("--over-time", help="Calibration by quarters of the ballots.")] = False,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what each expert weighs, how calibrated it is before and after, its profit alone, and its regret."""
    rows = [
        row
        for pool in answer(dsn, run, lambda record: pools(record, instrument, ballots))
        for row in _rows(pool, shifts)
    ]
    if as_json:
        print_json(rows)
    elif over_time:
        print_rows(_periods(rows), _OVER_TIME.split(), "No ballot has been scored yet.", Console())
    else:
        print_rows(rows, _COLUMNS.split(), "No tally is in the record yet.", Console())


def _rows(pool: Pool, shifts: int) -> list[dict[str, Any]]:
    """Return one row for each that is known to the pool, the heaviest first, and the pool's own last."""
    ballots = [ballot for row in pool.ballots if (ballot := scored_ballot(row)) is not None]
    found = rows_of(ballots, pool.horizon_ns, pool.taker_fee_rate, shifts)
    place = {"instrument": pool.instrument, "horizon_s": f"{pool.horizon_ns / NS_PER_S:g}"}
    rows = [place | standing | found.pop(standing["expert"], {}) for standing in pool.standings]
    gone = [{"expert": name, "weight": None, "skill": None} | found[name] for name in sorted(found) if name != POOL]
    return [
        *rows,
        *(place | row for row in gone),
        place | {"expert": POOL, "weight": None, "skill": None} | found[POOL],
    ]


def _periods(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    periods = []
    for row in rows:
        begin = 0
        for period in row.get("over_time", ()):
            named = {name: row[name] for name in ("instrument", "horizon_s", "expert")}
            periods.append(named | {"from_ballot": begin} | period)
            begin += period["ballots"]
    return periods
