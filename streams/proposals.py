"""How a change goes from a person's wish to a command: proposed, approved by keys, applied, and heard of.

Nothing here decides: execution does, from the row that ``apply`` writes. What is refused here is refused early, so that
nobody signs what could not be.
"""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.limits.book import lapsed
from agents.limits.changes import Decided, decide
from infra.examination import Unsigned, signers
from infra.people import PersonalKey, reader_of
from infra.postgres.changes import (
    StoredChange,
    approvals_of,
    find_changes,
    insert_approval,
    insert_proposal,
    newest_command,
    outcome_of,
)
from infra.postgres.commands import Command, insert_command
from infra.postgres.queries import NotInRecord, RecordUnreachable
from infra.settings import Settings, SettingsError
from schemas.changes import SIGNERS_MIN, Change, ChangeRefusal, Examined, parsed_change
from schemas.control import Approval, ControlAction, ControlCommand, ScopeKind
from schemas.feedback import ReleaseStage
from schemas.values import Level
from streams.given_times import iso_ns, span_ns
from streams.standing import Standing, effective_limits, now_ns, read_standing

RESET_VALID_FOR: Final = "1h"
_POLL_S: Final = 0.1
_WHY: Final = {
    ChangeRefusal.MALFORMED: "it is not a change that can be read",
    ChangeRefusal.NO_ALLOW_LIST: "nobody may sign here: people.allow_list_file names no list that can be read",
    ChangeRefusal.UNKNOWN_PERSON: "somebody who signed it is not on the list of people",
    ChangeRefusal.NOT_AUTHORISED: "somebody who signed it may not sign",
    ChangeRefusal.BAD_SIGNATURE: "a signature is not of this change",
    ChangeRefusal.SAME_PERSON: "one person cannot sign twice",
    ChangeRefusal.NEEDS_TWO_PEOPLE: "it loosens, and needs two people's signatures",
    ChangeRefusal.STALE_BASE: "something else was changed since it was proposed: propose it anew",
    ChangeRefusal.EXPIRED: "its time is over: propose it anew",
    ChangeRefusal.ALREADY_APPLIED: "it was applied before",
    ChangeRefusal.NOT_A_LIMIT: "it names something that is no limit",
    ChangeRefusal.CHANGES_NOTHING: "it would change nothing",
    ChangeRefusal.OVERRIDE_OVER: "the override would be over already",
    ChangeRefusal.OVERRIDE_TOO_LONG: "the override would last too long",
    ChangeRefusal.OVERRIDE_LOWERS: "an override only raises, since its end would raise what it had lowered",
    ChangeRefusal.NOT_EXAMINED: "no control worker has examined it",
    ChangeRefusal.NOT_A_STEP: "a model goes one step at a time: candidate, shadow, canary, champion",
    ChangeRefusal.ARTEFACT_REFUSED: "its artefact is not one that may be loaded",
    ChangeRefusal.GATE_NOT_PASSED: "its paper result does not pass the gate",
}
assert set(_WHY) == set(ChangeRefusal)


@dataclass(frozen=True, slots=True)
class Place:
    """Where changes are made: the database, the settings of the run, and how limits and levels stand."""

    dsn: str
    settings: Settings
    standing: Standing

    @property
    def now_ns(self) -> int:
        """The time by the run's clock."""
        return now_ns(self.settings, self.standing)


def place_of(dsn: str, settings: Settings) -> Place:
    """Return where changes are made. Raises RecordUnreachable before execution has begun for the first time."""
    standing = read_standing(dsn)
    if standing is None:
        raise RecordUnreachable("No execution worker has begun on this database: nothing is in force yet.")
    return Place(dsn, settings, standing)


def propose(place: Place, change: Change) -> tuple[str, tuple[str, ...]]:
    """Store a change; return its id and what it loosens. Raises NotInRecord for what would be refused anyhow.

    Raises SettingsError where it loosens and nobody may sign.
    """
    decided = foreseen(place, change, ())
    if decided.refusal not in (None, ChangeRefusal.NEEDS_TWO_PEOPLE):
        raise NotInRecord(sentence_of(decided.refusal, decided.detail))
    loosens = decided.loosens if decided.refusal is None else tuple(decided.detail.split(", "))
    if decided.refusal is not None and place.settings.people.allow_list_file is None:
        raise SettingsError(
            f"This loosens {', '.join(loosens)} and needs two people's signatures, but nobody may sign here:"
            " set people.allow_list_file."
        )
    return insert_proposal(place.dsn, change), loosens if decided.refusal is not None else ()


def level_change(place: Place, scope: tuple[ScopeKind, str], level: Level, owner: str, reason: str) -> Change:
    """Return the change that sets a scope's level, by somebody who has seen every command until now."""
    if not owner.strip() or not reason.strip():
        raise NotInRecord("A change needs an owner and a reason.")
    return Change(
        action=ControlAction.SET_LEVEL,
        scope=scope[0],
        target=scope[1],
        base=str(newest_command(place.dsn)),
        owner=owner,
        reason=reason,
        proposed_at_ns=place.now_ns,
        expires_at_ns=later(RESET_VALID_FOR, place.now_ns),
        nonce=nonce(),
        level=level,
    )


