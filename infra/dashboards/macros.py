"""Stands in for Grafana where queries are run without it: expands the macros and variables that the boards use.

It knows the part that docs/dashboards.md lists, and refuses what it does not know, so that a board cannot use a macro
that nobody has tried. What each becomes follows Grafana's documentation of its data sources.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.dashboards.queries import Source

Choices = Mapping[str, Sequence[str]]
"""Variable -> the values chosen."""
_POINTS = 400
_STEPS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CALL = re.compile(r"\$__(\w+)\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


class UnknownMacro(Exception):
    """A query asks for a macro or a variable that nobody knows."""


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of time that a board shows, in seconds since 1970, and how often Prometheus scrapes."""

    from_s: float
    to_s: float
    scrape_s: float = 15.0

    @property
    def range_s(self) -> int:
        """How long it is."""
        return max(round(self.to_s - self.from_s), 1)

    @property
    def interval_s(self) -> int:
        """``$__interval``: a round number of seconds that makes some hundred points, and no finer than the scrapes."""
        wanted = max(self.range_s / _POINTS, self.scrape_s)
        return next((step for step in _STEPS_S if step >= wanted), _STEPS_S[-1])

    @property
    def rate_interval_s(self) -> float:
        """``$__rate_interval``: long enough for four scrapes."""
        return max(self.interval_s + self.scrape_s, 4 * self.scrape_s)


def expanded(text: str, source: Source, span: Span, choices: Choices) -> str:
    """Return a query as Grafana would send it. Raises UnknownMacro."""
    while _CALL.search(text):
        text = _CALL.sub(lambda found: _called(found[1], found[2], source, span), text)
    for name, value in _words(source, span).items():
        text = re.sub(rf"\$(?:\{{{name}\}}|{name}\b)", _plainly(value), text)
    for name, values in choices.items():
        chosen = _chosen(values, source)
        text = re.sub(rf"\$(?:\{{{name}\}}|{name}\b)", _plainly(chosen), text)
    left = re.search(r"\$(?!/)[\w{]+", text)
    if left:
        raise UnknownMacro(f"{left[0]} in {text!r} is neither a macro that is known nor a variable of the board")
    return text


def _words(source: Source, span: Span) -> dict[str, str]:
    words = {
        "__interval_ms": str(span.interval_s * 1000),
        "__interval": f"{span.interval_s}s",
        "__range_s": str(span.range_s),
        "__range": f"{span.range_s}s",
    }
    if source is Source.PROMETHEUS:
        words["__rate_interval"] = f"{round(span.rate_interval_s * 1000)}ms"
    if source is Source.INFLUX:
        words["timeFilter"] = f"time >= {round(span.from_s * 1000)}ms and time <= {round(span.to_s * 1000)}ms"
    return words


def _called(name: str, inside: str, source: Source, span: Span) -> str:
    arguments = [part.strip() for part in inside.split(",")]
    if source is not Source.POSTGRES:
        raise UnknownMacro(f"$__{name}(...) is no macro of {source.provisioned}")
    if name == "timeFilter":
        return f"{arguments[0]} BETWEEN '{_moment(span.from_s)}' AND '{_moment(span.to_s)}'"
    if name == "unixEpochNanoFilter":
        column = arguments[0]
        return f"{column} >= {round(span.from_s * 1e9)} AND {column} <= {round(span.to_s * 1e9)}"
    if name in ("timeGroup", "timeGroupAlias") and (step := _step_s(arguments[1], span)):
        group = f"floor(extract(epoch from {arguments[0]})/{step})*{step}"
        return f'{group} AS "time"' if name == "timeGroupAlias" else group
    raise UnknownMacro(f"$__{name}({inside}) is not known")


def _step_s(text: str, span: Span) -> int | None:
    if text == "$__interval":
        return span.interval_s
    found = re.fullmatch(r"'(\d+)([smhd])'", text)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _chosen(values: Sequence[str], source: Source) -> str:
    if source is Source.POSTGRES:
        return ",".join("'" + value.replace("'", "''") + "'" for value in values)
    escaped = [_escaped(value, source) for value in values]
    return escaped[0] if len(escaped) == 1 else "(" + "|".join(escaped) + ")"


def _escaped(value: str, source: Source) -> str:
    text = re.sub(r"([\\^$.|?*+()\[\]{}/])", r"\\\1", value)
    return text.replace("\\/", "/").replace("\\", "\\\\") if source is Source.PROMETHEUS else text


def _plainly(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text  # As a replacement by itself its backslashes would be read.
