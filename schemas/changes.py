"""Changes of limits, levels and models that more than one person must want, and what became of them.

A change is data: exactly what is to be different, on top of what. Whoever approves it signs its canonical bytes, so
that nothing of it can be altered afterwards and it cannot be used for anything else.
"""

import enum
import hashlib
from typing import Final

import msgspec

from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.event import Event
from schemas.values import Level

SIGNERS_MIN: Final = 2
"""How many different people must have signed what loosens anything."""
_SIGNED: Final = b"tradermind change 1\n"
_encoder: Final = msgspec.json.Encoder(order="deterministic")


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change.

    SET_LIMITS has ``values``: limit -> its new value as text, "" takes it away. SET_LEVEL has ``level``. RELEASE_MODEL
    has ``values``, too: ``model`` and ``release_stage``; its target is the artefact's sha256.

    ``base`` is what it changes: of limits the version in force, of a level the number of the newest command that its
    author had seen, of a model the stage it is in. Times are ns since 1970 by the run's clock: after ``expires_at_ns``
    it can no more be applied; with ``until_ns`` it is an override, which lapses then. ``nonce`` makes two equal changes
    two.
    """

    action: ControlAction
    scope: ScopeKind
    target: str
    base: str
    owner: str
    reason: str
    proposed_at_ns: int
    expires_at_ns: int
    nonce: str
    values: dict[str, str] = {}
    level: Level | None = None
    until_ns: int | None = None


def canonical_text(change: Change) -> str:
    """Return a change as the one text that stands for it: JSON, fields in their order, mappings sorted."""
    return _encoder.encode(change).decode()


def parsed_change(text: str) -> Change:
    """Return the change that a text stands for. Raises ValueError when it is none, or not its canonical text."""
    try:
        change = msgspec.json.decode(text, type=Change)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"this is no change: {error}") from error
    if canonical_text(change) != text:
        raise ValueError("this is not the canonical text of a change")
    return change


def signed_bytes(text: str) -> bytes:
    """Return the bytes that an approval of the change with this canonical text signs."""
    return _SIGNED + text.encode()


def change_id(text: str) -> str:
    """Return the 32 hex digits that name the change with this canonical text."""
    return hashlib.blake2b(signed_bytes(text), digest_size=16).hexdigest()


class ChangeRefusal(enum.StrEnum):
    """Every reason for which a change is refused. The list is closed."""

    MALFORMED = "MALFORMED"
    NO_ALLOW_LIST = "NO_ALLOW_LIST"
    UNKNOWN_PERSON = "UNKNOWN_PERSON"
    NOT_AUTHORISED = "NOT_AUTHORISED"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    SAME_PERSON = "SAME_PERSON"
    NEEDS_TWO_PEOPLE = "NEEDS_TWO_PEOPLE"
    STALE_BASE = "STALE_BASE"
    EXPIRED = "EXPIRED"
    ALREADY_APPLIED = "ALREADY_APPLIED"
    NOT_A_LIMIT = "NOT_A_LIMIT"
    CHANGES_NOTHING = "CHANGES_NOTHING"
    OVERRIDE_OVER = "OVERRIDE_OVER"
    OVERRIDE_TOO_LONG = "OVERRIDE_TOO_LONG"
    OVERRIDE_LOWERS = "OVERRIDE_LOWERS"
    NOT_EXAMINED = "NOT_EXAMINED"
    NOT_A_STEP = "NOT_A_STEP"
    ARTEFACT_REFUSED = "ARTEFACT_REFUSED"
    GATE_NOT_PASSED = "GATE_NOT_PASSED"


class Examined(Event, frozen=True, kw_only=True, gc=False):
    """A command that carries a change, after the shell has held its signatures against the allow-list.

    It is on no topic, so that nobody can write one: it comes by a stage's own shell, and is journaled. ``change`` is
    None when there is none to read. ``approved_by`` are different people whose signatures are good; with a ``refusal``
    nothing may follow from it.
    """

    command: ControlCommand
    change: Change | None = None
    approved_by: tuple[str, ...] = ()
    refusal: ChangeRefusal | None = None
    detail: str = ""


class OutcomeKind(enum.StrEnum):
    """What became of a change; IN_FORCE tells what holds when execution begins, LAPSED that an override is over."""

    IN_FORCE = "IN_FORCE"
    APPLIED = "APPLIED"
    REFUSED = "REFUSED"
    LAPSED = "LAPSED"


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Values that stand above those of a scope until ``until_ns``, by the run's clock."""

    change_id: str
    scope: str
    values: dict[str, str]
    until_ns: int


class ControlOutcome(Event, frozen=True, kw_only=True, gc=False):
    """What execution, the last gate, has made of a change: the others follow its word. ``key`` is the target.

    ``version`` of the limits is in force after it. When they changed, or are told, ``sets`` is all of them: scope
    (``GLOBAL|*``, ``ACCOUNT|main``, ...) -> limit -> value, below ``overrides``; ``loosens`` names what was raised.
    ``seen_through`` is the number of the newest command that the people who reset a level had seen.
    """

    outcome: OutcomeKind
    command_id: str
    change_id: str
    author: str
    reason: str
    approved_by: tuple[str, ...]
    action: ControlAction
    scope: ScopeKind
    target: str
    level: Level | None = None
    values: dict[str, str] = {}
    loosens: tuple[str, ...] = ()
    base: str = ""
    version: str = ""
    proposed_at_ns: int = 0
    seen_through: int = 0
    until_ns: int | None = None
    refusal: ChangeRefusal | None = None
    detail: str = ""
    sets: dict[str, dict[str, str]] = {}
    overrides: tuple[Override, ...] = ()
