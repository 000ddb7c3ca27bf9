"""What a proposed change comes to: a new book of limits, or a level; or a closed reason for which it is refused.

Signatures were held against the allow-list before; here is decided what needs them. Whatever loosens anything, now or
once an override has lapsed, needs two people; what only makes stricter needs none but its author.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from agents.limits.book import EffectiveLimits, LimitBook, digest, effective, lapsed, readable, scope_key, with_version
from agents.limits.flaw import Flaw
from agents.limits.limit_set import LimitSet
from agents.limits.strictness import loosened
from schemas.changes import SIGNERS_MIN, Change, ChangeRefusal, Examined, Override, canonical_text, change_id
from schemas.control import ControlAction, ScopeKind
from schemas.values import NS_PER_S, Level

OVERRIDE_MAX_NS: Final = 86_400 * NS_PER_S
"""An override is for a day at most: whoever needs more changes the limits."""
ANYBODY: Final = "*"
"""An account that is not there yet: it would have what holds for all."""
_SEVERITY: Final = {Level.ACTIVE: 0, Level.REDUCING: 1, Level.HALTED: 2}


class Decided(NamedTuple):
    """What a change comes to: the ``book`` after it, or a ``refusal`` with detail; ``loosens`` names what is raised."""

    book: LimitBook | None = None
    refusal: ChangeRefusal | None = None
    detail: str = ""
    loosens: tuple[str, ...] = ()


class LevelNow(NamedTuple):
    """What set a scope's level: a command's number (0: none with a number), and when a latch of our own did."""

    ordinal: int = 0
    latched_ns: int = 0


def loosens_level(before: Level, after: Level) -> bool:
    """Return whether a level allows more than another."""
    return _SEVERITY[after] < _SEVERITY[before]


def decide(book: LimitBook, limits: EffectiveLimits, examined: Examined, level: LevelNow, now_ns: int) -> Decided:
    """Return what an examined command comes to. ``book`` is as it stands at ``now_ns``; ``level`` is the scope's."""
    change = examined.change
    if examined.refusal is not None or change is None:
        return Decided(refusal=examined.refusal or ChangeRefusal.MALFORMED, detail=examined.detail)
    name = change_id(canonical_text(change))
    if name in book.applied:
        return Decided(refusal=ChangeRefusal.ALREADY_APPLIED)
    if now_ns > change.expires_at_ns:
        return Decided(refusal=ChangeRefusal.EXPIRED, detail=f"it was good until {change.expires_at_ns} ns")
    if change.action is ControlAction.SET_LEVEL:
        decided = _decide_level(book, limits, change, level)
    else:
        decided = _decide_limits(book, limits, name, change, now_ns)
    if decided.refusal is None and decided.loosens and len(set(examined.approved_by)) < SIGNERS_MIN:
        return Decided(refusal=ChangeRefusal.NEEDS_TWO_PEOPLE, detail=", ".join(decided.loosens))
    if decided.book is None:
        return decided
    applied = {key: expires_ns for key, expires_ns in decided.book.applied.items() if expires_ns >= now_ns}
    return decided._replace(book=msgspec.structs.replace(decided.book, applied=applied | {name: change.expires_at_ns}))


def _decide_level(book: LimitBook, limits: EffectiveLimits, change: Change, level: LevelNow) -> Decided:
    assert change.level is not None, "the shell has examined it"
    if change.scope is ScopeKind.ACCOUNT and change.target not in limits.seeds:
        return Decided(refusal=ChangeRefusal.NOT_A_LIMIT, detail=f"there is no account {change.target!r}")
    if not change.base.isdecimal() or level.ordinal > int(change.base):
        detail = f"command {level.ordinal} has set the level since"
        return Decided(refusal=ChangeRefusal.STALE_BASE, detail=detail)
    if level.latched_ns > change.proposed_at_ns:
        return Decided(refusal=ChangeRefusal.STALE_BASE, detail="it was latched after that was proposed")
    # A level that was latched elsewhere (risk's own latches) may be released by it, whatever it is here.
    return Decided(book=book, loosens=() if change.level is Level.HALTED else (f"{change.scope} {change.target}",))


def _decide_limits(book: LimitBook, limits: EffectiveLimits, name: str, change: Change, now_ns: int) -> Decided:
    if change.base != book.version:
        detail = f"{book.version} is in force, not {change.base}"
        return Decided(refusal=ChangeRefusal.STALE_BASE, detail=detail)
    after = _with_override(book, name, change) if change.until_ns is not None else _with_values(book, name, change)
    flaw = _flaw_of(change, after, limits.seeds, now_ns)
    if flaw:
        return Decided(refusal=ChangeRefusal.NOT_A_LIMIT, detail=flaw)
    loosens, tightens = _differences(book, after, limits.seeds, now_ns)
    if after.sets == book.sets and after.overrides == book.overrides:
        return Decided(refusal=ChangeRefusal.CHANGES_NOTHING)
    if change.until_ns is not None:
        refused = _refused_override(change, change.until_ns, (loosens, tightens), now_ns)
        if refused is not None:
            return refused
    return Decided(book=after, loosens=loosens)


