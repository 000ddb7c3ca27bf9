"""A board as one HTML page: every panel with its data, where there is no Grafana to draw it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any, Final

from infra.dashboards.board import Board
from infra.dashboards.charts import PALETTE, css_colour, heat, lines, states
from infra.dashboards.formats import colour_at, told
from infra.dashboards.frames import Frame, Series
from infra.dashboards.macros import Span
from infra.dashboards.panels import Bars, Heat, Lines, Panel, Stat, States
from infra.dashboards.units import Unit

ROWS_SHOWN: Final = 12
_LEGEND_SHOWN: Final = 12
_STYLE: Final = """
body{background:#111217;color:#ccccdc;font:13px sans-serif;margin:12px}h1{font-size:19px;margin:4px 0}h2{font-size:14px}
a{color:#6e9fff;margin-right:10px}.note{color:#8e8e9a;margin:2px 0 8px}.row{display:grid;gap:8px;
grid-template-columns:repeat(24,1fr)}.panel{background:#181b1f;border:1px solid #2c3235;border-radius:3px;padding:8px;
overflow:hidden}.panel h3{font-size:13px;margin:0 0 4px;font-weight:500}.big{font-size:26px;font-weight:600}
.stats{display:flex;flex-wrap:wrap;gap:4px 22px}.stats small{display:block;color:#9a9aa5}
svg{width:100%;font:10px sans-serif}.limit,.mark{stroke-dasharray:5 4;stroke-width:1}
.y{text-anchor:end;fill:#9a9aa5}.x{fill:#9a9aa5}.over{fill:#fff}
table{border-collapse:collapse;width:100%;font-size:11.5px}
td,th{text-align:left;border-bottom:1px solid #2c3235;padding:2px 6px;max-width:340px;overflow:hidden;
white-space:nowrap;text-overflow:ellipsis}th{color:#6e9fff;font-weight:500}.key{font-size:11px;color:#c0c0cc;margin-right:10px}
.key i{display:inline-block;width:10px;height:3px;margin-right:4px;vertical-align:middle}
.bar{display:grid;grid-template-columns:32% 1fr 72px;gap:6px;align-items:center;font-size:11.5px;margin:3px 0}
.bar div{background:#22252b;height:13px}.bar div i{display:block;height:13px}.none{color:#8e8e9a;padding:14px}
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """The answers to a panel's queries, in their order."""

    panel: Panel
    frames: tuple[Frame, ...]


def page(board: Board, shown: Mapping[str, Shown], span: Span, marks: Sequence[tuple[float, str]], menu: str) -> str:
    """Return the page of a board; ``shown`` is by the panels' titles, ``marks`` are (time in seconds, colour)."""
    parts = [f'<!doctype html><meta charset="utf-8"><title>{escape(board.title)}</title><style>{_STYLE}</style>']
    parts += [f"<h1>{escape(board.title)}</h1><p class=note>{escape(board.description)}</p><p>{menu}</p>"]
    for row in board.rows:
        parts.append(f"<h2>{escape(row.title)}</h2><div class=row>")
        parts += [_panel(shown[panel.title], span, marks) for panel in row.panels]
        parts.append("</div>")
    parts.append(
        "<p class=note>Drawn by infra/dashboards from what Prometheus, Postgres and InfluxDB told; not by Grafana.</p>"
    )
    return "\n".join(parts)


def _panel(shown: Shown, span: Span, marks: Sequence[tuple[float, str]]) -> str:
    panel = shown.panel
    inside = _inside(shown, span, marks) if any(frame.has_data for frame in shown.frames) else ""
    body = inside or f"<div class=none>{escape(panel.nothing)}</div>"
    title = f'<h3 title="{escape(panel.description)}">{escape(panel.title)}</h3>'
    return f'<div class=panel style="grid-column:span {panel.width}">{title}{body}</div>'


def _inside(shown: Shown, span: Span, marks: Sequence[tuple[float, str]]) -> str:
    panel = shown.panel
    series = [one for frame in shown.frames for one in frame.series if one.points]
    if isinstance(panel.kind, Lines):
        return lines(panel, series, span, marks) + _legend(panel, series)
    if isinstance(panel.kind, States):
        return states(panel, series, span)
    if isinstance(panel.kind, Heat):
        return heat(panel, series, span)
    if isinstance(panel.kind, Stat):
        return _stats(panel, _values(shown))
    if isinstance(panel.kind, Bars):
        return _gauges(panel, _values(shown))
    return "".join(_table(panel, frame) for frame in shown.frames)


def _legend(panel: Panel, series: Sequence[Series]) -> str:
    keys = [
        f'<span class=key><i style="background:{PALETTE[place % len(PALETTE)]}"></i>{escape(one.name)}:'
        f" {escape(told(_newest(one), panel.unit, panel.decimals))}</span>"
        for place, one in enumerate(series[:_LEGEND_SHOWN])
    ]
    more = f"<span class=key>and {len(series) - _LEGEND_SHOWN} more</span>" if len(series) > _LEGEND_SHOWN else ""
    return "".join(keys) + more


def _newest(series: Series) -> float:
    return next((value for _, value in reversed(series.points) if math.isfinite(value)), math.nan)


def _values(shown: Shown) -> list[tuple[str, float]]:
    """Return what there is one number of: name and value of each series, number column or row."""
    found = [(one.name, _newest(one)) for frame in shown.frames for one in frame.series]
    for frame in shown.frames:
        for row in frame.rows:
            numbers = [(name, float(cell)) for name, cell in zip(frame.columns, row, strict=True) if _is_number(cell)]
            texts = " ".join(str(cell) for cell in row if isinstance(cell, str))
            found += [(texts or name, value) for name, value in numbers]
    return found


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)


def _stats(panel: Panel, values: Sequence[tuple[str, float]]) -> str:
    cells = []
    for name, value in values:
        colour = css_colour(colour_at(value, panel.limits, panel.names))
        text = escape(told(value, panel.unit, panel.decimals, panel.names))
        cells.append(f'<div><small>{escape(name)}</small><span class=big style="color:{colour}">{text}</span></div>')
    return f"<div class=stats>{''.join(cells)}</div>"


def _gauges(panel: Panel, values: Sequence[tuple[str, float]]) -> str:
    most = panel.most or max((value for _, value in values if math.isfinite(value)), default=1.0) or 1.0
    bars = []
    for name, value in values:
        wide = min(max(value / most, 0.0), 1.0) * 100 if math.isfinite(value) else 0.0
        colour = css_colour(colour_at(value, panel.limits, panel.names))
        text = escape(told(value, panel.unit, panel.decimals, panel.names))
        bars.append(
            f"<div class=bar><span>{escape(name)}</span>"
            f'<div><i style="width:{wide:.1f}%;background:{colour}"></i></div><span>{text}</span></div>'
        )
    return "".join(bars)


def _table(panel: Panel, frame: Frame) -> str:
    shape = {column.name: column for column in panel.columns}
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    rows = []
    for row in frame.rows[:ROWS_SHOWN]:
        cells = []
        for name, cell in zip(frame.columns, row, strict=True):
            column = shape.get(name)
            text = told(cell, column.unit, column.decimals, column.names) if column else told(cell, Unit.PLAIN)
            cells.append(f"<td>{escape(text)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    left = len(frame.rows) - ROWS_SHOWN
    more = f"<p class=note>and {left} more rows</p>" if left > 0 else ""
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>{more}"
