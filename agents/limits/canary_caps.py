"""The caps of a strategy that is to prove itself first: a new model or policy begins small (RTS 6, Article 8)."""

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

from agents.limits.flaw import Flaw

CAP_NAMES: Final = ("instruments", "order_value_max", "position_value_max", "orders_per_day_max")
_UNTRAPPED: Final = Context(prec=40, traps=[])


class CanaryCaps(NamedTuple):
    """What one strategy may at most, whatever its account's limits allow; None is no cap of its own.

    Values are in the account's currency. ``position_value_max`` is of all that it holds and works;
    ``orders_per_day_max`` is of a UTC day.
    """

    instruments: tuple[str, ...] | None = None
    order_value_max: Decimal | None = None
    position_value_max: Decimal | None = None
    orders_per_day_max: int | None = None


def read_caps(name: str, value: object) -> CanaryCaps | Flaw:
    """Return the caps of a table, or what is wrong with it."""
    if isinstance(value, CanaryCaps):
        return value
    if not isinstance(value, Mapping) or not value:
        return Flaw(f"The limits of {name!r} must be a table of caps, not {value!r}.")
    unknown = sorted(set(value) - set(CAP_NAMES))
    if unknown:
        return Flaw(f"{unknown[0]!r} is no cap of a strategy; the caps are {', '.join(CAP_NAMES)}.")
    found = {key: _cap(f"{name}.{key}", key, item) for key, item in value.items()}
    flaw = next((item for item in found.values() if isinstance(item, Flaw)), None)
    return CanaryCaps(**found) if flaw is None else flaw


def _cap(name: str, cap: str, value: object) -> Any:
    if cap == "instruments":
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            return Flaw(f"The limit {name!r} must be a list of instruments, not {value!r}.")
        return tuple(sorted(value))
    plain = isinstance(value, int | str | Decimal) and not isinstance(value, bool)
    number = _UNTRAPPED.create_decimal(str(value).strip()) if plain else Decimal("NaN")
    if not number.is_finite() or number <= 0:
        return Flaw(f"The limit {name!r} must be a finite number above 0, not {value!r}.")
    if cap != "orders_per_day_max":
        return number
    return int(number) if number == int(number) else Flaw(f"The limit {name!r} must be a whole number, not {value!r}.")
