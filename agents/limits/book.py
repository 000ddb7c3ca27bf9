"""The limits in force as data: one versioned book of sets, one set for each scope, from which each account's follow.

A set is what was written at its scope: limit -> value, as text. A value of an account stands in place of the global
one; instruments and strategies cap further. Every change makes a new version, whose name is a function of the version
before and of the change, so that whoever has the same history has the same names.
"""

import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final

import msgspec

from agents.limits.canary_caps import CAP_NAMES
from agents.limits.flaw import Flaw
from agents.limits.limit_set import LimitSet
from agents.limits.readings import number_of
from schemas.changes import ControlOutcome, Override
from schemas.control import ScopeKind
from schemas.values import NS_PER_MS

GLOBAL_SET: Final = f"{ScopeKind.GLOBAL}|*"
SETTINGS_OWNER: Final = "settings"
_FACTS: Final = ("currency", "capital")
"""What an account is, not how far it may go: it comes from the settings alone."""
_OF_INSTRUMENT: Final = {"order_quantity_max": "order_quantity_max", "position_value_max": "position_value_max_of"}
_OF_STRATEGY: Final = {"loss_max": "strategy_loss_max", "exposure_max": "strategy_exposure_max"}
_RESTRICTED: Final = "restricted"
_CANARIES: Final = "canaries"
_TYPES: Final = typing.get_type_hints(LimitSet)
_VERSIONS_KEPT: Final = 64
_TEXT_MAX: Final = 65_536
_DIGITS_MAX: Final = 18


class LimitBook(msgspec.Struct, frozen=True, kw_only=True):
    """All sets in force: scope (``GLOBAL|*``, ``ACCOUNT|main``, ...) -> limit -> value, and the overrides above them.

    ``seed`` is the version that it began with. ``under_override``: versions that were in force with an override, and
    when that ends or ended. ``applied``: the changes that can still come again, and until when.
    """

    version: str
    sets: dict[str, dict[str, str]]
    seed: str
    owner: str = SETTINGS_OWNER
    reason: str = "the settings of the first start"
    overrides: tuple[Override, ...] = ()
    under_override: dict[str, int] = {}
    applied: dict[str, int] = {}

    def next_lapse_ns(self) -> int | None:
        """Return when the next override lapses, or None."""
        return min((override.until_ns for override in self.overrides), default=None)


class EffectiveLimits:
    """What a book comes to for each account. ``seeds`` say whose accounts these are, and what their money is.

    What was worked out for a version is remembered: nothing else depends on it.
    """

    def __init__(self, seeds: Mapping[str, LimitSet], book: LimitBook | None = None) -> None:
        self.seeds = seeds
        self.first = book if book is not None else book_of(seeds)
        self._known: tuple[str, dict[str, LimitSet]] = ("", {})

    def of(self, book: LimitBook) -> Mapping[str, LimitSet]:
        """Return account -> limits of a book that was found to be sound."""
        version, known = self._known
        if version != book.version:
            known = effective(book, self.seeds)
            self._known = (book.version, known)
        return known

    def move_window_ms(self, book: LimitBook) -> int:
        """Return the widest window over which any account looks at how far a price has moved."""
        return max((limits.price_move_window_ms for limits in self.of(book).values()), default=0)

    def clock_drift_max_ns(self, book: LimitBook) -> int:
        """Return by how much a mark may be ahead of our clock for any account."""
        return NS_PER_MS * max((limits.clock_drift_max_ms for limits in self.of(book).values()), default=0)


def scope_key(scope: ScopeKind, target: str) -> str:
    """Return the name of a scope's set."""
    return f"{scope}|{'*' if scope is ScopeKind.GLOBAL else target}"


def seeded(sets: Mapping[str, Mapping[str, str]]) -> LimitBook:
    """Return the first book of these sets; equal sets have equal versions."""
    kept = {scope: dict(values) for scope, values in sorted(sets.items()) if values}
    version = digest(json.dumps(kept, sort_keys=True))
    return LimitBook(version=version, sets=kept, seed=version)


def digest(text: str) -> str:
    """Return the 16 hex digits that name a version."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def book_of(seeds: Mapping[str, LimitSet]) -> LimitBook:
    """Return a book with a set for each account, and for each strategy on trial, that comes to these limits."""
    sets: dict[str, dict[str, str]] = {}
    for account, limits in seeds.items():
        values = sets[scope_key(ScopeKind.ACCOUNT, account)] = {}
        for item in fields(limits):
            if item.name not in (*_FACTS, _CANARIES):
                values |= _flat(item.name, getattr(limits, item.name))
        for strategy, caps in limits.canaries.items():
            named = {name: text_of(cap) for name, cap in caps._asdict().items() if cap is not None}
            sets[scope_key(ScopeKind.STRATEGY, strategy)] = named
    return seeded(sets)


def _flat(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {f"{name}.{key}": text_of(inner) for key, inner in sorted(value.items())}
    return {} if value == () else {name: text_of(value)}


def text_of(value: object) -> str:
    """Return a limit as text: numbers in their normal form, lists with commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(sorted(map(str, value)))
    return format(Decimal(str(value)).normalize(), "f")


def effective(book: LimitBook, seeds: Mapping[str, LimitSet]) -> dict[str, LimitSet]:
    """Return account -> its limits under a book. Raises ValueError, in one sentence, for what is not a limit."""
    found = readable(book, seeds)
    if isinstance(found, Flaw):
        raise ValueError(found)
    return found


