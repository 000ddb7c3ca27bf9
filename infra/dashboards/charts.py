"""Lines, states and heat maps as SVG, with nothing but text: what Grafana would draw, as far as people need it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from infra.dashboards.formats import colour_at, on_axis, told
from infra.dashboards.frames import Series
from infra.dashboards.macros import Span
from infra.dashboards.panels import Lines, Panel

PALETTE: Final = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"),
    *("#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477"),
)
_COLUMN: Final = 75.0
"""How wide a column of the board's grid is drawn, so that text is of one size on all panels."""
_LEFT: Final = 60.0
_STATE_HEIGHT: Final = 22.0
_CSS: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": "#8e8e8e", "blue": "#5794f2"}
_Place = tuple[float, float, float]


def css_colour(name: str) -> str:
    """Return a colour's code."""
    return _CSS.get(name, name)


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where times and values lie on a chart of that size."""

    span: Span
    width: float
    height: float
    low: float = 0.0
    high: float = 1.0

    def x(self, at: float) -> float:
        return _LEFT + (at - self.span.from_s) / self.span.range_s * (self.width - _LEFT)

    def y(self, value: float) -> float:
        return self.height - (value - self.low) / (self.high - self.low) * (self.height - 6)

    @property
    def step(self) -> float:
        """How wide one interval is."""
        return (self.width - _LEFT) * self.span.interval_s / self.span.range_s

    def across(self, value: float, colour: str, css: str) -> str:
        y = self.y(value)
        return f'<line x1="{_LEFT}" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" class="{css}"/>'

    def times(self) -> Iterator[str]:
        for step in range(6):
            at = self.span.from_s + self.span.range_s * step / 5
            text = f"{int(at // 3600 % 24):02}:{int(at // 60 % 60):02}:{int(at % 60):02}"
            anchor = ("start", "middle", "end")[(step > 0) + (step == 5)]
            place = f'x="{self.x(at):.1f}" y="{self.height + 14:.1f}"'
            yield f'<text {place} class="x" text-anchor="{anchor}">{text}</text>'

    def svg(self, body: Sequence[str]) -> str:
        inside = "".join([*body, *self.times()])
        return f'<svg viewBox="0 0 {self.width + 6:.0f} {self.height + 20:.0f}">{inside}</svg>'


def lines(panel: Panel, series: Sequence[Series], span: Span, marks: Sequence[tuple[float, str]]) -> str:
    """Return the chart of a panel of lines or bars, with vertical lines at the marks (time in seconds, colour)."""
    kind = panel.kind
    assert isinstance(kind, Lines)
    drawn = _stacked(series) if kind.stacked else [(one, [0.0] * len(one.points)) for one in series]
    tops = [value + low for one, lows in drawn for (_, value), low in zip(one.points, lows, strict=True)]
    low, high = _bounds(panel, [value for value in tops if math.isfinite(value)], kind)
    plot = _Plot(span, panel.width * _COLUMN, panel.height * 24.0, low, high)
    body = []
    for step in range(5):
        value = low + (high - low) * step / 4.2
        label = escape(on_axis(value, panel.unit))
        body.append(plot.across(value, "#2c3235", "rule"))
        body.append(f'<text x="{_LEFT - 4}" y="{plot.y(value) + 3:.1f}" class="y">{label}</text>')
    for place, (one, lows) in enumerate(drawn):
        points = zip(one.points, lows, strict=True)
        places = [
            (plot.x(at), plot.y(value + under), plot.y(under))
            for (at, value), under in points
            if math.isfinite(value) and value + under >= low
        ]
        body.append(_drawn(places, PALETTE[place % len(PALETTE)], kind, plot))
    body += [
        plot.across(limit.value, css_colour(limit.colour.value), "limit")
        for limit in panel.limits.limits
        if low <= limit.value <= high
    ]
    for at, colour in marks:
        x = f"{plot.x(at):.1f}"
        body.append(f'<line x1="{x}" x2="{x}" y1="0" y2="{plot.height}" stroke="{css_colour(colour)}" class="mark"/>')
    return plot.svg(body)


def states(panel: Panel, series: Sequence[Series], span: Span) -> str:
    """Return the chart of a state timeline: one bar a series, coloured by what it was."""
    plot = _Plot(span, panel.width * _COLUMN, _STATE_HEIGHT * max(len(series), 1))
    body = []
    for row, one in enumerate(series):
        y = row * _STATE_HEIGHT
        for begin, end, value in _stretches(one, span):
            colour = css_colour(colour_at(value, panel.limits, panel.names))
            title = escape(told(value, panel.unit, names=panel.names))
            place = f'x="{plot.x(begin):.1f}" y="{y:.1f}" width="{max(plot.x(end) - plot.x(begin), 1):.1f}"'
            body.append(f'<rect {place} height="{_STATE_HEIGHT - 4}" fill="{colour}" opacity="0.7">')
            body.append(f"<title>{title}</title></rect>")
        body.append(f'<text x="{_LEFT + 4}" y="{y + 13:.1f}" class="over">{escape(one.name)}</text>')
    return plot.svg(body)


def heat(panel: Panel, series: Sequence[Series], span: Span) -> str:
    """Return a heat map: each series is a cumulative bucket named by its upper bound."""
    ordered = sorted(series, key=lambda one: float(one.name))
    below: dict[float, float] = {}
    counts: list[tuple[int, float, float]] = []
    for row, one in enumerate(ordered):
        for at, value in one.points:
            counts.append((row, at, max(value - below.get(at, 0.0), 0.0)))
            below[at] = value
    full = [cell for cell in counts if cell[2] > 0]
    first, last = (min(row for row, _, _ in full), max(row for row, _, _ in full)) if full else (0, 0)
    most = max((count for _, _, count in full), default=1.0)
    plot = _Plot(span, panel.width * _COLUMN, panel.height * 24.0, first, last + 1)
    tall, body = plot.y(first) - plot.y(first + 1), []
    for row, at, count in full:
        shade = 0.15 + 0.85 * (count / most) ** 0.5
        place = f'x="{plot.x(at):.1f}" y="{plot.y(row + 1):.1f}" width="{max(plot.step, 1):.1f}"'
        body.append(f'<rect {place} height="{tall - 1:.1f}" fill="#ff9830" opacity="{shade:.2f}"/>')
    for row in range(first, last + 1):
        label = escape(told(float(ordered[row].name), panel.unit))
        body.append(f'<text x="{_LEFT - 4}" y="{plot.y(row + 0.4):.1f}" class="y">{label}</text>')
    return plot.svg(body)


def _bounds(panel: Panel, values: Sequence[float], kind: Lines) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if kind.bars or kind.stacked:
        low = min(low, 0.0)
    low = panel.least if panel.least is not None else low
    if panel.most is not None and high > 0.5 * panel.most:
        high = max(panel.most, high)
    if high <= low:
        return low if low == 0 else low - abs(low) * 0.1, low + (abs(low) or 1.0) * 0.1
    return low, high + (high - low) * 0.05


def _stretches(series: Series, span: Span) -> Iterator[tuple[float, float, float]]:
    """Yield begin, end and value of each stretch in which a series was one thing."""
    began: tuple[float, float] | None = None
    end = span.from_s
    for at, value in series.points:
        if began is not None and (value != began[1] or at > end + span.interval_s):
            yield began[0], min(at, end), began[1]
            began = None
        began = began or (at, value)
        end = min(at + span.interval_s, span.to_s)
    if began is not None:
        yield began[0], end, began[1]


def _stacked(series: Sequence[Series]) -> list[tuple[Series, list[float]]]:
    under: dict[float, float] = {}
    found = []
    for one in series:
        lows = [under.get(at, 0.0) for at, _ in one.points]
        sums = {at: low + value for (at, value), low in zip(one.points, lows, strict=True) if math.isfinite(value)}
        under.update(sums)
        found.append((one, lows))
    return found


def _drawn(places: Sequence[_Place], colour: str, kind: Lines, plot: _Plot) -> str:
    if kind.bars:
        wide = max(plot.step * 0.8, 1.5)
        return "".join(
            f'<rect x="{x - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(low - y, 0):.1f}"'
            f' fill="{colour}" opacity="0.8"/>'
            for x, y, low in places
        )
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2.5" fill="{colour}"/>'
    line = "".join(
        f"{'M' if not place else 'L'}{x:.1f},{y:.1f}" if not (kind.steps and place) else f"H{x:.1f}V{y:.1f}"
        for place, (x, y, _) in enumerate(places)
    )
    under = "".join(f"L{x:.1f},{low:.1f}" for x, _, low in reversed(places))
    area = f'<path d="{line}{under}Z" fill="{colour}" opacity="{kind.fill / 100:.2f}"/>' if kind.stacked else ""
    return f'{area}<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
