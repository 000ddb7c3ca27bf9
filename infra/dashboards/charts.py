"""Lines, states and heat maps as SVG, with nothing but text: what Grafana would draw, as far as people need it."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from infra.dashboards.formats import colour_at, told
from infra.dashboards.frames import Series
from infra.dashboards.macros import Span
from infra.dashboards.panels import Lines, Panel

PALETTE: Final = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"),
    *("#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477"),
)
_WIDTH: Final = 600.0
_LEFT: Final = 58.0
_STATE_COLOURS: Final = {
    "green": "#73bf69",
    "orange": "#ff9830",
    "red": "#f2495c",
    "text": "#8e8e8e",
    "blue": "#5794f2",
}


def css_colour(name: str) -> str:
    """Return a colour's code."""
    return _STATE_COLOURS.get(name, name)


def lines(panel: Panel, series: Sequence[Series], span: Span, marks: Sequence[tuple[float, str]]) -> str:
    """Return the chart of a panel of lines or bars, with vertical lines at the marks (time in seconds, colour)."""
    kind = panel.kind
    assert isinstance(kind, Lines)
    drawn = _stacked(series) if kind.stacked else [(one, [0.0] * len(one.points)) for one in series]
    tops = [value + low for one, lows in drawn for (_, value), low in zip(one.points, lows, strict=True)]
    finite = [value for value in tops if math.isfinite(value)]
    height = _height(panel)
    low, high = _bounds(panel, finite, kind)
    body = [_grid(panel, low, high, height), _time_axis(span, height)]
    for place, (one, lows) in enumerate(drawn):
        colour = PALETTE[place % len(PALETTE)]
        places = [
            (_x(at, span), _y(value + under, low, high, height), _y(under, low, high, height))
            for (at, value), under in zip(one.points, lows, strict=True)
            if math.isfinite(value)
        ]
        body.append(_bars(places, colour, span) if kind.bars else _line(places, colour, kind))
    for limit in panel.limits.limits:
        if low <= limit.value <= high:
            y = _y(limit.value, low, high, height)
            colour = css_colour(limit.colour.value)
            body.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" class="limit"/>')
    for at, colour in marks:
        x = _x(at, span)
        body.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}" stroke="{css_colour(colour)}" class="mark"/>'
        )
    return _svg(body, height)


def states(panel: Panel, series: Sequence[Series], span: Span) -> str:
    """Return the chart of a state timeline: one bar a series, coloured by what it was."""
    step = 22.0
    body = [_time_axis(span, step * len(series))]
    for row, one in enumerate(series):
        y = row * step
        label = escape(one.name[:24])
        body.append(f'<text x="{_LEFT + 4}" y="{y + 15:.1f}" class="over">{label}</text>')
        ends = (
            [at for at, _ in one.points[1:]] + [min(span.to_s, one.points[-1][0] + span.interval_s)]
            if one.points
            else []
        )
        for (at, value), end in zip(one.points, ends, strict=True):
            colour = css_colour(colour_at(value, panel.limits, panel.names))
            x, wide = _x(at, span), max(_x(end, span) - _x(at, span) + 0.5, 0.5)
            title = escape(told(value, panel.unit, names=panel.names))
            body.insert(1, f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{step - 4}" fill="{colour}"'
                        f' opacity="0.7"><title>{title}</title></rect>')  # fmt: skip
    return _svg(body, step * max(len(series), 1) + 4)


