"""The limits of the settings as the first book: what a platform begins with, and what it is later compared with.

Once limits are in force they change by command alone. Other numbers in the settings change nothing then; they are only
told of.
"""

from collections.abc import Mapping
from decimal import Decimal

from agents.limits.book import LimitBook, effective, scope_key, seeded, text_of
from agents.limits.limit_set import LimitSet
from infra.settings import Settings
from schemas.control import ScopeKind

Permissions = Mapping[str, tuple[str, ...]]
"""Strategy -> the instruments that it may trade."""


def seed_book(settings: Settings, permissions: Permissions) -> LimitBook:
    """Return the book of the settings: a set for each scope that says anything. Nothing is checked here."""
    sets: dict[str, dict[str, str]] = {}
    ages = {"reference_age_max_ms": settings.staleness.mark_ms, "data_age_max_ms": settings.staleness.market_ms}
    everybody = {**ages, **settings.limits.global_}
    sets[scope_key(ScopeKind.GLOBAL, "*")] = {name: text_of(value) for name, value in everybody.items()}
    for name, account in settings.accounts.items():
        values = {f"conversion_rates.{key}": text_of(rate) for key, rate in account.conversion_rates.items()}
        for strategy, terms in settings.strategies.items():
            if terms.account == name:
                values[f"permissions.{strategy}"] = text_of(permissions[strategy])
        values |= {key: text_of(value) for key, value in settings.limits.account.get(name, {}).items()}
        sets[scope_key(ScopeKind.ACCOUNT, name)] = values
    for instrument, caps in settings.limits.instrument.items():
        sets[scope_key(ScopeKind.INSTRUMENT, instrument)] = _told(caps.model_dump())
    for strategy, caps_of in settings.limits.strategy.items():
        sets[scope_key(ScopeKind.STRATEGY, strategy)] = _told(caps_of.model_dump())
    return seeded(sets)


def _told(values: Mapping[str, object]) -> dict[str, str]:
    return {name: text_of(value) for name, value in values.items() if value is not None and value is not False}


def seed_limits(settings: Settings, book: LimitBook) -> dict[str, LimitSet]:
    """Return each account's limits under the first book. Raises ValueError for what is none, in one sentence."""
    return effective(book, seed_facts(settings))


def seed_facts(settings: Settings) -> dict[str, LimitSet]:
    """Return each account's currency and capital in the shape of limits, of which nothing else is read."""
    return {name: _facts(account.currency, account.capital) for name, account in settings.accounts.items()}


def _facts(currency: str, capital: Decimal) -> LimitSet:
    one = Decimal(1)
    return LimitSet(
        currency=currency,
        capital=capital,
        price_collar=one,
        order_value_max=one,
        position_value_max=one,
        gross_exposure_max=one,
        net_exposure_max=one,
        leverage_max=one,
        messages_max=1,
        daily_loss_max=one,
        drawdown_max=one,
        permissions={},
    )
