"""THE table of metrics: nothing else is told to Prometheus under our name, and each of these is told by somebody.

docs/metrics.md, the rules, the dashboards and their tests read the names here.
"""

from typing import Final

from infra.metrics import of_engine, of_stages
from infra.metrics.metric import Metric

TABLE: Final[tuple[Metric, ...]] = tuple(
    value for module in (of_engine, of_stages) for value in vars(module).values() if isinstance(value, Metric)
)
METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in TABLE}
"""Name -> row."""
SERIES: Final[frozenset[str]] = frozenset(name for metric in TABLE for name in metric.series)
"""Every sample name that a query may ask for."""