def heat(panel: Panel, series: Sequence[Series], span: Span) -> str:
    """Return a heat map: each series is a cumulative bucket named by its upper bound."""
    ordered = sorted(series, key=lambda one: float(one.name))
    height = _height(panel)
    counts: list[tuple[int, float, float]] = []
    below: dict[float, float] = {}
    for row, one in enumerate(ordered):
        for at, value in one.points:
            counts.append((row, at, max(value - below.get(at, 0.0), 0.0)))
            below[at] = value
    used = [row for row, _, count in counts if count > 0]
    first, last = (min(used), max(used)) if used else (0, 0)
    most = max((count for _, _, count in counts), default=0.0) or 1.0
    tall = height / (last - first + 1)
    wide = max((_WIDTH - _LEFT) * span.interval_s / span.range_s, 1.0)
    body = [_time_axis(span, height)]
    for row, at, count in counts:
        if count > 0:
            y = height - (row - first + 1) * tall
            shade = 0.15 + 0.85 * (count / most) ** 0.5
            body.append(f'<rect x="{_x(at, span):.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall - 1:.1f}"'
                        f' fill="#ff9830" opacity="{shade:.2f}"/>')  # fmt: skip
    for row in range(first, last + 1):
        y = height - (row - first + 0.4) * tall
        label = escape(told(float(ordered[row].name), panel.unit)) if ordered else ""
        body.append(f'<text x="{_LEFT - 4}" y="{y:.1f}" class="y">{label}</text>')
    return _svg(body, height)


def _height(panel: Panel) -> float:
    return panel.height * 24.0


def _bounds(panel: Panel, values: Sequence[float], kind: Lines) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if kind.bars or kind.stacked:
        low = min(low, 0.0)
    low = panel.least if panel.least is not None else low
    if panel.most is not None:
        high = max(panel.most, high) if high > 0.5 * panel.most else high
    if high <= low:
        return low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    return low, high + (high - low) * 0.05


def _x(at: float, span: Span) -> float:
    return _LEFT + (at - span.from_s) / span.range_s * (_WIDTH - _LEFT)


def _y(value: float, low: float, high: float, height: float) -> float:
    return height - (value - low) / (high - low) * (height - 6)


def _grid(panel: Panel, low: float, high: float, height: float) -> str:
    found = []
    for step in range(5):
        value = low + (high - low) * step / 4.2
        y = _y(value, low, high, height)
        label = escape(told(value, panel.unit))
        found.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        found.append(f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" class="y">{label}</text>')
    return "".join(found)


def _time_axis(span: Span, height: float) -> str:
    found = []
    for step in range(6):
        at = span.from_s + span.range_s * step / 5
        hour, minute, second = int(at // 3600 % 24), int(at // 60 % 60), int(at % 60)
        anchor = "start" if step == 0 else "end" if step == 5 else "middle"
        text = f"{hour:02}:{minute:02}:{second:02}"
        found.append(
            f'<text x="{_x(at, span):.1f}" y="{height + 14:.1f}" class="x" text-anchor="{anchor}">{text}</text>'
        )
    return "".join(found)


def _line(places: Sequence[tuple[float, float, float]], colour: str, kind: Lines) -> str:
    if not places:
        return ""
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2.5" fill="{colour}"/>'
    path = [f"M{places[0][0]:.1f},{places[0][1]:.1f}"]
    for x, y, _ in places[1:]:
        path.append(f"H{x:.1f}V{y:.1f}" if kind.steps else f"L{x:.1f},{y:.1f}")
    line = "".join(path)
    under = "".join(f"L{x:.1f},{low:.1f}" for x, _, low in reversed(places))
    area = f'<path d="{line}{under}Z" fill="{colour}" opacity="{kind.fill / 100:.2f}"/>' if kind.stacked else ""
    return f'{area}<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def _bars(places: Sequence[tuple[float, float, float]], colour: str, span: Span) -> str:
    wide = max((_WIDTH - _LEFT) * span.interval_s / span.range_s * 0.8, 1.5)
    return "".join(
        f'<rect x="{x - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(low - y, 0):.1f}" fill="{colour}"'
        ' opacity="0.8"/>'
        for x, y, low in places
    )


def _stacked(series: Sequence[Series]) -> list[tuple[Series, list[float]]]:
    under: dict[float, float] = {}
    found = []
    for one in series:
        lows = [under.get(at, 0.0) for at, _ in one.points]
        under.update(
            {at: low + value for (at, value), low in zip(one.points, lows, strict=True) if math.isfinite(value)}
        )
        found.append((one, lows))
    return found


def _svg(body: Sequence[str], height: float) -> str:
    return f'<svg viewBox="0 0 {_WIDTH + 6:.0f} {height + 20:.0f}">{"".join(body)}</svg>'
