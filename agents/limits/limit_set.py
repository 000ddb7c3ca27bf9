"""The limits of one account as one frozen, versioned value. What cannot be read as a limit refuses to start."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from agents.limits.canary_caps import CanaryCaps
from agents.limits.flaw import Flaw
from agents.limits.readings import READINGS

ANY_INSTRUMENT: Final = "*"
ANY_STRATEGY: Final = "*"


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
    def read(cls, values: Mapping[str, object]) -> "LimitSet | Flaw":
        """Return the limits named by ``values``, or what is wrong with the first that is none."""
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            return Flaw(f"{unknown[0]!r} is not a limit; the limits are {', '.join(known)}.")
        for name, item in known.items():
            if name not in values and item.default is MISSING and item.default_factory is MISSING:
                return Flaw(f"The limit {name!r} is missing.")
        found = {name: READINGS[name](name, value) for name, value in values.items()}
        flaw = next((item for item in found.values() if isinstance(item, Flaw)), None)
        return cls(**found) if flaw is None else flaw

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> "LimitSet":
        """Return the limits named by ``values``. Raises ValueError, in one sentence, for anything that is not one."""
        found = cls.read(values)
        if isinstance(found, Flaw):
            raise ValueError(found)
        return found

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
