"""Commands of people: rows in Postgres that the control worker turns into events."""

import enum

from schemas.event import Event
from schemas.values import Level


class ControlAction(enum.StrEnum):
    """What a person may order."""

    SET_LEVEL = "SET_LEVEL"
    FLATTEN = "FLATTEN"
    CANCEL = "CANCEL"


class ScopeKind(enum.StrEnum):
    """How far a command reaches."""

    GLOBAL = "GLOBAL"
    ACCOUNT = "ACCOUNT"
    STRATEGY = "STRATEGY"
    INSTRUMENT = "INSTRUMENT"


class ControlCommand(Event, frozen=True, kw_only=True, gc=False):
    """A command with its author and reason. ``key`` is the command id.

    SET_LEVEL sets ``level`` at the scope and latches it. FLATTEN closes the scope's positions and cancels its
    orders. CANCEL cancels the order ``target``, or, with scope GLOBAL and target ``*``, all open orders.
    ``ordinal`` rises in the order in which commands were given; 0 for one that was given no number.
    """

    command_id: str
    author: str
    reason: str
    action: ControlAction
    scope: ScopeKind
    target: str
    level: Level | None = None
    ordinal: int = 0
