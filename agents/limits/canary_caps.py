"""The caps of a strategy that is to prove itself first: a new model or policy begins small (RTS 6, Article 8)."""

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Final, NamedTuple

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


def parse_caps(name: str, value: object) -> CanaryCaps:
    """Return the caps of a table. Raises ValueError, in one sentence, for anything that is not one."""
    if isinstance(value, CanaryCaps):
        return value
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"The limits of {name!r} must be a table of caps, not {value!r}.")
    for key in value:
        if key not in CAP_NAMES:
            raise ValueError(f"{key!r} is no cap of a strategy; the caps are {', '.join(CAP_NAMES)}.")
    instruments = value.get("instruments")
    orders = _number(name, "orders_per_day_max", value)
    if orders is not None and orders != int(orders):
        raise ValueError(f"The limit '{name}.orders_per_day_max' must be a whole number above 0, not {orders}.")
    return CanaryCaps(
        instruments=None if instruments is None else _instruments(name, instruments),
        order_value_max=_number(name, "order_value_max", value),
        position_value_max=_number(name, "position_value_max", value),
        orders_per_day_max=None if orders is None else int(orders),
    )


def _number(name: str, cap: str, value: Mapping[str, object]) -> Decimal | None:
    found = value.get(cap)
    if found is None:
        return None
    plain = isinstance(found, int | str | Decimal) and not isinstance(found, bool)
    number = _UNTRAPPED.create_decimal(str(found).strip()) if plain else Decimal("NaN")
    if not number.is_finite() or number <= 0:
        raise ValueError(f"The limit '{name}.{cap}' must be a finite number above 0, not {found!r}.")
    return number


def _instruments(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"The limit '{name}.instruments' must be a list of instruments, not {value!r}.")
    return tuple(sorted(value))
