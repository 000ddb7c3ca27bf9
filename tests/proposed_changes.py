"""Changes for tests: as people propose them, and as the shell hands them to a stage."""

from typing import Any

from schemas.changes import Change, ChangeRefusal, Examined, canonical_text
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.values import NS_PER_S, Level

T0 = 1_700_000_000 * NS_PER_S
TWO = ("ann", "bob")


def limits_change(base: str, **changes: Any) -> Change:
    """Return a change that raises the account's largest order value to 20,000, unless told otherwise."""
    fields: dict[str, Any] = {
        "action": ControlAction.SET_LIMITS,
        "scope": ScopeKind.ACCOUNT,
        "target": "main",
        "base": base,
        "owner": "ann",
        "reason": "more room",
        "proposed_at_ns": T0,
        "expires_at_ns": T0 + 3_600 * NS_PER_S,
        "nonce": "1",
        "values": {"order_value_max": "20000"},
    }
    return Change(**fields | changes)


def level_change(level: Level = Level.ACTIVE, seen: int = 1_000, **changes: Any) -> Change:
    """Return a reset of the global level by people who have seen ``seen`` commands."""
    fields: dict[str, Any] = {
        "action": ControlAction.SET_LEVEL,
        "scope": ScopeKind.GLOBAL,
        "target": "*",
        "base": str(seen),
        "owner": "ann",
        "reason": "looked at",
        "proposed_at_ns": T0 + 10 * 86_400 * NS_PER_S,
        "expires_at_ns": T0 + 11 * 86_400 * NS_PER_S,
        "nonce": "1",
        "level": level,
    }
    return Change(**fields | changes)


def command_of(wanted: Change, ordinal: int = 0, **changes: Any) -> ControlCommand:
    """Return the command that a change travels as, without approvals."""
    name = f"change-{wanted.nonce}-{ordinal}"
    fields: dict[str, Any] = {
        "key": name,
        "event_time_ns": T0,
        "available_at_ns": T0,
        "event_id": name,
        "command_id": name,
        "author": wanted.owner,
        "reason": wanted.reason,
        "action": wanted.action,
        "scope": wanted.scope,
        "target": wanted.target,
        "level": wanted.level,
        "ordinal": ordinal,
        "change": canonical_text(wanted),
    }
    return ControlCommand(**fields | changes)


def plain_level(level: Level, ordinal: int = 0, **changes: Any) -> ControlCommand:
    """Return the command by which one person sets the global level, without anybody's signature."""
    return command_of(level_change(level), ordinal, **{"change": ""} | changes)


def examined(
    change: Change,
    approved_by: tuple[str, ...] = TWO,
    ordinal: int = 0,
    refusal: ChangeRefusal | None = None,
    at_ns: int = T0,
) -> Examined:
    """Return a change as the shell hands it over: two people's by default."""
    command = command_of(change, ordinal)
    return Examined(
        key=command.key,
        event_time_ns=at_ns,
        available_at_ns=at_ns,
        event_id=f"examined-{command.event_id}",
        command=command,
        change=None if refusal is ChangeRefusal.MALFORMED else change,
        approved_by=approved_by,
        refusal=refusal,
    )
