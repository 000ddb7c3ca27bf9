"""Turns the commands of people into events, once each and in the order they were given.

A command is a row in Postgres with an id and an author. The shell journals each row as an input; this stage forgets
none and repeats none, so that a re-read after a crash changes nothing.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agents.stage import NO_EVENTS, ShardState
from schemas.changes import ChangeRefusal, Examined, change_id
from schemas.control import ControlAction, ControlCommand
from schemas.event import Event
from schemas.feedback import ModelRelease

_KEY: Final = "commands"
_REMEMBERED_MAX: Final = 10_000


class CommandsSeen(msgspec.Struct):
    """The ids of the newest commands, oldest first, bounded: a row is re-read at most from the last checkpoint.

    ``releases`` are the ids of changes that released a model: people's signatures are good for one release.
    """

    ids: list[str]
    releases: list[str] = []


class Control:
    """The control stage: ControlCommand rows in; ControlCommand events out, and the ModelRelease that one orders."""

    name: str = "control"

    def state_type(self, key: str) -> type:
        """Return the type of the one key that this stage keeps."""
        assert key == _KEY, key
        return CommandsSeen

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Pass a command on unless it was passed on before; everything else says nothing here.

        A change whose signatures were found wanting is passed on as refused, so that everybody hears of the attempt.
        A model is released only when the shell has examined whether it may be.
        """
        examined = event if isinstance(event, Examined) else None
        command = event if examined is None else examined.command
        if not isinstance(command, ControlCommand):
            return state, NO_EVENTS
        seen: CommandsSeen = state.get(_KEY) or CommandsSeen([])
        if command.command_id in seen.ids:
            return state, NO_EVENTS
        seen.ids.append(command.command_id)
        del seen.ids[:-_REMEMBERED_MAX]
        refusal: str | None = None if examined is None else examined.refusal
        released: Sequence[Event] = NO_EVENTS
        if command.action is ControlAction.RELEASE_MODEL:
            refusal = _refused_release(seen, examined)
            released = NO_EVENTS if refusal is not None else (_release(command),)
        state[_KEY] = seen
        unmarked = {"event_id": "", "cause_id": "", "source": "", "generation": 0, "seq": 0}
        return state, (msgspec.structs.replace(command, refusal=refusal, **unmarked), *released)


def _refused_release(seen: CommandsSeen, examined: Examined | None) -> ChangeRefusal | None:
    """Return why a model is not released; a change that releases one is remembered."""
    if examined is None:
        return ChangeRefusal.NOT_EXAMINED
    if examined.refusal is None and examined.command.change:
        name = change_id(examined.command.change)
        if name in seen.releases:
            return ChangeRefusal.ALREADY_APPLIED
        seen.releases.append(name)
        del seen.releases[:-_REMEMBERED_MAX]
    return examined.refusal


def _release(command: ControlCommand) -> ModelRelease:
    assert command.release_stage is not None, "the shell has examined it"
    return ModelRelease(
        key=command.model,
        event_time_ns=command.event_time_ns,
        available_at_ns=command.available_at_ns,
        model=command.model,
        sha256=command.target,
        release_stage=command.release_stage,
        reason=command.reason,
        author=command.author,
    )
