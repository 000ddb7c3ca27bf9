"""Whether limits became looser: the one pure function that says which change needs two people.

It compares what is in force for each account before and after, not what was written where, so that a value which stands
in place of another is weighed against that one. What has no known direction counts as raised, whichever way it went.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final

from agents.limits.canary_caps import CanaryCaps
from agents.limits.limit_set import ANY_INSTRUMENT, ANY_STRATEGY, LimitSet

LOWER_IS_STRICTER: Final = frozenset(
    {
        *("price_collar", "order_value_max", "position_value_max", "gross_exposure_max", "net_exposure_max"),
        *("leverage_max", "messages_max", "daily_loss_max", "drawdown_max", "reference_age_max_ms", "data_age_max_ms"),
        *("price_move_max", "executions_max", "rejects_max", "clock_drift_max_ms"),
    }
)
HIGHER_IS_STRICTER: Final = frozenset(
    {"message_window_ms", "duplicate_window_ms", "price_move_window_ms", "execution_window_ms"}
)
CAPS_BY_NAME: Final = frozenset({"order_quantity_max", "position_value_max_of"})
"""Mappings in which what is not there has no cap."""
THRESHOLDS: Final = frozenset({"strategy_loss_max", "strategy_exposure_max"})
"""The same, and ``*`` stands for whatever is not named."""
_UNLIMITED: Final = Decimal("Infinity")


def loosened(before: Mapping[str, LimitSet], after: Mapping[str, LimitSet]) -> tuple[str, ...]:
    """Return what ``after`` allows that ``before`` did not, as ``account.limit``; nothing when it is no looser."""
    found: list[str] = []
    for account in sorted(before.keys() | after.keys()):
        if account not in before or account not in after:
            found.append(account)
            continue
        old, new = before[account], after[account]
        found += [f"{account}.{name}" for item in fields(LimitSet) for name in _of_field(item.name, old, new)]
    return tuple(found)


def _of_field(name: str, before: LimitSet, after: LimitSet) -> Iterable[str]:
    old, new = getattr(before, name), getattr(after, name)
    if old == new:
        return ()
    if name in LOWER_IS_STRICTER:
        return (name,) if new > old else ()
    if name in HIGHER_IS_STRICTER:
        return (name,) if new < old else ()
    if name in CAPS_BY_NAME or name in THRESHOLDS:
        return _of_caps(name, old, new)
    if name == "permissions":
        return _of_permissions(name, old, new)
    if name == "restricted":
        return [f"{name}.{instrument}" for instrument in sorted(set(old) - set(new))]
    if name == "conversion_rates":
        # A rate that is gone forbids; another rate makes everything worth more or less, which is no direction.
        return [f"{name}.{key}" for key in sorted(new) if old.get(key) != new[key]]
    if name == "canaries":
        return [f"{name}.{strategy}" for strategy in sorted(old) if _caps_loosened(old[strategy], new.get(strategy))]
    return (name,)


def _of_caps(name: str, old: Mapping[str, Decimal], new: Mapping[str, Decimal]) -> list[str]:
    def cap(caps: Mapping[str, Decimal], key: str) -> Decimal:
        return caps.get(key, caps.get(ANY_STRATEGY, _UNLIMITED) if name in THRESHOLDS else _UNLIMITED)

    return [f"{name}.{key}" for key in sorted(old.keys() | new.keys()) if cap(new, key) > cap(old, key)]


def _of_permissions(name: str, old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]) -> list[str]:
    found: list[str] = []
    for strategy in sorted(new):
        had = set(old.get(strategy, ()))
        if ANY_INSTRUMENT not in had and set(new[strategy]) - had:
            found.append(f"{name}.{strategy}")
    return found


def _caps_loosened(old: CanaryCaps, new: CanaryCaps | None) -> bool:
    if new is None:
        return True
    return any(_cap_loosened(mine, theirs) for mine, theirs in zip(old, new, strict=True))


def _cap_loosened(old: Any, new: Any) -> bool:
    if old is None:
        return False
    if new is None:
        return True
    return bool(set(new) - set(old)) if isinstance(old, tuple) else bool(new > old)
