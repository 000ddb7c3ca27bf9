"""What a query answers: rows of named columns, or series of points; and whether there is anything in them."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line: (time in seconds since 1970, value)."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """The answer to one query: ``series``, or a table of ``rows`` under ``columns``."""

    series: tuple[Series, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = field(default=())

    @property
    def has_data(self) -> bool:
        """Whether anything would be drawn: a number that is one, or a cell that is not empty."""
        return any(_is_number(value) for one in self.series for _, value in one.points) or any(
            _is_told(cell) for row in self.rows for cell in row
        )


def _is_number(value: float) -> bool:
    return math.isfinite(value)


def _is_told(cell: Any) -> bool:
    return cell is not None and cell != "" and not (isinstance(cell, float) and math.isnan(cell))