def readable(book: LimitBook, seeds: Mapping[str, LimitSet]) -> dict[str, LimitSet] | Flaw:
    """Return account -> its limits under a book, or what is wrong with the first that is none."""
    layers = {scope: dict(values) for scope, values in book.sets.items()}
    for override in book.overrides:
        layers.setdefault(override.scope, {}).update(override.values)
    flaws = (_excess(name, text) for values in layers.values() for name, text in values.items())
    further = next((flaw for flaw in flaws if flaw is not None), None) or _further(layers)
    if isinstance(further, Flaw):
        return further
    found: dict[str, LimitSet] = {}
    for account, seed in seeds.items():
        values: dict[str, Any] = {name: getattr(seed, name) for name in _FACTS} | {"permissions": {}}
        for name, text in {**layers.get(GLOBAL_SET, {}), **layers.get(f"{ScopeKind.ACCOUNT}|{account}", {})}.items():
            flaw = _put(values, name, text)
            if flaw is not None:
                return flaw
        _lay_over(values, further)
        limits = LimitSet.read(values)
        if isinstance(limits, Flaw):
            return limits
        found[account] = limits
    return found


def _excess(name: str, text: str) -> Flaw | None:
    """Return what is wrong with a text that is too long, or a number that no account needs, and nobody could print."""
    if len(text) > _TEXT_MAX:
        return Flaw(f"The value of {name[:80]!r} has more than {_TEXT_MAX} characters.")
    number = number_of(text)
    if number.is_finite() and number and abs(number.adjusted()) > _DIGITS_MAX:
        return Flaw(f"The limit {name!r} cannot be {text[:80]!r}: it has more than {_DIGITS_MAX} digits.")
    return None


def _put(values: dict[str, Any], name: str, text: str) -> Flaw | None:
    field, dot, key = name.partition(".")
    kind = _TYPES.get(field)
    if field in (*_FACTS, _CANARIES) or kind is None or bool(dot) is not _is_mapping(kind):
        return Flaw(f"{name!r} is not a limit of an account or of all.")
    if dot:
        values.setdefault(field, {})[key] = _names(text) if field == "permissions" else text
    elif kind is int:
        values[field] = int(text) if text.isdecimal() else text
    else:
        values[field] = _names(text) if kind is not Decimal else text
    return None


def _is_mapping(kind: Any) -> bool:
    return typing.get_origin(kind) is Mapping


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _further(layers: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | Flaw:
    """Return what holds for single instruments and strategies, by the fields of a LimitSet."""
    found: dict[str, Any] = {name: {} for name in (*_OF_INSTRUMENT.values(), *_OF_STRATEGY.values(), _CANARIES)}
    found[_RESTRICTED] = []
    for scope, values in sorted(layers.items()):
        kind, _, target = scope.partition("|")
        for name, text in values.items() if kind in (ScopeKind.INSTRUMENT, ScopeKind.STRATEGY) else ():
            if not _put_further(found, ScopeKind(kind), target, name, text):
                return Flaw(f"'{name} = {text}' is not a limit of {kind} {target}.")
    return found


def _put_further(found: dict[str, Any], kind: ScopeKind, target: str, name: str, text: str) -> bool:
    fields_of = _OF_INSTRUMENT if kind is ScopeKind.INSTRUMENT else _OF_STRATEGY
    if name in fields_of:
        found[fields_of[name]][target] = text
    elif kind is ScopeKind.INSTRUMENT and name == _RESTRICTED and text in ("true", "false"):
        found[_RESTRICTED] += [target] if text == "true" else []
    elif kind is ScopeKind.STRATEGY and name in CAP_NAMES:
        found[_CANARIES].setdefault(target, {})[name] = _names(text) if name == "instruments" else text
    else:
        return False
    return True


def _lay_over(values: dict[str, Any], further: Mapping[str, Any]) -> None:
    for name, content in further.items():
        if name == _RESTRICTED:
            values[name] = (*values.get(name, ()), *(item for item in content if item not in values.get(name, ())))
            continue
        merged = dict(values.get(name, {}))
        for key, value in content.items():
            merged[key] = value if key not in merged else _stricter(merged[key], value)
        values[name] = merged


def _stricter(one: object, other: object) -> object:
    """Return the smaller of two numbers; where one is none, that one, which will be refused by name."""
    if not number_of(one).is_finite():
        return one
    return other if not number_of(other).is_finite() or number_of(other) < number_of(one) else one


def with_version(book: LimitBook, version: str, **changes: Any) -> LimitBook:
    """Return the book as its next version, remembering until when the former were or are under an override."""
    following = msgspec.structs.replace(book, version=version, **changes)
    until_ns = following.next_lapse_ns()
    if until_ns is None:
        return following
    kept = {**following.under_override, version: until_ns}
    kept = dict(sorted(kept.items(), key=lambda item: item[1])[-_VERSIONS_KEPT:])
    return msgspec.structs.replace(following, under_override=kept)


def lapsed(book: LimitBook, now_ns: int) -> LimitBook:
    """Return the book without the overrides that are over at ``now_ns``; the same one when none is."""
    for override in sorted(book.overrides, key=lambda item: (item.until_ns, item.change_id)):
        if override.until_ns <= now_ns:
            left = tuple(item for item in book.overrides if item is not override)
            version = digest(f"{book.version}|lapsed|{override.change_id}")
            book = with_version(book, version, overrides=left)
    return book


def adopted(book: LimitBook, told: ControlOutcome) -> LimitBook:
    """Return the book that execution says is in force, for whoever follows its word."""
    named = msgspec.structs.replace(book, owner=told.author, reason=told.reason)
    sets = {scope: dict(values) for scope, values in told.sets.items()}
    return with_version(named, told.version, sets=sets, overrides=told.overrides)
