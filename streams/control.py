"""The control worker: rows that people wrote become events, once each and in order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import psycopg

from infra.postgres.commands import StoredCommand, read_commands
from infra.postgres.session import KeptSession
from schemas.control import ControlCommand
from schemas.event import Event
from streams.composition import Run, build_stage
from streams.engine.ports import Inlet, StageHosting, StageKind

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


class CommandReader:
    """Polls the commands and injects each; the stage drops what it has passed on before."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._task: asyncio.Task[None] | None = None

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Begin reading from the first row: the stage's memory, not ours, says what is new."""
        del epoch
        self._task = asyncio.ensure_future(self._read(inlet))

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Do nothing: commands ask the venue for nothing by themselves."""
        del requests, origins

    def reached(self, now_ns: int) -> None:
        """Do nothing: commands have no clock."""
        del now_ns

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._commands.close()

    async def _read(self, inlet: Inlet) -> None:
        newest = 0
        while True:
            # While the database is away people cannot write commands either. The shard's own store gives up first.
            with suppress(psycopg.OperationalError):
                for command in await self._commands.after(newest):
                    await inlet.inject(command.event)
                    newest = command.ordinal
            await asyncio.sleep(_POLL_S)


def hosting(run: Run, dsn: str) -> StageHosting:
    """Return how a worker hosts the control stage: a shard without topics that lives on rows."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "control"),
        name="control",
        topics=(),
        kind=StageKind.OUTBOX,
        event_types=(ControlCommand,),
        companion=lambda: CommandReader(PostgresCommands(dsn)),
    )
