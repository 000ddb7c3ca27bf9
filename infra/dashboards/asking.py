"""Asks the real servers what the panels of a board ask, and returns what they answer.

Postgres is asked as the role that Grafana logs in as, so that a board that needs more than it may read is found out.
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from infra.dashboards.board import Annotation, Board
from infra.dashboards.frames import Frame, Series
from infra.dashboards.macros import Choices, Span, expanded
from infra.dashboards.queries import Influx, Prom, Query, Source, Sql
from infra.dashboards.variables import Variable

ROLE: Final = "tradermind_grafana"
_ANSWER_S: Final = 20.0
_LABEL_VALUES = re.compile(r"label_values\((\w+), (\w+)\)")


class AskFailed(Exception):
    """A server did not answer a query, or refused it, and why."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the three data sources are. ``influx_token`` may read the bucket; ``dsn`` may become the role."""

    prometheus: str
    dsn: str
    influx: str
    bucket: str
    influx_token: str


@dataclass(slots=True)
class Asker:
    """Runs queries over one stretch of time."""

    servers: Servers
    span: Span
    connection: psycopg.Connection[Any]

    def choices(self, board: Board) -> dict[str, list[str]]:
        """Return, for each variable of the board, all that can be chosen: what All means."""
        chosen: dict[str, list[str]] = {}
        for variable in board.variables:
            chosen[variable.name] = self.values(variable, chosen)
        return chosen

    def values(self, variable: Variable, chosen: Choices) -> list[str]:
        """Return what a variable offers. Raises AskFailed."""
        if variable.source is Source.POSTGRES:
            frame = self._postgres(expanded(variable.query, variable.source, self.span, chosen), series=False)
            return [str(row[0]) for row in frame.rows]
        found = _LABEL_VALUES.fullmatch(variable.query)
        if found is None:
            raise AskFailed(f"{variable.query} is no query of a variable that is known")
        asked = {"match[]": found[1], **self._bounds()}
        return [str(value) for value in self._prometheus(f"label/{found[2]}/values", asked)]

    def annotations(self, annotation: Annotation) -> Frame:
        """Return the moments that an annotation marks. Raises AskFailed."""
        return self._postgres(expanded(annotation.query, Source.POSTGRES, self.span, {}), series=False)

    def ask(self, query: Query, choices: Choices) -> Frame:
        """Return the answer to one query of a panel. Raises AskFailed and UnknownMacro."""
        text = expanded(query.text, query.source, self.span, choices)
        if isinstance(query, Prom):
            return self._newest(text, query) if query.instant or query.table else self._ranged(text, query)
        if isinstance(query, Sql):
            return self._postgres(text, series=query.series)
        return self._influx(text, query)

    def _bounds(self) -> dict[str, str]:
        return {"start": f"{self.span.from_s:.3f}", "end": f"{self.span.to_s:.3f}"}

    def _ranged(self, text: str, query: Prom) -> Frame:
        asked = {"query": text, "step": str(self.span.interval_s), **self._bounds()}
        answers = self._prometheus("query_range", asked)["result"]
        return Frame(
            tuple(
                Series(_legend(query.legend, one["metric"]), tuple((float(at), float(v)) for at, v in one["values"]))
                for one in answers
            )
        )

    def _newest(self, text: str, query: Prom) -> Frame:
        answers = self._prometheus("query", {"query": text, "time": f"{self.span.to_s:.3f}"})["result"]
        if not query.table:
            points = ((_legend(query.legend, one["metric"]), one["value"]) for one in answers)
            return Frame(tuple(Series(name, ((float(at), float(value)),)) for name, (at, value) in points))
        labels = sorted({label for one in answers for label in one["metric"]})
        rows = tuple((*(one["metric"].get(label, "") for label in labels), float(one["value"][1])) for one in answers)
        return Frame(columns=(*labels, "Value"), rows=rows)

    def _prometheus(self, what: str, asked: Mapping[str, str]) -> Any:
        url = f"{self.servers.prometheus}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        return _answer(urllib.request.Request(url))["data"]  # noqa: S310 - the servers of the run, by http

    def _influx(self, text: str, query: Influx) -> Frame:
        asked = urllib.parse.urlencode({"db": self.servers.bucket, "epoch": "ms", "q": text})
        request = urllib.request.Request(  # noqa: S310 - the servers of the run, by http
            f"{self.servers.influx}/query?{asked}", headers={"Authorization": f"Token {self.servers.influx_token}"}
        )
        [result] = _answer(request)["results"]
        if "error" in result:
            raise AskFailed(f"InfluxDB refuses {text!r}: {result['error']}")
        answers = result.get("series", [])
        if query.table:
            rows = tuple(tuple(row) for one in answers for row in one["values"])
            return Frame(columns=tuple(answers[0]["columns"]) if answers else (), rows=rows)
        return Frame(tuple(line for one in answers for line in _lines(one, query.alias)))

    def _postgres(self, text: str, *, series: bool) -> Frame:
        try:
            with self.connection.transaction(), self.connection.cursor() as cursor:
                cursor.execute(text.encode())
                columns = tuple(column.name for column in cursor.description or ())
                rows = tuple(cursor.fetchall())
        except psycopg.Error as error:
            raise AskFailed(f"Postgres refuses {text!r}: {str(error).splitlines()[0]}") from error
        return _by_metric(columns, rows) if series else Frame(columns=columns, rows=rows)


@contextmanager
def asking(servers: Servers, span: Span) -> Iterator[Asker]:
    """Yield what asks; its session in Postgres may only read, and only what Grafana's role may."""
    with psycopg.connect(servers.dsn, autocommit=True, options="-c statement_timeout=15s") as connection:
        connection.execute(f"SET ROLE {ROLE}")
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("SET TIME ZONE 'UTC'")
        yield Asker(servers, span, connection)


def _answer(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:  # noqa: S310 - as above
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise AskFailed(f"{request.full_url}: {error.read().decode(errors='replace')[:500]}") from error
    except (OSError, ValueError) as error:
        raise AskFailed(f"{request.full_url}: {error}") from error


def _legend(template: str, labels: Mapping[str, str]) -> str:
    if template == "__auto":
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "value"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


def _lines(answer: Mapping[str, Any], alias: str) -> Iterator[Series]:
    tags = answer.get("tags") or {}
    for place, column in enumerate(answer["columns"][1:], start=1):
        name = re.sub(r"\$tag_(\w+)", lambda found: str(tags.get(found[1], "")), alias)
        name = name.replace("$m", str(answer["name"])).replace("$col", column)
        points = ((row[0] / 1000, row[place]) for row in answer["values"])
        yield Series(name, tuple((at, float(value)) for at, value in points if value is not None))


def _by_metric(columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]) -> Frame:
    at, metric = columns.index("time"), columns.index("metric") if "metric" in columns else None
    numbers = [place for place in range(len(columns)) if place not in (at, metric)]
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        time_s = row[at].timestamp() if hasattr(row[at], "timestamp") else float(row[at])
        for place in numbers:
            name = columns[place] if metric is None else str(row[metric])
            if row[place] is not None:
                lines.setdefault(name, []).append((time_s, float(row[place])))
    return Frame(tuple(Series(name, tuple(points)) for name, points in sorted(lines.items())))
