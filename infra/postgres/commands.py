"""What people order: rows in Postgres, which the control worker reads in the order in which they were committed.

A row is the command's only home until the control worker has journaled it: whoever inserted it has ordered it,
whether or not a broker was reachable then.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from schemas.control import Approval, ControlAction, ControlCommand, ScopeKind
from schemas.feedback import ReleaseStage
from schemas.values import Level

ALL = "*"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INSERT = (
    "INSERT INTO commands (command_id, author, reason, action, scope, target, level, change, approvals,"
    " model, release_stage)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (command_id) DO NOTHING RETURNING ordinal"
)
_READ = (
    "SELECT ordinal, command_id, author, reason, action, scope, target, level, created_at_ns, change, approvals,"
    " model, release_stage"
    " FROM commands"
    " WHERE ordinal > %s ORDER BY ordinal LIMIT %s"
)
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('commands'))"


@dataclass(frozen=True, slots=True)
class Command:
    """What a person orders. ``target`` names the account, strategy, instrument or order; ``*`` is all of them.

    ``change`` is the canonical text of what is to change, and ``approvals`` are the signatures of it. RELEASE_MODEL
    has a ``model``, the sha256 of its artefact as its target, and the ``release_stage`` it is to be in.
    """

    author: str
    reason: str
    action: ControlAction
    scope: ScopeKind = ScopeKind.GLOBAL
    target: str = ALL
    level: Level | None = None
    change: str = ""
    approvals: tuple[Approval, ...] = ()
    model: str = ""
    release_stage: ReleaseStage | None = None

    def flaw(self) -> str:
        """Return why this is no command, in one sentence, or nothing."""
        if not self.author.strip() or not self.reason.strip():
            return "A command needs an author and a reason."
        if (self.action is ControlAction.SET_LEVEL) != (self.level is not None):
            return "SET_LEVEL needs a level, and no other action has one."
        if self.action is ControlAction.SET_LIMITS and not self.change:
            return "SET_LIMITS needs a change."
        if flaw := self._release_flaw():
            return flaw
        named = self.action in (ControlAction.CANCEL, ControlAction.RELEASE_MODEL)
        if self.scope is ScopeKind.GLOBAL and not named and self.target != ALL:
            return f"A global {self.action} has the target '*', not {self.target!r}."
        if self.scope is not ScopeKind.GLOBAL and self.target == ALL:
            return f"{self.scope} needs a target of its own, not '*'."
        return ""

    def _release_flaw(self) -> str:
        if self.action is not ControlAction.RELEASE_MODEL:
            return "" if self.release_stage is None and not self.model else "Only RELEASE_MODEL names a model."
        if self.scope is not ScopeKind.GLOBAL or not _SHA256.fullmatch(self.target) or not self.model:
            return "RELEASE_MODEL names a model and the sha256 of its artefact."
        if self.release_stage in (None, ReleaseStage.CANDIDATE):
            return "A model is released into SHADOW, CANARY or CHAMPION, or RETIRED."
        return ""


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command as it lies in Postgres. ``ordinal`` rises in the order of the commits."""

    ordinal: int
    event: ControlCommand


def insert_command(dsn: str, command: Command, command_id: str | None = None) -> str:
    """Store a command and return its id; the same id again changes nothing.

    Raises ValueError for what is no command, and psycopg.Error.
    """
    if flaw := command.flaw():
        raise ValueError(flaw)
    name = command_id or uuid.uuid4().hex
    approvals = Jsonb(msgspec.to_builtins(command.approvals))
    values = (name, command.author, command.reason, command.action, command.scope, command.target, command.level)
    with psycopg.connect(dsn) as connection:
        # Numbers are given out before the commit; the lock makes their order the order of the commits, so that a
        # reader who has seen a number will never meet a smaller one.
        connection.execute(_LOCK)
        connection.execute(_INSERT, (*values, command.change, approvals, command.model, command.release_stage))
    return name


async def read_commands(
    connection: psycopg.AsyncConnection[Any], after: int = 0, limit: int = 100
) -> Sequence[StoredCommand]:
    """Return the commands whose ordinal is above ``after``, in order, ready to be given to the control stage.

    Their ``event_id`` is the command's id, so that reading one twice gives the same input twice.
    """
    found = await connection.execute(_READ, (after, limit))
    return [_stored(row) for row in await found.fetchall()]


def recent_commands(dsn: str, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest commands, newest first, for whoever asks what was ordered."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT command_id, author, reason, action, scope, target, level, created_at FROM commands"
            " ORDER BY ordinal DESC LIMIT %s",
            (limit,),
        )
        names = [column.name for column in found.description or ()]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in found.fetchall()]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _approvals(content: Any) -> tuple[Approval, ...]:
    try:
        return msgspec.convert(content, tuple[Approval, ...])
    except msgspec.ValidationError:
        return ()  # Whoever wrote this has approved nothing, and what needs approvals will be refused.


def _stored(row: tuple[Any, ...]) -> StoredCommand:
    ordinal, command_id, author, reason, action, scope, target, level, created_at_ns, change, approvals, *release = row
    model, release_stage = release
    event = ControlCommand(
        key=command_id,
        event_time_ns=created_at_ns,
        available_at_ns=created_at_ns,
        event_id=command_id,
        command_id=command_id,
        author=author,
        reason=reason,
        action=ControlAction(action),
        scope=ScopeKind(scope),
        target=target,
        level=None if level is None else Level(level),
        ordinal=ordinal,
        change=change,
        approvals=_approvals(approvals),
        model=model,
        release_stage=None if release_stage is None else ReleaseStage(release_stage),
    )
    return StoredCommand(ordinal, event)
