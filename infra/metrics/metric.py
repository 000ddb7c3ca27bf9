"""What a metric is. The table's rows are typed, so that a misspelt name is an error of mypy and not a second series."""

import enum
from dataclasses import dataclass
from typing import Final


class Kind(enum.StrEnum):
    """How a metric's values are to be read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


HANDLING_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the histograms of work, in seconds: from half a millisecond to ten seconds."""
AGE_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds of the histograms of ages, in seconds: a backlog is minutes old."""
MODEL_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds of the histograms of computation alone, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A row of the table. ``stages``: which stages' workers tell it, or ``every``; ``bounds`` are in seconds."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    stages: tuple[str, ...]
    bounds: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which its samples are told."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.name,)


EXCHANGE: Final = "exchange"
MODEL_SERVE: Final = "model-serve"
"""What is no worker and tells of itself on the port that it serves anyway."""
EVERY: Final = ("every",)
"""The stages of what every worker tells."""


def counter(name: str, labels: str, text: str, stages: tuple[str, ...] = EVERY) -> Metric:
    """Return the row of a count since the process began."""
    assert name.endswith("_total"), name
    return Metric(name, Kind.COUNTER, tuple(labels.split()), text, stages)


def gauge(name: str, labels: str, text: str, stages: tuple[str, ...] = EVERY) -> Metric:
    """Return the row of a value that goes up and down."""
    return Metric(name, Kind.GAUGE, tuple(labels.split()), text, stages)


def histogram(
    name: str, labels: str, text: str, stages: tuple[str, ...] = EVERY, bounds: tuple[float, ...] = HANDLING_S
) -> Metric:
    """Return the row of a distribution in seconds."""
    assert name.endswith("_seconds"), name
    return Metric(name, Kind.HISTOGRAM, tuple(labels.split()), text, stages, bounds)
