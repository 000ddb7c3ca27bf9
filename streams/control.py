"""The control worker: rows that people wrote become events, once each and in order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import psycopg

from infra.postgres.commands import read_commands
from infra.postgres.session import KeptSession
from schemas.control import ControlCommand
from schemas.event import Event
from streams.composition import Run, build_stage
from streams.engine.ports import Inlet, StageHosting, StageKind

_POLL_S: Final = 0.1


class CommandReader:
    """Polls the table of commands and injects each row; the stage drops what it has passed on before."""

    def __init__(self, dsn: str) -> None:
        self._database = KeptSession(dsn)
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
        await self._database.close()

    async def _read(self, inlet: Inlet) -> None:
        newest = 0
        while True:
            # While the database is away people cannot write commands either. The shard's own store gives up first.
            with suppress(psycopg.OperationalError):
                for command in await read_commands(await self._database.connection(), newest):
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
        companion=lambda: CommandReader(dsn),
    )
