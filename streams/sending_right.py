"""Whether the sender may still send: the shard was ours a moment ago, and nobody has halted what it is about to do.

The executor reads people's commands from Postgres ten times a second; with each reading it reads the epoch of its
shard. What it knows by them is as old as the beginning of the newest reading that was answered, and an order leaves
only while that is younger than ``AGE_MAX_S``. So no order costs a question of its own, a kill is obeyed at the socket
itself, and an executor that cannot hear of kills sends nothing at all (ADR 14).
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from infra.postgres.checkpoints import read_epoch
from infra.postgres.commands import StoredCommand
from infra.postgres.session import KeptSession
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.decisions import DenyReason
from schemas.orders import AmendRequested, SubmitRequested
from schemas.values import Level
from streams.commands import Commands

AGE_MAX_S: Final = 0.5
"""With a reading every 0.1 s, so long after a kill's commit an order may leave at the most."""
_EVERYTHING: Final = "*"
_DENIED_BY: Final = {Level.HALTED: DenyReason.KILLED, Level.REDUCING: DenyReason.REDUCE_ONLY}


def _reduces(request: SubmitRequested | AmendRequested) -> bool:
    return isinstance(request, SubmitRequested) and request.reduce_only


class Claims(Protocol):
    """Where it is written who holds the shard."""

    async def newest_epoch(self) -> int:
        """Return the epoch of the newest claim. Raises psycopg.OperationalError."""

    async def close(self) -> None:
        """Let go of it."""


class PostgresClaims:
    """The claim of one shard, in the platform's database."""

    def __init__(self, dsn: str, stage: str, shard: str) -> None:
        self._database = KeptSession(dsn)
        self._place = (stage, shard)

    async def newest_epoch(self) -> int:
        """Return the epoch in the shard's row."""
        return await read_epoch(await self._database.connection(), *self._place)

    async def close(self) -> None:
        """Give the session back."""
        await self._database.close()


class Refusal(NamedTuple):
    """Why an order is kept back."""

    reason: DenyReason
    text: str


class SendingRight:
    """What the sender knows of its claim and of people's commands. It is where the executor reads commands from.

    ``held_epoch`` is set once the shard has been claimed; until then nothing may be sent.
    """

    def __init__(self, commands: Commands, claims: Claims) -> None:
        self._commands = commands
        self._claims = claims
        self.held_epoch = 0
        self._newest_epoch = 0
        self._known_at_s = float("-inf")
        self._halts: dict[tuple[ScopeKind, str], tuple[int, Level]] = {}
        self.readings = 0

    async def after(self, ordinal: int) -> Sequence[StoredCommand]:
        """Return the commands above ``ordinal``, and take note of them. Raises psycopg.OperationalError."""
        began_s = asyncio.get_running_loop().time()
        self._newest_epoch = max(self._newest_epoch, await self._claims.newest_epoch())
        found = await self._commands.after(ordinal)
        for command in found:
            if isinstance(command.event, ControlCommand):
                self._note(command.event)
        self.readings += 1
        if not found:
            # Only now is there nothing further that had been ordered when the reading began.
            self._known_at_s = began_s
        return found

    async def close(self) -> None:
        """Let go of both."""
        await self._commands.close()
        await self._claims.close()

    @property
    def lost(self) -> bool:
        """Whether somebody else holds the shard."""
        return self._newest_epoch > self.held_epoch

    def fresh(self) -> bool:
        """Whether what is known is new enough to send by."""
        age_s = asyncio.get_running_loop().time() - self._known_at_s
        return age_s <= AGE_MAX_S and self.held_epoch == self._newest_epoch

    def refusal(self, request: SubmitRequested | AmendRequested) -> Refusal | None:
        """Return why an order must not leave whatever time it is: the shard is lost, or it was halted since."""
        if self.lost:
            return Refusal(DenyReason.NOT_SENT_IN_TIME, f"epoch {self._newest_epoch} holds the shard now")
        scopes = (
            (ScopeKind.GLOBAL, _EVERYTHING),
            (ScopeKind.ACCOUNT, request.key),
            (ScopeKind.STRATEGY, request.strategy),
            (ScopeKind.INSTRUMENT, request.instrument),
        )
        for scope in scopes:
            number, level = self._halts.get(scope, (0, Level.ACTIVE))
            if number > request.commands_through and not (level is Level.REDUCING and _reduces(request)):
                return Refusal(_DENIED_BY[level], f"{level} by command {number}, which came after it was decided")
        return None

    def _note(self, command: ControlCommand) -> None:
        level = command.level
        if command.change or command.action is not ControlAction.SET_LEVEL or level is None or level is Level.ACTIVE:
            return
        target = _EVERYTHING if command.scope is ScopeKind.GLOBAL else command.target
        number, _ = self._halts.get((command.scope, target), (0, level))
        if command.ordinal > number:
            self._halts[command.scope, target] = (command.ordinal, level)
