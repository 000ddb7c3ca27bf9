"""Units, colours and limits: what makes a number on a panel mean something."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.dashboards.json_values import Object


class Unit(enum.StrEnum):
    """Grafana's ids of the units that are used here."""

    COUNT = "short"
    PLAIN = "none"
    TEXT = "string"
    SHARE = "percentunit"
    SECONDS = "s"
    NANOSECONDS = "ns"
    MILLISECONDS = "ms"
    PER_SECOND = "ops"
    RECORDS_PER_SECOND = "rps"
    EVENTS_PER_SECOND = "eps"
    PER_HOUR = "suffix: /h"
    RECORDS = "suffix: records"
    BYTES = "bytes"
    BASIS_POINTS = "suffix: bp"
    MONEY = "currencyUSD"
    QUOTE = "suffix: quote"
    DATE = "dateTimeAsIso"


class Colour(enum.StrEnum):
    """What a colour says."""

    GOOD = "green"
    WARN = "orange"
    BAD = "red"
    QUIET = "blue"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Limit:
    """From ``value`` on (or with ``Limits.low_is_bad``, below it) it is ``colour``; ``alert`` has the same limit."""

    value: float
    alert: str | None = None
    colour: Colour = Colour.BAD


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of a panel. ``low_is_bad``: what lies below the only limit has its colour."""

    limits: tuple[Limit, ...]
    low_is_bad: bool = False

    def json(self) -> Object:
        """Return Grafana's steps."""
        if self.low_is_bad:
            [limit] = self.limits
            below: Object = {"color": limit.colour.value, "value": None}
            above: Object = {"color": Colour.GOOD.value, "value": limit.value}
            return {"mode": "absolute", "steps": [below, above]}
        steps: list[Object] = [{"color": Colour.GOOD.value, "value": None}]
        steps += [{"color": limit.colour.value, "value": limit.value} for limit in self.limits]
        return {"mode": "absolute", "steps": [*steps]}


NO_LIMITS = Limits(())


def at(value: float, alert: str | None = None) -> Limits:
    """Return a panel's only limit: from ``value`` on it is bad. ``alert`` names the alert of that limit."""
    return Limits((Limit(value, alert),))


def below(value: float, alert: str | None = None) -> Limits:
    """Return a panel's only limit: below ``value`` it is bad."""
    return Limits((Limit(value, alert),), low_is_bad=True)


@dataclass(frozen=True, slots=True)
class Named:
    """What a value is called: 2 is HALTED, and red."""

    value: str
    text: str
    colour: Colour = Colour.TEXT


def mappings(names: Sequence[Named]) -> list[Object]:
    """Return Grafana's value mappings."""
    if not names:
        return []
    options: Object = {
        name.value: {"color": name.colour.value, "index": index, "text": name.text} for index, name in enumerate(names)
    }
    return [{"options": options, "type": "value"}]


NEAR_A_LIMIT = Limits((Limit(0.9, "RiskLimitNear", Colour.WARN), Limit(1.0, "RiskLimitBreach")))
LEVEL_LIMITS = Limits((Limit(1, "TradingReduced", Colour.WARN), Limit(2, "TradingHalted")))
LEVELS = (
    Named("0", "ACTIVE", Colour.GOOD),
    Named("1", "REDUCING", Colour.WARN),
    Named("2", "HALTED", Colour.BAD),
)
YES_IS_GOOD = (Named("0", "no", Colour.BAD), Named("1", "yes", Colour.GOOD))
YES_IS_BAD = (Named("0", "no", Colour.GOOD), Named("1", "yes", Colour.BAD))
BREAKERS = (
    Named("0", "closed", Colour.GOOD),
    Named("1", "half open", Colour.WARN),
    Named("2", "open", Colour.BAD),
)


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a table is shown."""

    name: str
    unit: Unit
    decimals: int | None = None
    names: tuple[Named, ...] = field(default=())

    def json(self) -> Object:
        """Return Grafana's override for the field of that name."""
        properties: list[Object] = [{"id": "unit", "value": self.unit.value}]
        if self.decimals is not None:
            properties.append({"id": "decimals", "value": self.decimals})
        if self.names:
            properties.append({"id": "mappings", "value": [*mappings(self.names)]})
        return {"matcher": {"id": "byName", "options": self.name}, "properties": [*properties]}
