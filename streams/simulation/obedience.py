"""Whether what people ordered was done: each command once and in order, and no order after a kill."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from schemas.changes import Examined
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.orders import SubmitRequested
from schemas.topics import CONTROL
from schemas.values import Level
from streams.simulation.taken import TakenLanes
from streams.simulation.violations import Violation, shortened

_EVERYWHERE: Final = "*"
_SEVERITY: Final = {Level.ACTIVE: 0, Level.REDUCING: 1, Level.HALTED: 2}


def obedience_violations(taken: TakenLanes, commands: Mapping[str, ControlCommand]) -> Iterator[Violation]:
    """Yield what is wrong between the rows that people wrote and the topic of commands."""
    given = list(commands)
    heard = [event.command_id for event in taken.of(CONTROL.name) if isinstance(event, ControlCommand)]
    if given != heard:
        yield Violation("a command is passed on once, in order", CONTROL.name, shortened(given), shortened(heard))


def kill_violations(story: Sequence[ControlCommand | Examined | SubmitRequested]) -> Iterator[Violation]:
    """Yield each order that execution asked the venue for while its account or instrument, or everything, was HALTED.

    Levels are kept here anew, from the commands alone. A command that comes a second time, by Kafka, says nothing; what
    loosens counts when two have signed it after they had seen the newest command to that scope.
    """
    levels: dict[tuple[ScopeKind, str], Level] = {}
    set_by: dict[tuple[ScopeKind, str], int] = {}
    newest = reset = 0
    for event in story:
        if isinstance(event, Examined):
            command, scope = event.command, (event.command.scope, event.command.target)
            if command.ordinal > reset and event.change is not None and event.change.level is not None:
                reset = command.ordinal
                if len(event.approved_by) > 1 and set_by.get(scope, 0) <= int(event.change.base):
                    levels[scope], set_by[scope] = event.change.level, command.ordinal
            continue
        if isinstance(event, ControlCommand):
            if event.ordinal <= newest or event.change:
                continue
            newest = event.ordinal
            if event.action is ControlAction.SET_LEVEL and event.level is not None:
                scope = event.scope, event.target
                if _SEVERITY[event.level] >= _SEVERITY[levels.get(scope, Level.ACTIVE)]:
                    levels[scope], set_by[scope] = event.level, event.ordinal
            continue
        scopes = (
            (ScopeKind.GLOBAL, _EVERYWHERE),
            (ScopeKind.ACCOUNT, event.key),
            (ScopeKind.INSTRUMENT, event.instrument),
        )
        halted = [scope for scope in scopes if levels.get(scope) is Level.HALTED]
        if halted:
            yield Violation("after a kill no order leaves", event.order_id, "no request", f"HALTED at {halted[0]}")
