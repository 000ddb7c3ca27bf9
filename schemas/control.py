"""Commands of people: rows in Postgres that the control worker turns into events."""

import enum

import msgspec

from schemas.event import Event
from schemas.feedback import ReleaseStage
from schemas.values import Level


class ControlAction(enum.StrEnum):
    """What a person may order."""

    SET_LEVEL = "SET_LEVEL"
    FLATTEN = "FLATTEN"
    CANCEL = "CANCEL"
    SET_LIMITS = "SET_LIMITS"
    RELEASE_MODEL = "RELEASE_MODEL"


class ScopeKind(enum.StrEnum):
    """How far a command reaches."""

    GLOBAL = "GLOBAL"
    ACCOUNT = "ACCOUNT"
    STRATEGY = "STRATEGY"
    INSTRUMENT = "INSTRUMENT"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One person's word for a change: an Ed25519 signature over its canonical bytes, in 128 hex digits."""

    person: str
    signature: str


class ControlCommand(Event, frozen=True, kw_only=True, gc=False):
    """A command with its author and reason. ``key`` is the command id.

    SET_LEVEL sets ``level`` at the scope and latches it. FLATTEN closes the scope's positions and cancels its
    orders. CANCEL cancels the order ``target``, or, with scope GLOBAL and target ``*``, all open orders.
    RELEASE_MODEL puts the model ``model``, whose artefact has the sha256 ``target``, into ``release_stage``.
    ``ordinal`` rises in the order in which commands were given; 0 for one that was given no number.

    ``change`` is the canonical text of what is to change (``schemas.changes``), with the ``approvals`` that it has;
    SET_LIMITS always has one, and SET_LEVEL when it loosens. Nothing that loosens is believed because it is said here:
    execution follows the rows, holds the signatures against its own list of people, and says what came of it.
    ``refusal`` is why the control worker would not pass it on as good.
    """

    command_id: str
    author: str
    reason: str
    action: ControlAction
    scope: ScopeKind
    target: str
    level: Level | None = None
    ordinal: int = 0
    change: str = ""
    approvals: tuple[Approval, ...] = ()
    refusal: str | None = None
    model: str = ""
    release_stage: ReleaseStage | None = None
