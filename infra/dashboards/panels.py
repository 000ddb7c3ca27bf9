"""A panel: what it asks, how it is drawn, and what it says where there is nothing to draw."""

from dataclasses import dataclass, field

from infra.dashboards.json_values import Json, Object
from infra.dashboards.queries import Prom, Query
from infra.dashboards.units import NO_LIMITS, Column, Limits, Named, Unit, mappings

_REFS = "ABCDEFGH"
_HIDDEN_FROM_NOTHING: Object = {"legend": False, "tooltip": False, "viz": False}


@dataclass(frozen=True, slots=True)
class Lines:
    """Values over time. ``bars`` for what is counted per interval, ``steps`` for what holds until it changes."""

    stacked: bool = False
    bars: bool = False
    steps: bool = False
    fill: int = 10

    kind = "timeseries"

    def options(self) -> Object:
        """Return the panel's options."""
        legend: Object = {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom"}
        return {"legend": {**legend, "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}}

    def custom(self, limits: Limits) -> Object:
        """Return how its fields are drawn."""
        return {
            "axisBorderShow": False,
            "axisPlacement": "auto",
            "drawStyle": "bars" if self.bars else "line",
            "fillOpacity": 60 if self.bars else self.fill,
            "hideFrom": _HIDDEN_FROM_NOTHING,
            "lineInterpolation": "stepAfter" if self.steps else "linear",
            "lineWidth": 1,
            "scaleDistribution": {"type": "linear"},
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if self.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if limits.limits else "off"},
        }


@dataclass(frozen=True, slots=True)
class Stat:
    """One number a series, as it is now. ``per_row``: one for each row of a table that SQL answers."""

    per_row: bool = False
    spark: bool = True

    kind = "stat"

    def options(self) -> Object:
        """Return the panel's options."""
        return {
            "colorMode": "value",
            "graphMode": "area" if self.spark else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": self.per_row},
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        }

    def custom(self, _limits: Limits) -> Object:
        """Return nothing: a number is drawn one way."""
        return {}


@dataclass(frozen=True, slots=True)
class Bars:
    """How full each of several things is, one bar each."""

    per_row: bool = False

    kind = "bargauge"

    def options(self) -> Object:
        """Return the panel's options."""
        return {
            "displayMode": "basic",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
            "maxVizHeight": 300,
            "minVizHeight": 14,
            "minVizWidth": 8,
            "namePlacement": "auto",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": self.per_row},
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        }

    def custom(self, _limits: Limits) -> Object:
        """Return nothing: a bar is drawn one way."""
        return {}


@dataclass(frozen=True, slots=True)
class States:
    """What each of several things was, and until when."""

    kind = "state-timeline"

    def options(self) -> Object:
        """Return the panel's options."""
        return {
            "alignValue": "left",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": True,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        }

    def custom(self, _limits: Limits) -> Object:
        """Return how its fields are drawn."""
        return {"fillOpacity": 70, "hideFrom": _HIDDEN_FROM_NOTHING, "lineWidth": 0}


@dataclass(frozen=True, slots=True)
class Heat:
    """A histogram over time: which share of all fell where."""

    kind = "heatmap"

    def options(self) -> Object:
        """Return the panel's options."""
        colour: Object = {"exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": False}
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {**colour, "scale": "exponential", "scheme": "Oranges", "steps": 64},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-09},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": Unit.SECONDS.value},
        }

    def custom(self, _limits: Limits) -> Object:
        """Return how its fields are drawn."""
        return {"hideFrom": _HIDDEN_FROM_NOTHING, "scaleDistribution": {"type": "linear"}}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows. ``sort``: by which column, the largest first."""

    sort: str | None = None

    kind = "table"

    def options(self) -> Object:
        """Return the panel's options."""
        sort: list[Json] = [] if self.sort is None else [{"desc": True, "displayName": self.sort}]
        return {"cellHeight": "sm", "frameIndex": 0, "showHeader": True, "sortBy": sort}

    def custom(self, _limits: Limits) -> Object:
        """Return how its cells are drawn."""
        return {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}


Kind = Lines | Stat | Bars | States | Heat | Table


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``width`` is in columns of 24; ``nothing`` is what it says when there is no data."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = field(default_factory=Lines)
    width: int = 8
    height: int = 8
    limits: Limits = NO_LIMITS
    names: tuple[Named, ...] = ()
    columns: tuple[Column, ...] = ()
    decimals: int | None = None
    least: float | None = None
    most: float | None = None
    nothing: str = "nothing of this kind in these hours"

    def json(self, number: int, x: int, y: int) -> Object:
        """Return it as Grafana keeps it: the panel's id on its board, and where it lies."""
        defaults: Object = {
            "custom": self.kind.custom(self.limits),
            "mappings": [*mappings(self.names)],
            "noValue": self.nothing,
            "thresholds": self.limits.json(),
            "unit": self.unit.value,
            "color": {"mode": "palette-classic" if isinstance(self.kind, Lines | Heat) else "thresholds"},
        }
        given = {"decimals": self.decimals, "min": self.least, "max": self.most}
        defaults.update({name: value for name, value in given.items() if value is not None})
        overrides: list[Json] = [column.json() for column in self.columns]
        hidden_time = isinstance(self.kind, Table) and any(isinstance(query, Prom) for query in self.queries)
        answer: Object = {
            "datasource": self.queries[0].source.reference,
            "description": self.description,
            "fieldConfig": {"defaults": defaults, "overrides": overrides},
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "id": number,
            "options": self.kind.options(),
            "targets": [query.json(ref) for query, ref in zip(self.queries, _REFS, strict=False)],
            "title": self.title,
            "type": self.kind.kind,
        }
        if hidden_time:  # What is asked for now is of now: the column says nothing.
            answer["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
        return answer
