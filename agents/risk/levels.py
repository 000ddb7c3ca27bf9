"""What trading is allowed where: latches at four scopes, and alerts. The strictest in force counts.

A latch set by a person or by a breach stays until a person sets it again; an alert's restriction ends with it.
"""

from typing import Final

from agents.risk.state import LEVELS_KEY, InstrumentRisk, Levels, instrument_key
from agents.stage import ShardState
from schemas.control import ControlCommand, ScopeKind
from schemas.values import Level

_SEVERITY: Final = {Level.ACTIVE: 0, Level.REDUCING: 1, Level.HALTED: 2}


def scope_name(scope: ScopeKind, target: str) -> str:
    """Return the name of a scope: ``GLOBAL``, ``ACCOUNT/main``, ``STRATEGY/flow``, ``INSTRUMENT/SIM:BTCUSD``."""
    return scope.value if scope is ScopeKind.GLOBAL else f"{scope}/{target}"


def latch(state: ShardState, scope: str, level: Level, cause: str) -> None:
    """Set the level of a scope until it is set again."""
    levels: Levels = state[LEVELS_KEY]
    levels.levels[scope] = level
    levels.causes[scope] = cause
    levels.since_ns[scope] = levels.now_ns
    state[LEVELS_KEY] = levels


def latched(state: ShardState, scope: str) -> Level:
    """Return the level latched at a scope, ACTIVE when none is."""
    levels: Levels = state[LEVELS_KEY]
    return levels.levels.get(scope, Level.ACTIVE)


def effective_level(state: ShardState, account: str, strategy: str, instrument: str) -> tuple[Level, str]:
    """Return the strictest level in force for a line, and the name of what set it ("" when nothing did)."""
    found, source = Level.ACTIVE, ""
    for scope, target in (
        (ScopeKind.GLOBAL, ""),
        (ScopeKind.ACCOUNT, account),
        (ScopeKind.STRATEGY, strategy),
        (ScopeKind.INSTRUMENT, instrument),
    ):
        name = scope_name(scope, target)
        level = latched(state, name)
        if _SEVERITY[level] > _SEVERITY[found]:
            found, source = level, name
    kept: InstrumentRisk | None = state.get(instrument_key(instrument))
    if found is Level.ACTIVE and kept is not None and kept.restricted:
        return Level.REDUCING, f"ALERT/{instrument}"
    return found, source


def in_scope(command: ControlCommand, account: str, strategy: str, instrument: str) -> bool:
    """Return whether a command reaches a line."""
    named = {ScopeKind.ACCOUNT: account, ScopeKind.STRATEGY: strategy, ScopeKind.INSTRUMENT: instrument}
    return command.scope is ScopeKind.GLOBAL or command.target == named[command.scope]
