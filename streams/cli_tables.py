"""Rows of the record as tables for people. Every value is text, never markup: some of it was written by others."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_NONE: Final = "-"
_DECIMAL: Final = re.compile(r"-?\d{1,20}(\.\d+)?")
_ID_FIELDS: Final = frozenset(
    {"decision_id", "order_id", "event_id", "fill_id", "entry_decision_id", "exit_decision_id", "parent_order_id"}
)
_MONEY_PLACES: Final = 2
_MONEY: Final = frozenset(
    ("realised_pnl", "unrealised_pnl", "fees", "fee", "funding", "net_pnl", "gross_pnl", "slippage")
    + ("delay", "drift", "spread", "impact", "opportunity", "total")
    + ("equity", "equity_peak", "day_pnl", "pnl", "reward")
)
_ID_SHOWN: Final = 12
"""So many characters of an id are shown: enough for ``why`` to find it by."""


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> Table:
    """Return a table of the named columns; numbers to the right, what is absent as a dash."""
    table = Table(box=None, pad_edge=False, title=Text(title) if title else None, title_justify="left")
    for name in columns:
        given = [row[name] for row in rows if row.get(name) is not None]
        numeric = bool(given) and all(_is_number(value) for value in given)
        table.add_column(Text(name.replace("_", " ")), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(name, row.get(name))) for name in columns))
    return table


def shown(name: str, value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return _NONE
    if name in _ID_FIELDS and isinstance(value, str):
        return value[:_ID_SHOWN]
    if name in _MONEY and isinstance(value, str):
        return _money(value)
    if name == "drawdown" and isinstance(value, str):
        return format(Decimal(value), ".4%")
    if name == "time" and isinstance(value, str):
        return value[:23].replace("T", " ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(value, ".4g")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or _NONE
    return str(value)


def _money(value: str) -> str:
    amount = Decimal(value)
    rounded = round(amount, _MONEY_PLACES)
    # An amount too small for two places is shown in full: a fee of 0.0004 is not nothing.
    return format(rounded, ",f") if rounded or not amount else value


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], none: str, console: Console) -> None:
    """Print a table, or one sentence when there is nothing in it."""
    console.print(table_of(rows, columns) if rows else Text(none))