def _with_values(book: LimitBook, name: str, change: Change) -> LimitBook:
    """Return the book with a change laid over its set; an override of the same limits gives way to it."""
    scope = scope_key(change.scope, change.target)
    values = {**book.sets.get(scope, {}), **change.values}
    sets = {**book.sets, scope: {key: text for key, text in values.items() if text}}
    overrides = (_without(item, change.values) if item.scope == scope else item for item in book.overrides)
    kept = tuple(item for item in overrides if item.values)
    return _following(book, name, change, sets={key: item for key, item in sets.items() if item}, overrides=kept)


def _without(override: Override, names: Mapping[str, str]) -> Override:
    left = {name: text for name, text in override.values.items() if name not in names}
    return msgspec.structs.replace(override, values=left)


def _with_override(book: LimitBook, name: str, change: Change) -> LimitBook:
    assert change.until_ns is not None, "only what ends is an override"
    scope = scope_key(change.scope, change.target)
    made = Override(change_id=name, scope=scope, values=dict(change.values), until_ns=change.until_ns)
    return _following(book, name, change, sets=book.sets, overrides=(*book.overrides, made))


def _following(
    book: LimitBook, name: str, change: Change, *, sets: dict[str, dict[str, str]], overrides: tuple[Override, ...]
) -> LimitBook:
    named = msgspec.structs.replace(book, owner=change.owner, reason=change.reason)
    return with_version(named, digest(f"{book.version}|{name}"), sets=sets, overrides=overrides)


def _differences(
    before: LimitBook, after: LimitBook, seeds: Mapping[str, LimitSet], now_ns: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a change loosens and what it tightens, now or after any of the overrides has lapsed."""
    times = {now_ns, *(item.until_ns for book in (before, after) for item in book.overrides)}
    loosens: dict[str, None] = {}
    tightens: dict[str, None] = {}
    for time_ns in sorted(times):
        old, new = lapsed(before, time_ns), lapsed(after, time_ns)
        whose, missing = _and_whoever_comes(old, new, seeds)
        loosens |= dict.fromkeys((*missing, *loosened(effective(old, whose), effective(new, whose))))
        tightens |= dict.fromkeys(loosened(effective(new, whose), effective(old, whose)))
    return tuple(loosens), tuple(tightens)


def _and_whoever_comes(
    old: LimitBook, new: LimitBook, seeds: Mapping[str, LimitSet]
) -> tuple[Mapping[str, LimitSet], tuple[str, ...]]:
    """Return the accounts, with one that has no values of its own, if what holds for all is enough for one.

    Where it was enough and is no longer, that is returned as loosened: it could be written anew with any value, since
    there would be nothing to compare it with.
    """
    with_anybody = {**seeds, ANYBODY: next(iter(seeds.values()))}
    if isinstance(readable(old, with_anybody), Flaw):
        return seeds, ()
    flaw = readable(new, with_anybody)
    return (seeds, (f"{ANYBODY}: {flaw}",)) if isinstance(flaw, Flaw) else (with_anybody, ())


def _flaw_of(change: Change, after: LimitBook, seeds: Mapping[str, LimitSet], now_ns: int) -> str:
    if change.scope is ScopeKind.ACCOUNT and change.target not in seeds:
        return f"There is no account {change.target!r}."
    if not change.values:
        return "It names no limit."
    if change.until_ns is not None and "" in change.values.values():
        return "An override gives values; it takes none away."
    for time_ns in (now_ns, *(item.until_ns for item in after.overrides)):
        found = readable(lapsed(after, time_ns), seeds)
        if isinstance(found, Flaw):
            return found
    return ""


def _refused_override(
    change: Change, until_ns: int, differences: tuple[tuple[str, ...], tuple[str, ...]], now_ns: int
) -> Decided | None:
    loosens, tightens = differences
    if until_ns <= now_ns:
        return Decided(refusal=ChangeRefusal.OVERRIDE_OVER, detail=f"it would have ended at {until_ns} ns")
    if until_ns - now_ns > OVERRIDE_MAX_NS:
        return Decided(refusal=ChangeRefusal.OVERRIDE_TOO_LONG, detail="an override is for a day at most")
    if tightens:
        # Its end would be a raise that nobody has approved.
        return Decided(refusal=ChangeRefusal.OVERRIDE_LOWERS, detail=", ".join(tightens))
    return None if loosens else Decided(refusal=ChangeRefusal.CHANGES_NOTHING, detail=change.reason)
