"""The limits of one account as one frozen, versioned value. What cannot be read as a limit refuses to start."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from decimal import Context, Decimal
from typing import Any, Final, Self

from agents.limits.canary_caps import CanaryCaps, parse_caps

ANY_INSTRUMENT: Final = "*"
ANY_STRATEGY: Final = "*"
_UNTRAPPED: Final = Context(prec=40, traps=[])
"""Reads a text that is no number as NaN, which is then refused by name."""


@dataclass(frozen=True, slots=True)
class LimitSet:
    """Every hard limit of one account. Money is in ``currency``; fractions are of 1; times say their unit.

    ``conversion_rates``: what one unit of a quote currency is worth in ``currency``; a currency that is not listed
    cannot be traded. ``price_collar``: how far a price may lie from the mid, on either side. ``leverage_max``:
    gross exposure over equity. ``drawdown_max``: fall of equity from its peak. ``permissions``: strategy ->
    instruments (``*`` = all); what is not listed is denied. ``order_quantity_max`` and
    ``position_value_max_of`` are further caps by instrument. ``restricted``: instruments that nobody may trade.
    ``price_move_max``: how far the mid may have moved within ``price_move_window_ms``, as a fraction of the higher end.
    ``executions_max``: orders of one strategy within ``execution_window_ms``; ``rejects_max``: rejects of one in a row.
    ``clock_drift_max_ms``: how far a mark may be ahead of our own clock. ``strategy_loss_max`` (of a day) and
    ``strategy_exposure_max`` (gross) are the strategies' own thresholds; ``*`` is for those that are not named.
    ``canaries`` are the strategies on trial, with their caps.
    """

    currency: str
    capital: Decimal
    price_collar: Decimal
    order_value_max: Decimal
    position_value_max: Decimal
    gross_exposure_max: Decimal
    net_exposure_max: Decimal
    leverage_max: Decimal
    messages_max: int
    daily_loss_max: Decimal
    drawdown_max: Decimal
    permissions: Mapping[str, tuple[str, ...]]
    conversion_rates: Mapping[str, Decimal] = field(default_factory=dict)
    order_quantity_max: Mapping[str, Decimal] = field(default_factory=dict)
    position_value_max_of: Mapping[str, Decimal] = field(default_factory=dict)
    message_window_ms: int = 1_000
    duplicate_window_ms: int = 500
    reference_age_max_ms: int = 2_000
    data_age_max_ms: int = 5_000
    restricted: tuple[str, ...] = ()
    price_move_max: Decimal = Decimal("0.1")
    price_move_window_ms: int = 60_000
    executions_max: int = 1_000
    execution_window_ms: int = 60_000
    rejects_max: int = 20
    clock_drift_max_ms: int = 1_000
    strategy_loss_max: Mapping[str, Decimal] = field(default_factory=dict)
    strategy_exposure_max: Mapping[str, Decimal] = field(default_factory=dict)
    canaries: Mapping[str, CanaryCaps] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Return the limits named by ``values``. Raises ValueError, in one sentence, for anything that is not one."""
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a limit; the limits are {', '.join(known)}.")
        for name, item in known.items():
            if name not in values and item.default is MISSING and item.default_factory is MISSING:
                raise ValueError(f"The limit {name!r} is missing.")
        return cls(**{name: _PARSERS[name](name, value) for name, value in values.items()})

    @property
    def version(self) -> str:
        """Return 16 hex digits that change when any limit changes."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        text = json.dumps(content, sort_keys=True, default=_plain)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def rate(self, currency: str) -> Decimal | None:
        """Return what one unit of ``currency`` is worth in the account's, or None when that is not known."""
        return Decimal(1) if currency == self.currency else self.conversion_rates.get(currency)

    def permits(self, strategy: str, instrument: str) -> bool:
        """Return whether ``strategy`` may trade ``instrument``: what is not listed, or is restricted, it may not."""
        if instrument in self.restricted:
            return False
        allowed = self.permissions.get(strategy, ())
        return instrument in allowed or ANY_INSTRUMENT in allowed

    def loss_threshold(self, strategy: str) -> Decimal:
        """Return the loss of a day that a strategy may make: never more than the account's."""
        return min(_of(self.strategy_loss_max, strategy, self.daily_loss_max), self.daily_loss_max)

    def exposure_threshold(self, strategy: str) -> Decimal:
        """Return the gross exposure that a strategy may have: never more than the account's."""
        return min(_of(self.strategy_exposure_max, strategy, self.gross_exposure_max), self.gross_exposure_max)


def _of(thresholds: Mapping[str, Decimal], strategy: str, otherwise: Decimal) -> Decimal:
    return thresholds.get(strategy, thresholds.get(ANY_STRATEGY, otherwise))


def _plain(value: Any) -> Any:
    # Two spellings of one number (1 and 1.0) are one limit, so the version is taken of the normal form.
    return format(value.normalize(), "f") if isinstance(value, Decimal) else dict(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"The limit {name!r} must be a non-empty text, not {value!r}.")
    return value


def _number(name: str, value: object) -> Decimal:
    plain = isinstance(value, int | float | str | Decimal) and not isinstance(value, bool)
    number = _UNTRAPPED.create_decimal(str(value).strip()) if plain else Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f"The limit {name!r} must be a finite number, not {value!r}.")
    return number


def _above_zero(name: str, value: object) -> Decimal:
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"The limit {name!r} must be above 0, not {value!r}.")
    return number


def _fraction(name: str, value: object) -> Decimal:
    number = _above_zero(name, value)
    if number >= 1:
        raise ValueError(f"The limit {name!r} is a fraction and must lie between 0 and 1, not {value!r}.")
    return number


def _count(name: str, value: object) -> int:
    if type(value) is not int or value <= 0:
        raise ValueError(f"The limit {name!r} must be a whole number above 0, not {value!r}.")
    return value


def _table(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        raise ValueError(f"The limit {name!r} must be a table, not {value!r}.")
    return value


def _by_name(name: str, value: object) -> dict[str, Decimal]:
    return {key: _above_zero(f"{name}.{key}", item) for key, item in _table(name, value).items()}


def _names(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"The limit {name!r} must be a list of instruments, not {value!r}.")
    return tuple(sorted(_text(name, item) for item in value))


def _canaries(name: str, value: object) -> dict[str, CanaryCaps]:
    return {key: parse_caps(key, item) for key, item in _table(name, value).items()}


def _permissions(name: str, value: object) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for strategy, instruments in _table(name, value).items():
        if not isinstance(instruments, list | tuple):
            raise ValueError(f"The limit '{name}.{strategy}' must be a list of instruments, not {instruments!r}.")
        found[strategy] = tuple(_text(f"{name}.{strategy}", item) for item in instruments)
    return found


_PARSERS: Final[dict[str, Callable[[str, object], Any]]] = {
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
    "restricted": _names,
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
