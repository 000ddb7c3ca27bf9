"""What people order, as whoever must obey it follows it: rows in Postgres, in the order in which they were given.

The control worker passes them on by Kafka. Execution follows them itself as well: a kill must not wait for a broker.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import psycopg

from infra.examination import examine
from infra.people import ReadPeople
from infra.postgres.commands import StoredCommand, read_commands
from infra.postgres.session import KeptSession
from schemas.event import Event

_POLL_S: Final = 0.1


class Commands(Protocol):
    """Where people's commands lie, in the order in which they were given."""

    async def after(self, ordinal: int) -> Sequence[StoredCommand]:
        """Return commands above ``ordinal``, in order. Raises psycopg.OperationalError."""

    async def close(self) -> None:
        """Let go of it."""


class PostgresCommands:
    """The rows in the platform's database."""

    def __init__(self, dsn: str) -> None:
        self._database = KeptSession(dsn)

    async def after(self, ordinal: int) -> Sequence[StoredCommand]:
        """Return the next rows."""
        return await read_commands(await self._database.connection(), ordinal)

    async def close(self) -> None:
        """Give the session back."""
        await self._database.close()


async def follow_commands(
    commands: Commands, people: ReadPeople | None, obey: Callable[[Event], Awaitable[None]]
) -> None:
    """Give every command to ``obey``, from the first row on, for ever: a stage's memory, not ours, says what is new.

    What a command wants to change is examined before, against this worker's own list of people: a row proves nothing.
    """
    newest = 0
    while True:
        # While the database is away people cannot write commands either. The shard's own store gives up first.
        with suppress(psycopg.OperationalError):
            for command in await commands.after(newest):
                await obey(examine(people, command.event))
                newest = command.ordinal
        await asyncio.sleep(_POLL_S)
