"""A board: rows of panels, what can be chosen, what is marked on every graph, and the way to the other boards."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from infra.dashboards.json_values import Object
from infra.dashboards.panels import Panel
from infra.dashboards.queries import Source
from infra.dashboards.units import Colour
from infra.dashboards.variables import VARIABLES, Variable, chosen_source

SCHEMA_VERSION = 42
"""Of Grafana 13's dashboards."""
TAG = "tradermind"
_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Annotation:
    """Moments marked on the graphs: SQL that answers time, text and tags."""

    name: str
    colour: Colour
    query: str

    def json(self) -> Object:
        """Return it as Grafana keeps it."""
        target: Object = {"editorMode": "code", "format": "table", "rawQuery": True, "refId": "Anno"}
        return {
            "datasource": Source.POSTGRES.reference,
            "enable": True,
            "hide": False,
            "iconColor": self.colour.value,
            "name": self.name,
            "target": {**target, "rawSql": " ".join(self.query.split())},
        }


KILLS = Annotation(
    "Kills and levels",
    Colour.BAD,
    """SELECT created_at AS time, action || ' ' || coalesce(level || ' ', '') || scope || ' ' || target || ': '
        || reason || ' (' || author || ')' AS text, 'level' AS tags
    FROM commands WHERE action IN ('SET_LEVEL', 'FLATTEN', 'CANCEL') AND $__timeFilter(created_at)
    ORDER BY 1""",
)
RELEASES = Annotation(
    "Model releases",
    Colour.QUIET,
    """SELECT time, model || ' is ' || release_stage || ': ' || reason || ' (' || author || ')' AS text, 'model' AS tags
    FROM model_releases WHERE $__timeFilter(time) ORDER BY 1""",
)
LIMIT_CHANGES = Annotation(
    "Changes of limits",
    Colour.WARN,
    """SELECT time, outcome || ' ' || scope || ' ' || target || ' ' || "values"::text || ': ' || reason || ' ('
        || author || ')' AS text, 'limits' AS tags
    FROM control_outcomes WHERE action = 'SET_LIMITS' AND outcome <> 'IN_FORCE' AND $__timeFilter(time) ORDER BY 1""",
)
ANNOTATIONS = (KILLS, RELEASES, LIMIT_CHANGES)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading; they flow from left to right and wrap."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. ``name`` is how its uid ends and its file is called; ``folder`` is the folder it lies in."""

    name: str
    title: str
    description: str
    folder: str
    rows: tuple[Row, ...]
    hours: int = 1

    @property
    def uid(self) -> str:
        """What links and bookmarks know it by; it never changes."""
        return f"{TAG}-{self.name}"

    @property
    def panels(self) -> list[Panel]:
        """All its panels, in their order."""
        return [panel for row in self.rows for panel in row.panels]

    @property
    def variables(self) -> list[Variable]:
        """The choices that its queries make use of, and those that these need, in the order of their table."""
        texts = [query.text for panel in self.panels for query in panel.queries]
        used: set[str] = set()
        for variable in reversed(VARIABLES):
            if any(mentions(text, variable.name) for text in texts):
                used.add(variable.name)
                texts.append(variable.query)
        return [variable for variable in VARIABLES if variable.name in used]

    @property
    def sources(self) -> list[Source]:
        """The kinds of data source that it asks; Postgres always, for what is marked on the graphs."""
        asked = {query.source for panel in self.panels for query in panel.queries}
        asked |= {variable.source for variable in self.variables} | {Source.POSTGRES}
        return [source for source in Source if source in asked]

    def json(self) -> Object:
        """Return the dashboard as Grafana keeps it."""
        return {
            "annotations": {"list": [annotation.json() for annotation in ANNOTATIONS]},
            "description": self.description,
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": [_way_to_the_others()],
            "panels": [*self._panels()],
            "preload": False,
            "refresh": "10s",
            "schemaVersion": SCHEMA_VERSION,
            "tags": [TAG, self.folder],
            "templating": {
                "list": [*map(chosen_source, self.sources), *(variable.json() for variable in self.variables)]
            },
            "time": {"from": f"now-{self.hours}h", "to": "now"},
            "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m"]},
            "timezone": "utc",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
        }

    def _panels(self) -> Iterator[Object]:
        number = y = 0
        for row in self.rows:
            number += 1
            place: Object = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
            yield {"collapsed": False, "gridPos": place, "id": number, "panels": [], "title": row.title, "type": "row"}
            y, x, height = y + 1, 0, 0
            for panel in row.panels:
                if x + panel.width > _COLUMNS:
                    x, y, height = 0, y + height, 0
                number += 1
                yield panel.json(number, x, y)
                x, height = x + panel.width, max(height, panel.height)
            y += height


def mentions(text: str, variable: str) -> bool:
    """Whether a query makes use of a variable."""
    return re.search(rf"\$(\{{{variable}(:\w+)?\}}|{variable}\b)", text) is not None


def _way_to_the_others() -> Object:
    return {
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "TraderMind",
        "tooltip": "The other boards, with the same time and the same choices",
        "type": "dashboards",
        "url": "",
    }
