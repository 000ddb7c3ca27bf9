"""Turns the commands of people into events, once each and in the order they were given.

A command is a row in Postgres with an id and an author. The shell journals each row as an input; this stage forgets
none and repeats none, so that a re-read after a crash changes nothing.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agents.stage import NO_EVENTS, ShardState
from schemas.changes import Examined
from schemas.control import ControlCommand
from schemas.event import Event

_KEY: Final = "commands"
_REMEMBERED_MAX: Final = 10_000


class CommandsSeen(msgspec.Struct):
    """The ids of the newest commands, oldest first, bounded: a row is re-read at most from the last checkpoint."""

    ids: list[str]


class Control:
    """The control stage: ControlCommand rows in, ControlCommand events out."""

    name: str = "control"

    def state_type(self, key: str) -> type:
        """Return the type of the one key that this stage keeps."""
        assert key == _KEY, key
        return CommandsSeen

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Pass a command on unless it was passed on before; everything else says nothing here.

        A change whose signatures were found wanting is passed on as refused, so that everybody hears of the attempt.
        """
        refusal: str | None = None
        if isinstance(event, Examined):
            event, refusal = event.command, event.refusal
        if not isinstance(event, ControlCommand):
            return state, NO_EVENTS
        seen: CommandsSeen = state.get(_KEY) or CommandsSeen([])
        if event.command_id in seen.ids:
            return state, NO_EVENTS
        seen.ids.append(event.command_id)
        del seen.ids[:-_REMEMBERED_MAX]
        state[_KEY] = seen
        unmarked = {"event_id": "", "cause_id": "", "source": "", "generation": 0, "seq": 0}
        passed_on = msgspec.structs.replace(event, refusal=refusal, **unmarked)
        return state, (passed_on,)
