"""Whether a command's change is what it says, and who has signed it: looked at where the allow-list is mounted.

The answer enters the stage as an input of its own (``Examined``), which is journaled; so the stage stays pure, and a
recomputation needs neither the list nor the keys.
"""

from typing import Final

from infra.people import PeopleUnusable, ReadPeople
from schemas.changes import Change, ChangeRefusal, Examined, parsed_change
from schemas.control import Approval, ControlAction, ControlCommand
from schemas.event import Event, derive_id

_TEXT_MAX: Final = 65_536
_APPROVALS_MAX: Final = 16


class Unsigned(Exception):
    """An approval, or a change, that does not count: the closed reason, and a detail for people."""

    def __init__(self, refusal: ChangeRefusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail


def examine(people: ReadPeople | None, command: ControlCommand) -> Event:
    """Return what a stage is to be given for a command from the rows: itself, or what was found of its change.

    The list is read each time, so that who is taken off it counts no more from then on.
    """
    if not command.change and command.action is not ControlAction.SET_LIMITS:
        return command
    change: Change | None = None
    try:
        change = change_of(command)
        approved_by = signers(people, command.change, command.approvals)
    except Unsigned as unsigned:
        return examined(command, change, refusal=unsigned.refusal, detail=unsigned.detail)
    return examined(command, change, approved_by)


def change_of(command: ControlCommand) -> Change:
    """Return the change that a command carries. Raises Unsigned (MALFORMED)."""
    if len(command.change) > _TEXT_MAX or len(command.approvals) > _APPROVALS_MAX:
        raise Unsigned(ChangeRefusal.MALFORMED, "the change is too long, or has too many approvals")
    try:
        change = parsed_change(command.change)
    except ValueError as error:
        raise Unsigned(ChangeRefusal.MALFORMED, str(error)) from error
    if flaw := flaw_of(change):
        raise Unsigned(ChangeRefusal.MALFORMED, flaw)
    said = (command.action, command.scope, command.target, command.level, command.author, command.reason)
    if said != (change.action, change.scope, change.target, change.level, change.owner, change.reason):
        raise Unsigned(ChangeRefusal.MALFORMED, "the command does not say what its change says")
    if change.action is ControlAction.RELEASE_MODEL and change.values != released(command):
        raise Unsigned(ChangeRefusal.MALFORMED, "the command does not say what its change says")
    return change


def released(command: ControlCommand) -> dict[str, str]:
    """Return what a change that releases a model says of it in its values."""
    return {"model": command.model, "release_stage": command.release_stage or ""}


def flaw_of(change: Change) -> str:
    """Return why this is no change, or nothing."""
    if not change.owner.strip() or not change.reason.strip():
        return "A change needs an owner and a reason."
    if change.action is ControlAction.SET_LEVEL:
        complete = change.level is not None and not change.values and change.until_ns is None
        return (
            "" if complete and change.base.isdecimal() else "A change of level has a level, a base, and nothing else."
        )
    if change.action is ControlAction.SET_LIMITS:
        return "" if change.values and change.level is None else "A change of limits has values and no level."
    if change.action is ControlAction.RELEASE_MODEL:
        complete = (
            change.values.keys() == {"model", "release_stage"} and change.level is None and change.until_ns is None
        )
        return "" if complete else "A release has a model and a stage, and nothing else."
    return f"{change.action} is not changed by agreement."


def signers(read_people: ReadPeople | None, text: str, approvals: tuple[Approval, ...]) -> tuple[str, ...]:
    """Return who has signed a canonical text, each person once. Raises Unsigned for the first that does not count."""
    if not approvals:
        return ()
    if read_people is None:
        raise Unsigned(ChangeRefusal.NO_ALLOW_LIST, "people.allow_list_file is not set")
    try:
        people = read_people()
    except PeopleUnusable as error:
        raise Unsigned(ChangeRefusal.NO_ALLOW_LIST, str(error)) from error
    found: list[str] = []
    for approval in approvals:
        person = people.get(approval.person)
        if person is None:
            raise Unsigned(ChangeRefusal.UNKNOWN_PERSON, f"{approval.person[:80]!r} is not on the list of people")
        if not person.may_sign:
            raise Unsigned(ChangeRefusal.NOT_AUTHORISED, f"{person.name} has the role {person.role}")
        if not person.signed(text, approval.signature):
            raise Unsigned(ChangeRefusal.BAD_SIGNATURE, f"this is not {person.name}'s signature of this change")
        if person.name in found:
            raise Unsigned(ChangeRefusal.SAME_PERSON, f"{person.name} has signed it twice")
        found.append(person.name)
    return tuple(sorted(found))


def examined(
    command: ControlCommand,
    change: Change | None = None,
    approved_by: tuple[str, ...] = (),
    *,
    refusal: ChangeRefusal | None = None,
    detail: str = "",
) -> Examined:
    """Return what was found of a command, as the input of a stage: one for each command, whoever looked at it."""
    return Examined(
        key=command.key,
        event_time_ns=command.event_time_ns,
        available_at_ns=command.available_at_ns,
        event_id=derive_id(command.event_id, "examined", 0),
        command=command,
        change=change,
        approved_by=approved_by,
        refusal=refusal,
        detail=detail,
    )
