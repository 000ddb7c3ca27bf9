"""The commands that read the record: why, positions, pnl, ledger, orders and decisions.

Exit codes: 0 answered, 1 what was asked for is not in the record, 2 there is no record to ask.
"""

import enum
from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.console import Console

from infra.postgres.queries import Row, chain_of, find_decision
from infra.postgres.queries_state import (
    Selection,
    decisions,
    orders,
    pnl,
    positions,
)
from infra.postgres.queries_statement import book_faults, trial_balance
from streams.books_standing import books_standing
from streams.cli_record import DsnOption, JsonOption, RunOption, answer, print_json
from streams.cli_tables import print_rows
from streams.cli_why import print_chain

app = typer.Typer(no_args_is_help=True)


class By(enum.StrEnum):
    """What a sum is taken by."""

    ACCOUNT = "account"
    STRATEGY = "strategy"
    INSTRUMENT = "instrument"


AccountOption = Annotated[str | None, typer.Option("--account")]
StrategyOption = Annotated[str | None, typer.Option("--strategy")]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", help="VENUE:SYMBOL")]
ByOption = Annotated[By | None, typer.Option("--by", help="Sum by this one.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many rows, the newest.")]


@app.command()
def why(
    decision_id: Annotated[str, typer.Argument(help="A decision's or an order's id, or the beginning of one.")],
    *,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a decision: features, votes, tally, decision, each risk check, order, fills, feedback."""
    chain = answer(dsn, run, lambda record: chain_of(record, find_decision(record, decision_id)))
    if as_json:
        print_json(chain)
    else:
        print_chain(chain, Console())


@app.command(name="positions")
def show_positions(
    *,
    flat: Annotated[bool, typer.Option("--flat", help="Also positions that are closed.")] = False,
    by: ByOption = None,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print open positions at their newest mark."""
    rows = answer(dsn, run, lambda record: positions(record, flat=flat, by=by))
    columns = "account strategy instrument quantity average_price mid working unrealised_pnl realised_pnl fees currency"
    if by is not None:
        named = "instrument" if by is By.INSTRUMENT else f"{by} instrument"
        columns = f"{named} quantity working unrealised_pnl realised_pnl fees currency"
    _show(rows, columns, "There is no open position.", as_json)


@app.command(name="pnl")
def show_pnl(*, by: ByOption = None, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print equity and drawdown by account, and profit and loss by strategy and instrument."""
    found = answer(dsn, run, lambda record: pnl(record, by))
    if as_json:
        print_json(found)
        return
    of_accounts = "account equity equity_peak drawdown day_pnl currency time"
    named = "account strategy instrument" if by is None else by
    of_lines = f"{named} realised_pnl unrealised_pnl fees funding net_pnl slippage fills currency"
    _show(found["accounts"], of_accounts, "No account has been valued yet.", as_json)
    Console().print()
    _show(found["lines"], of_lines, "No strategy has been valued yet.", as_json)


@app.command(name="ledger")
def show_ledger(*, dsn: DsnOption = None, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print the trial balance: every ledger account by asset. Exit code 1 if an asset does not sum to 0."""
    balances, faults = answer(dsn, run, lambda record: (trial_balance(record), book_faults(record)))
    wrong = [to_builtins(fault) for fault in faults]
    if as_json:
        print_json({"balances": balances, "faults": wrong})
    else:
        _show(balances, "account ledger_account asset amount", "Nothing has been booked yet.", as_json)
        Console().print()
        _show(wrong, "what name ours theirs", "Every entry and every asset sums to 0.", as_json)
    raise typer.Exit(1 if wrong else 0)


@app.command(name="orders")
def show_orders(
    *,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only orders that may still fill.")] = False,
    limit: LimitOption = 20,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print orders, newest first."""
    asked = Selection(account=account, strategy=strategy, instrument=instrument, open=open_only, limit=limit)
    rows, standing = answer(dsn, run, lambda record: (orders(record, asked), books_standing(record)))
    if standing is not None and not standing.clean:
        # To the side of the table, which programs read.
        typer.echo(f"{standing.sentence}; tradermind reconcile lists what differs.", err=True)
    columns = "time order_id strategy instrument side order_type quantity limit_price stop_price leg filled_quantity"
    more = "average_price status reason deny_reasons decision_id parent_order_id"
    _show(rows, f"{columns} {more}", "There is no such order.", as_json)


@app.command(name="decisions")
def show_decisions(
    *,
    account: AccountOption = None,
    strategy: StrategyOption = None,
    instrument: InstrumentOption = None,
    outcome: Annotated[str | None, typer.Option(help="TARGET, NO_TRADE or ADVICE.")] = None,
    reason: Annotated[str | None, typer.Option(help="A reason for no trade.")] = None,
    limit: LimitOption = 20,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print decisions, newest first."""
    asked = Selection(
        account=account,
        strategy=strategy,
        instrument=instrument,
        outcome=outcome.upper() if outcome else None,
        reason=reason.upper() if reason else None,
        limit=limit,
    )
    rows = answer(dsn, run, lambda record: decisions(record, asked))
    columns = (
        "time decision_id strategy instrument outcome reason target previous_target mid edge cost policy policy_stage"
        " withheld_for"
    )
    _show(rows, columns, "There is no such decision.", as_json)


def _show(rows: Sequence[Row], columns: str, none: str, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, columns.split(), none, Console())
