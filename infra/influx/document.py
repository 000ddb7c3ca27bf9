"""Write the tables of docs/influx.md from what makes the points: ``python -m infra.influx.document [--check]``."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from infra.influx.rebuild import sources
from infra.influx.schema import ENTRY_FIELDS, MEASUREMENTS, OF_AN_ENTRY, WITHOUT_POINTS, Form, field_forms_of, tags_of
from infra.made_tables import MadeTables
from schemas.opinions import VoteTally

MADE: Final = MadeTables(Path(__file__).parents[2] / "docs" / "influx.md", "infra.influx.document", "influx-page")
_PRICE: Final = "price"
_QUANTITY: Final = "quantity"
_MONEY: Final = "money"
_SHARE: Final = "0 to 1"
_EXPOSURE: Final = "-1 to 1"
_OF: Final[dict[str, str]] = {
    _PRICE: "ask_price average_price bid_price close_price decision_mid entry_price exit_price flat_band high_price"
    " limit_price low_price mid move open_price pending_price price spread stop_price",
    _QUANTITY: "ask_quantity bid_quantity filled_quantity leaves_quantity pending_quantity position position_after"
    " quantity volume working working_after",
    _MONEY: "day_pnl equity equity_peak fee fees funding gross_pnl net_pnl pnl realised_pnl reward slippage"
    " strategy_day_pnl unrealised_pnl",
    _SHARE: "base_loss calibrated_loss loss pool_loss p_down p_flat p_up calibrated_down calibrated_flat calibrated_up"
    " calibration_error drawdown_ratio weight",
    _EXPOSURE: "target previous_target intended effective outcome",
    "ms": "age_ms delay_ms since_decided_ms",
    "s": "held_s",
    "ns": "deadline_ns decided_at_ns entry_time_ns exit_time_ns expires_at_ns grid_time_ns newest_time_ns open_time_ns",
    "nats": "disagreement",
    "share of the mid": "edge cost",
    "share of the mid, per root of a second": "volatility",
    "share of the base loss saved": "skill",
    "number": "count trades update_id cancels_count entries_count late_count score value",
}
UNITS: Final = {name: unit for unit, names in _OF.items() for name in names.split()}
"""Field -> its unit, for all that are numbers."""
_WORDS: Final = {Form.TRUTH: "true or false", Form.TEXT: "text", Form.WORDS: "text", Form.MAP: "by name"}


def tables() -> str:
    """Return the table in Markdown: one row for a measurement."""
    rows = ["| Measurement | From | Tags | Fields (unit) | Made again from |", "|---|---|---|---|---|"]
    made_from = {name: source.table for name, source in sources().items()}
    for kind, name in MEASUREMENTS.items():
        fields = (f"`{field}` ({_unit(field, form)})" for field, form in field_forms_of(kind).items())
        rows.append(_row(name, kind.__name__, tags_of(kind), fields, made_from[name]))
        if kind is VoteTally:
            tags = ("venue", "symbol", "expert", "horizon_s")
            of_entry = (f"`{field}` ({UNITS[field]})" for field in ENTRY_FIELDS)
            rows.append(_row(OF_AN_ENTRY, f"each entry of a {kind.__name__}", tags, of_entry, made_from[name]))
    without = ", ".join(f"`{kind.__name__}`" for kind in WITHOUT_POINTS)
    return "\n".join((*rows, "", f"Without points: {without}."))


def _row(name: str, origin: str, tags: Iterable[str], fields: Iterable[str], table: str) -> str:
    said = ", ".join(f"`{tag}`" for tag in tags)
    return f"| `{name}` | {origin} | {said} | {', '.join(fields)} | `{table}` |"


def _unit(field: str, form: Form) -> str:
    return _WORDS[form] if form in _WORDS else UNITS[field]


if __name__ == "__main__":
    sys.exit(MADE.command(tables(), sys.argv[1:]))
