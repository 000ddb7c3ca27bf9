"""What the reader of a board can choose: the data sources, and what of the platform to look at."""

from dataclasses import dataclass

from infra.dashboards.json_values import Object
from infra.dashboards.queries import Source


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice whose values a query answers: ``$name`` in other queries. All of them is the first choice.

    For Prometheus ``query`` is ``label_values(metric, label)``, for Postgres SQL that answers one column. A ``hidden``
    one follows from others.
    """

    name: str
    label: str
    description: str
    source: Source
    query: str
    hidden: bool = False

    def json(self) -> Object:
        """Return it as Grafana keeps it."""
        text = " ".join(self.query.split())
        prometheus: Object = {"qryType": 1, "query": text, "refId": self.name}
        return {
            "allowCustomValue": False,
            "current": {"text": ["All"], "value": ["$__all"]},
            "datasource": self.source.reference,
            "description": self.description,
            "hide": 2 if self.hidden else 0,
            "includeAll": True,
            "label": self.label,
            "multi": True,
            "name": self.name,
            "options": [],
            "query": prometheus if self.source is Source.PROMETHEUS else text,
            "refresh": 2,
            "regex": "",
            "skipUrlSync": self.hidden,
            "sort": 1,
            "type": "query",
        }


def chosen_source(source: Source) -> Object:
    """Return the variable by which the reader chooses a data source of that kind."""
    return {
        "current": {"text": source.provisioned, "value": source.provisioned},
        "description": "Where the panels of this kind ask.",
        "hide": 0,
        "includeAll": False,
        "label": source.provisioned,
        "multi": False,
        "name": source.variable,
        "options": [],
        "query": source.kind,
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }


INSTRUMENT = Variable(
    "instrument",
    "Instrument",
    "Which instruments: venue and symbol.",
    Source.POSTGRES,
    "SELECT instrument FROM instruments ORDER BY 1",
)
SYMBOL = Variable(
    "symbol",
    "Symbol",
    "The symbols of the chosen instruments: InfluxDB keeps venue and symbol apart.",
    Source.POSTGRES,
    "SELECT DISTINCT symbol FROM instruments WHERE instrument IN ($instrument) ORDER BY 1",
    hidden=True,
)
STRATEGY = Variable(
    "strategy",
    "Strategy",
    "Which strategies: who acts with which share of an account.",
    Source.PROMETHEUS,
    "label_values(tradermind_decisions_total, strategy)",
)
WORKER = Variable(
    "worker",
    "Worker",
    "Which worker processes.",
    Source.PROMETHEUS,
    "label_values(tradermind_build_info, worker)",
)
EXPERT = Variable(
    "expert",
    "Expert",
    "Which experts, our own and foreign ones.",
    Source.PROMETHEUS,
    "label_values(tradermind_votes_total, expert)",
)
VARIABLES = (INSTRUMENT, SYMBOL, STRATEGY, WORKER, EXPERT)
