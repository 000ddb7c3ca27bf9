"""The three kinds of query that a panel can ask, each for the data source that the reader of the board has chosen."""

import enum
from dataclasses import dataclass

from infra.dashboards.json_values import Object, uid_of


class Source(enum.Enum):
    """A kind of data source: its type in Grafana, the board's variable that names one, and the one provisioned."""

    PROMETHEUS = ("prometheus", "datasource_prom", "prometheus")
    POSTGRES = ("grafana-postgresql-datasource", "datasource_pg", "postgres")
    INFLUX = ("influxdb", "datasource_influx", "influxdb")

    def __init__(self, kind: str, variable: str, provisioned: str) -> None:
        self.kind = kind
        self.variable = variable
        self.provisioned = provisioned

    @property
    def reference(self) -> Object:
        """The reference that a panel or a query carries."""
        return {"type": self.kind, "uid": uid_of(self.variable)}


@dataclass(frozen=True, slots=True)
class Prom:
    """PromQL. ``legend`` names the series; with ``instant`` only the newest value of each is asked.

    With ``table``, too, and the values come as rows with a column for each label: for tables alone, since other panels
    make one number of a table.
    """

    text: str
    legend: str = "__auto"
    instant: bool = False
    table: bool = False
    heatmap: bool = False

    @property
    def source(self) -> Source:
        """Prometheus."""
        return Source.PROMETHEUS

    def json(self, ref: str) -> Object:
        """Return it as Grafana keeps it, under the name ``ref``."""
        shape = "heatmap" if self.heatmap else "table" if self.table else "time_series"
        return {
            "datasource": self.source.reference,
            "editorMode": "code",
            "expr": self.text,
            "format": shape,
            "instant": self.instant or self.table,
            "legendFormat": self.legend,
            "range": not (self.instant or self.table),
            "refId": ref,
        }


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL for Postgres: a table, or with ``series`` rows of ``time``, perhaps ``metric`` (text), and numbers."""

    text: str
    series: bool = False

    @property
    def source(self) -> Source:
        """Postgres."""
        return Source.POSTGRES

    def json(self, ref: str) -> Object:
        """Return it as Grafana keeps it, under the name ``ref``."""
        return {
            "datasource": self.source.reference,
            "editorMode": "code",
            "format": "time_series" if self.series else "table",
            "rawQuery": True,
            "rawSql": " ".join(self.text.split()),
            "refId": ref,
        }


@dataclass(frozen=True, slots=True)
class Influx:
    """InfluxQL. ``alias`` names the series: ``$tag_symbol`` is the value of that tag."""

    text: str
    alias: str
    table: bool = False

    @property
    def source(self) -> Source:
        """InfluxDB."""
        return Source.INFLUX

    def json(self, ref: str) -> Object:
        """Return it as Grafana keeps it, under the name ``ref``."""
        return {
            "alias": self.alias,
            "datasource": self.source.reference,
            "query": self.text,
            "rawQuery": True,
            "refId": ref,
            "resultFormat": "table" if self.table else "time_series",
        }


Query = Prom | Sql | Influx
