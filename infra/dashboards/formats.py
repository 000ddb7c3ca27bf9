"""Numbers as people read them, for pages that show a board without Grafana."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from infra.dashboards.units import Colour, Limits, Named, Unit

_TIMES_S: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_THOUSANDS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_IN_SECONDS: Final = {Unit.SECONDS: 1.0, Unit.MILLISECONDS: 1e-3, Unit.NANOSECONDS: 1e-9}
_RATES: Final = {Unit.PER_SECOND: "/s", Unit.RECORDS_PER_SECOND: "/s", Unit.EVENTS_PER_SECOND: "/s"}


def told(value: Any, unit: Unit, decimals: int | None = None, names: Sequence[Named] = ()) -> str:
    """Return a cell or a value as text."""
    if value is None or value == "":
        return "–"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%H:%M:%S")
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        return str(value)
    number = float(value)
    named = [name.text for name in names if name.value == f"{number:g}"]
    if named:
        return named[0]
    return _number(number, unit, decimals) if math.isfinite(number) else "–"


def _number(number: float, unit: Unit, decimals: int | None) -> str:
    if unit in _IN_SECONDS:
        return _time(number * _IN_SECONDS[unit])
    if unit is Unit.SHARE:
        return f"{number * 100:.{2 if decimals is None else max(decimals - 1, 0)}f} %"
    if unit is Unit.BYTES:
        return _scaled(number, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))
    digits = f"{number:,.{decimals}f}" if decimals is not None else _short(number)
    if unit is Unit.MONEY:
        return f"${digits}".replace("$-", "-$")
    suffix = unit.value.removeprefix("suffix:") if unit.value.startswith("suffix:") else _RATES.get(unit, "")
    return digits + suffix


def _time(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    size, name = next(((size, name) for size, name in _TIMES_S if abs(seconds) >= size), _TIMES_S[-1])
    return f"{seconds / size:.3g} {name}"


def _scaled(number: float, step: float, names: Sequence[str]) -> str:
    place = 0
    while abs(number) >= step and place < len(names) - 1:
        number, place = number / step, place + 1
    return f"{number:.3g} {names[place]}"


def _short(number: float) -> str:
    for size, name in _THOUSANDS:
        if abs(number) >= size * 10:
            return f"{number / size:.3g} {name}"
    return f"{number:,.0f}" if number == round(number) else f"{number:.4g}"


def colour_at(value: float, limits: Limits, names: Sequence[Named] = ()) -> str:
    """Return the colour of a value: that of its name, or that of the highest limit that it has reached."""
    for name in names:
        if name.value == f"{value:g}":
            return name.colour.value
    reached = Colour.GOOD if not limits.low_is_bad else limits.limits[0].colour
    for limit in limits.limits:
        if value >= limit.value:
            reached = Colour.GOOD if limits.low_is_bad else limit.colour
    return reached.value


def on_axis(value: float, unit: Unit) -> str:
    """Return a value as short as an axis has room for: what a suffix says, the panel's title says, too."""
    return _short(value) if unit.value.startswith("suffix:") else told(value, unit)
