"""How a person's release of a model goes out: as a command at once, or as a change that two people must sign."""

import time
from typing import Any, Final, NamedTuple

import psycopg
import typer

from infra.postgres.changes import insert_proposal
from infra.postgres.commands import Command, insert_command
from infra.postgres.queries import NotInRecord, RecordUnreachable
from infra.settings import Settings, SettingsError
from schemas.changes import Change
from schemas.control import ControlAction, ScopeKind
from schemas.feedback import ReleaseStage
from schemas.values import NS_PER_S
from streams.cli_change import say_proposed
from streams.cli_record import print_json
from streams.proposals import nonce, sentence_of

OVERRIDE_LIFE_NS: Final = 3_600 * NS_PER_S
_POLL_S: Final = 0.1
_HEARD: Final = "SELECT refusal FROM command_events WHERE command_id = %s"
_SHORT: Final = 12


class Release(NamedTuple):
    """What a person orders: a model, the sha256 of its artefact, where it is to be, by whom and why."""

    model: str
    sha256: str
    stage: ReleaseStage
    author: str
    reason: str


def order_release(dsn: str, release: Release, wait_s: float, *, as_json: bool, said: str = "") -> None:
    """Order a release and say what the control worker made of it. Raises NotInRecord when it refuses it.

    Raises RecordUnreachable when nobody has heard of it in time.
    """
    command = Command(
        author=release.author,
        reason=release.reason,
        action=ControlAction.RELEASE_MODEL,
        target=release.sha256,
        model=release.model,
        release_stage=release.stage,
    )
    try:
        command_id = insert_command(dsn, command)
    except ValueError as error:
        raise NotInRecord(str(error)) from error
    heard, refusal = _await_hearing(dsn, command_id, wait_s)
    if refusal is not None:
        raise NotInRecord(sentence_of(refusal, said))
    told: dict[str, Any] = {"command_id": command_id, **release._asdict(), "gate": said or None, "heard": heard}
    if as_json:
        print_json(told)
    if not heard and wait_s > 0:
        raise RecordUnreachable(
            f"{release.stage} for {release.model} (command {command_id}) is stored, but no control worker has passed it"
            f" on within {wait_s:g} s."
        )
    if not as_json:
        gate = f" {said[0].upper()}{said[1:]}." if said else ""
        typer.echo(f"{release.model} {release.sha256[:_SHORT]} is {release.stage} (command {command_id}).{gate}")


def propose_override(
    dsn: str, settings: Settings, release: Release, before: ReleaseStage | None, *, as_json: bool
) -> None:
    """Store a release past the gate as a change for two people to sign. Raises SettingsError where nobody may sign."""
    if settings.people.allow_list_file is None:
        raise SettingsError(
            "A release past the gate needs two people's signatures, but nobody may sign here: set"
            " people.allow_list_file."
        )
    if not release.author.strip() or not release.reason.strip():
        raise NotInRecord("A change needs an owner and a reason.")
    now_ns = time.time_ns()
    change = Change(
        action=ControlAction.RELEASE_MODEL,
        scope=ScopeKind.GLOBAL,
        target=release.sha256,
        base=before or "",
        owner=release.author,
        reason=release.reason,
        proposed_at_ns=now_ns,
        expires_at_ns=now_ns + OVERRIDE_LIFE_NS,
        nonce=nonce(),
        values={"model": release.model, "release_stage": release.stage.value},
    )
    say_proposed(insert_proposal(dsn, change), ("the gate of a release",), as_json=as_json)


def _await_hearing(dsn: str, command_id: str, wait_s: float) -> tuple[bool, str | None]:
    """Return whether a command was passed on within a time, and as what it was refused, if it was."""
    deadline = time.monotonic() + wait_s
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(_HEARD, (command_id,)).fetchone()
            if row is not None:
                return True, None if row[0] is None else str(row[0])
            if time.monotonic() >= deadline:
                return False, None
            time.sleep(_POLL_S)
