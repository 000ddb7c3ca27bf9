"""The control worker: rows that people wrote become events, once each and in order."""

import asyncio
from collections.abc import Sequence

from infra.models.store import store_of
from infra.people import ReadPeople, reader_of
from schemas.changes import Examined
from schemas.control import ControlCommand
from schemas.event import Event
from streams.commands import Commands, PostgresCommands, follow_commands
from streams.composition import Run, build_stage
from streams.engine.ports import Inlet, StageHosting, StageKind
from streams.model_alarm import alarm_of
from streams.release_desk import ReleaseDesk


class CommandReader:
    """Polls the commands, examines and injects each; the stage drops what it has passed on before.

    Without a desk no command releases a model.
    """

    def __init__(self, commands: Commands, people: ReadPeople | None = None, desk: ReleaseDesk | None = None) -> None:
        self._commands = commands
        self._desk = desk
        self._people = people
        self._task: asyncio.Task[None] | None = None

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Begin."""
        del epoch

        async def obey(event: Event) -> None:
            await inlet.inject(event if self._desk is None else await self._desk.examined(event))

        self._task = asyncio.ensure_future(follow_commands(self._commands, self._people, obey))

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


def hosting(run: Run, dsn: str) -> StageHosting:
    """Return how a worker hosts the control stage: a shard without topics that lives on rows."""
    people = reader_of(run.settings.people.allow_list_file)
    desk = ReleaseDesk(dsn, run.settings, store_of(run.settings, alarm_of(dsn, "control")))
    return StageHosting(
        make_stage=lambda: build_stage(run, "control"),
        name="control",
        topics=(),
        kind=StageKind.OUTBOX,
        event_types=(ControlCommand, Examined),
        companion=lambda: CommandReader(PostgresCommands(dsn), people, desk),
    )
