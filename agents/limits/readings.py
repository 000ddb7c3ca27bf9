"""Reads limits out of plain values, without an exception: what is none is a flaw, in one sentence.

Limits come from settings, where a flaw ends the start, and from changes that people propose, where it is a refusal.
"""

from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any, Final

from agents.limits.canary_caps import CanaryCaps, read_caps
from agents.limits.flaw import Flaw

_UNTRAPPED: Final = Context(prec=40, traps=[])
"""Reads a text that is no number as NaN, which is then refused by name."""


def _text(name: str, value: object) -> str | Flaw:
    if not isinstance(value, str) or not value:
        return Flaw(f"The limit {name!r} must be a non-empty text, not {value!r}.")
    return value


def number_of(value: object) -> Decimal:
    """Return a value as a number, NaN when it is none."""
    plain = isinstance(value, int | float | str | Decimal) and not isinstance(value, bool)
    return _UNTRAPPED.create_decimal(str(value).strip()) if plain else Decimal("NaN")


def _above_zero(name: str, value: object) -> Decimal | Flaw:
    number = number_of(value)
    if not number.is_finite():
        return Flaw(f"The limit {name!r} must be a finite number, not {value!r}.")
    return number if number > 0 else Flaw(f"The limit {name!r} must be above 0, not {value!r}.")


def _fraction(name: str, value: object) -> Decimal | Flaw:
    number = _above_zero(name, value)
    if not isinstance(number, Flaw) and number >= 1:
        return Flaw(f"The limit {name!r} is a fraction and must lie between 0 and 1, not {value!r}.")
    return number


def _count(name: str, value: object) -> int | Flaw:
    if type(value) is not int or value <= 0:
        return Flaw(f"The limit {name!r} must be a whole number above 0, not {value!r}.")
    return value


def _table(name: str, value: object, read: Callable[[str, object], Any]) -> dict[str, Any] | Flaw:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        return Flaw(f"The limit {name!r} must be a table, not {value!r}.")
    found = {key: read(f"{name}.{key}", item) for key, item in value.items()}
    return next((item for item in found.values() if isinstance(item, Flaw)), found)


def _by_name(name: str, value: object) -> dict[str, Any] | Flaw:
    return _table(name, value, _above_zero)


def _instruments(name: str, value: object) -> tuple[Any, ...] | Flaw:
    if not isinstance(value, list | tuple):
        return Flaw(f"The limit {name!r} must be a list of instruments, not {value!r}.")
    found = tuple(_text(name, item) for item in value)
    return next((item for item in found if isinstance(item, Flaw)), found)


def _sorted(name: str, value: object) -> tuple[Any, ...] | Flaw:
    found = _instruments(name, value)
    return found if isinstance(found, Flaw) else tuple(sorted(found))


def _canary(name: str, value: object) -> CanaryCaps | Flaw:
    return read_caps(name.partition(".")[2], value)


def _canaries(name: str, value: object) -> dict[str, Any] | Flaw:
    return _table(name, value, _canary)


def _permissions(name: str, value: object) -> dict[str, Any] | Flaw:
    return _table(name, value, _instruments)


READINGS: Final[dict[str, Callable[[str, object], Any]]] = {
    "currency": _text,
    "capital": _above_zero,
    "price_collar": _fraction,
    "order_value_max": _above_zero,
    "position_value_max": _above_zero,
    "gross_exposure_max": _above_zero,
    "net_exposure_max": _above_zero,
    "leverage_max": _above_zero,
    "messages_max": _count,
    "daily_loss_max": _above_zero,
    "drawdown_max": _fraction,
    "permissions": _permissions,
    "conversion_rates": _by_name,
    "order_quantity_max": _by_name,
    "position_value_max_of": _by_name,
    "message_window_ms": _count,
    "duplicate_window_ms": _count,
    "reference_age_max_ms": _count,
    "data_age_max_ms": _count,
    "restricted": _sorted,
    "price_move_max": _fraction,
    "price_move_window_ms": _count,
    "executions_max": _count,
    "execution_window_ms": _count,
    "rejects_max": _count,
    "clock_drift_max_ms": _count,
    "strategy_loss_max": _by_name,
    "strategy_exposure_max": _by_name,
    "canaries": _canaries,
}
"""How each limit is read: its name and a plain value to the value, or to a flaw."""
