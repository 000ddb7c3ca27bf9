"""What a worker writes its metrics to: prometheus_client under the names of the table, in a registry of its own.

Nothing is global: two workers in one process, as in tests, do not see each other's numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from infra.metrics.metric import Kind, Metric
from infra.metrics.table import TABLE

Labels = tuple[str, ...]
_EVERY: Final = "every"
LABEL_VALUES_MAX: Final = 200
"""So many values of one label are told apart; beyond, the series is that of ``OTHER``."""
OTHER: Final = "other"


def told_by(stages: Sequence[str]) -> list[Metric]:
    """Return the rows that a worker of these stages tells."""
    return [metric for metric in TABLE if _EVERY in metric.stages or not set(metric.stages).isdisjoint(stages)]


class Metrics:
    """The metrics of one worker. Labels are given in the order of the table; a label value is a str, never None."""

    def __init__(self, worker: str, stages: Sequence[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # Nobody reads a second series for each counter.
        self.worker = worker
        self.stages = tuple(stages)
        self.registry = CollectorRegistry()
        self._parents = {metric: _made(metric, self.registry) for metric in told_by(stages)}
        self._children: dict[Metric, dict[Labels, Counter | Gauge | Histogram]] = {one: {} for one in self._parents}
        self._totals: dict[tuple[str, Labels], float] = {}

    def with_process(self) -> "Metrics":
        """Tell of the process, the interpreter and its garbage collector, too; once for one process."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        return self

    def tells(self, metric: Metric) -> bool:
        """Whether this worker tells that metric."""
        return metric in self._parents

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count ``amount`` more."""
        cast(Counter, self._child(metric, labels)).inc(amount)

    def total(self, metric: Metric, value: float, *labels: str) -> None:
        """Bring a counter to what somebody else has counted; where that one began anew, so is what it has since."""
        before = self._totals.get((metric.name, labels), 0.0)
        self._totals[metric.name, labels] = value
        cast(Counter, self._child(metric, labels)).inc(value - before if value >= before else value)

    def put(self, metric: Metric, value: float, *labels: str) -> None:
        """Say what a gauge stands at."""
        cast(Gauge, self._child(metric, labels)).set(value)

    def put_all(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """Say what all series of a gauge stand at: those that are not named any more are gone."""
        for labels, value in values.items():
            self.put(metric, value, *labels)
        children = self._children[metric]
        for labels in [labels for labels in children if labels not in values]:
            self._parents[metric].remove(*labels)
            del children[labels]

    def observe(self, metric: Metric, value_s: float, *labels: str) -> None:
        """Put one observation into a histogram, in seconds."""
        cast(Histogram, self._child(metric, labels)).observe(value_s)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return what is told now, and its content type, in the format that ``accept`` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def samples(self) -> Iterable[tuple[str, Mapping[str, str], float]]:
        """Return name, labels and value of everything told now."""
        return [(one.name, one.labels, one.value) for family in self.registry.collect() for one in family.samples]

    def _child(self, metric: Metric, labels: Labels) -> Counter | Gauge | Histogram:
        children = self._children[metric]
        child = children.get(labels)
        if child is None:
            parent, bounded = self._parents[metric], self._bounded(metric, labels)
            child = parent.labels(*bounded) if metric.labels else parent
            if bounded == labels:
                children[labels] = child
        return child

    def _bounded(self, metric: Metric, labels: Labels) -> Labels:
        """Return the labels, with ``other`` for a value too many: names that others give us must not grow for ever."""
        known: list[set[str]] = [set() for _ in labels]
        for others in self._children[metric]:
            for values, value in zip(known, others, strict=True):
                values.add(value)
        return tuple(
            value if value in values or len(values) < LABEL_VALUES_MAX else OTHER
            for values, value in zip(known, labels, strict=True)
        )


def our_version() -> str:
    """Return the version of the package, ``unknown`` where it is not installed."""
    try:
        return version("tradermind")
    except PackageNotFoundError:
        return "unknown"


def _made(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind is Kind.COUNTER:
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind is Kind.GAUGE:
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.bounds)