def foreseen(place: Place, change: Change, approved_by: tuple[str, ...]) -> Decided:
    """Return what who decides would make of a change now: execution, and of a model the control worker."""
    if change.action is ControlAction.RELEASE_MODEL:
        over = time.time_ns() > change.expires_at_ns
        return Decided(refusal=ChangeRefusal.EXPIRED if over else ChangeRefusal.NEEDS_TWO_PEOPLE)
    command = _command_event(change)
    examined = Examined(
        key="", event_time_ns=0, available_at_ns=0, command=command, change=change, approved_by=approved_by
    )
    level = place.standing.level_of(change.scope, change.target)
    limits = effective_limits(place.settings, place.standing)
    book = lapsed(place.standing.book, place.now_ns)
    return decide(book, limits, examined, level, place.now_ns)


def _command_event(change: Change) -> ControlCommand:
    return ControlCommand(
        key="",
        event_time_ns=0,
        available_at_ns=0,
        command_id="",
        author=change.owner,
        reason=change.reason,
        action=change.action,
        scope=change.scope,
        target=change.target,
        level=change.level,
    )


def known_change(dsn: str, prefix: str) -> StoredChange:
    """Return the one proposal whose id begins like this. Raises NotInRecord."""
    found = find_changes(dsn, prefix) if prefix else []
    if len(found) != 1:
        which = "more than one change has" if found else "no change has"
        raise NotInRecord(f"{which.capitalize()} an id that begins with {prefix!r}; `tradermind change ls` lists them.")
    return found[0]


def approve(place: Place, stored: StoredChange, key: PersonalKey) -> tuple[str, ...]:
    """Sign a change for a person; return who has signed it now. A refused attempt is kept, too. Raises NotInRecord."""
    approval = Approval(person=key.name, signature=key.sign(stored.text))
    change = parsed_change(stored.text)
    try:
        people = reader_of(place.settings.people.allow_list_file)
        approved_by = signers(people, stored.text, (*approvals_of(place.dsn, stored.change_id), approval))
        decided = foreseen(place, change, ())
        if decided.refusal not in (None, ChangeRefusal.NEEDS_TWO_PEOPLE):
            raise Unsigned(decided.refusal, decided.detail)
    except Unsigned as unsigned:
        insert_approval(place.dsn, stored.change_id, approval, unsigned.refusal)
        raise NotInRecord(sentence_of(unsigned.refusal, unsigned.detail)) from unsigned
    insert_approval(place.dsn, stored.change_id, approval, None)
    return approved_by


def apply(dsn: str, stored: StoredChange) -> str:
    """Order a change with the approvals that it has; return the command's id."""
    change = parsed_change(stored.text)
    is_release = change.action is ControlAction.RELEASE_MODEL
    command = Command(
        author=change.owner,
        reason=change.reason,
        action=change.action,
        scope=change.scope,
        target=change.target,
        level=change.level,
        change=stored.text,
        approvals=approvals_of(dsn, stored.change_id),
        model=change.values.get("model", "") if is_release else "",
        release_stage=ReleaseStage(change.values.get("release_stage", "")) if is_release else None,
    )
    return insert_command(dsn, command)


def await_outcome(dsn: str, command_id: str, wait_s: float) -> dict[str, Any] | None:
    """Return what execution made of a command's change, or None when nothing was heard in time."""
    deadline = time.monotonic() + wait_s
    while True:
        found = outcome_of(dsn, command_id)
        if found is not None or time.monotonic() >= deadline:
            return found
        time.sleep(_POLL_S)


def sentence_of(refusal: str | None, detail: str) -> str:
    """Return why a change is refused, in one sentence that begins with the closed reason."""
    assert refusal is not None
    told = f" ({detail.rstrip('.')})" if detail else ""
    return f"Refused: {refusal}, {_WHY[ChangeRefusal(refusal)]}{told}."


def missing(approved_by: tuple[str, ...]) -> int:
    """Return how many people must still sign what loosens."""
    return max(0, SIGNERS_MIN - len(approved_by))


def later(given: str, from_ns: int) -> int:
    """Return a point in time in ns: an ISO time, UTC unless it says otherwise, or so long from now (``30m``)."""
    if (ahead_ns := span_ns(given)) is not None:
        return from_ns + ahead_ns
    try:
        return iso_ns(given)
    except ValueError:
        raise NotInRecord(f"{given!r} is no time: write it as 2026-11-21T15:00, or as 30m for half an hour.") from None


def nonce() -> str:
    """Return what makes a change different from an equal one."""
    return secrets.token_hex(8)


def key_file(path: Path) -> Path:
    """Return the path of a person's key, which must be there. Raises SettingsError."""
    if not path.exists():
        raise SettingsError(f"There is no key {path}: `tradermind person new-key {path} --name NAME` makes one.")
    return path
