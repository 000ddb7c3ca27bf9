"""Whether a command may release a model, looked at where the artefacts, the record and the list of people are at hand.

The answer enters the control stage as an input of its own (``Examined``), which is journaled; so the stage stays pure,
and a recomputation needs none of the three.
"""

import asyncio
import time
from typing import Final

import msgspec
import psycopg
from psycopg.rows import dict_row

from infra.artefacts import ArtefactRefused, is_address
from infra.examination import examined
from infra.models.store import ModelStore
from infra.postgres.queries import Connection
from infra.postgres.queries_models import was_heard
from infra.settings import Settings
from schemas.changes import SIGNERS_MIN, ChangeRefusal, Examined
from schemas.control import ControlAction, ControlCommand
from schemas.event import Event
from schemas.feedback import ReleaseStage
from streams.model_standing import (
    GATED,
    gate,
    gate_terms,
    may_step,
    no_place_for,
    standings,
    told,
    with_champion_of_settings,
)
from streams.policies import of_our_schema

_STAGES: Final = (ReleaseStage.SHADOW, ReleaseStage.CANARY, ReleaseStage.CHAMPION, ReleaseStage.RETIRED)
_CONNECT_S: Final = 5
Refused = tuple[ChangeRefusal, str]


class ReleaseDesk:
    """Examines commands that release models; every other event is passed through."""

    def __init__(self, dsn: str, settings: Settings, store: ModelStore) -> None:
        self._dsn = dsn
        self._settings = settings
        self._store = store

    async def examined(self, event: Event) -> Event:
        """Return what the control stage is to be given. Raises psycopg.OperationalError while the record is away."""
        command = event.command if isinstance(event, Examined) else event
        if not isinstance(command, ControlCommand) or command.action is not ControlAction.RELEASE_MODEL:
            return event
        return await asyncio.to_thread(self._examined, event, command)

    def _examined(self, event: Event, command: ControlCommand) -> Event:
        found = event if isinstance(event, Examined) else examined(command)
        if found.refusal is not None:
            return found
        with psycopg.connect(
            self._dsn, autocommit=True, connect_timeout=_CONNECT_S, row_factory=dict_row
        ) as connection:
            if was_heard(connection, command.command_id):
                # Rows are read from the first on at each start; the stage has this one behind it.
                return event
            refused = self.refusal(connection, command, found)
        if refused is None:
            return found
        return msgspec.structs.replace(found, refusal=refused[0], detail=refused[1])

    def refusal(self, connection: Connection, command: ControlCommand, examined: Examined) -> Refused | None:
        """Return why a model may not go where a command wants it, or None."""
        stage = command.release_stage
        if stage not in _STAGES or not is_address(command.target) or not command.model:
            return ChangeRefusal.MALFORMED, "a release names a model, the sha256 of its artefact and a stage"
        known = with_champion_of_settings(standings(connection), self._store, self._settings)
        before = known.stage(command.target)
        if not may_step(before, stage):
            return ChangeRefusal.NOT_A_STEP, f"it is in {before or 'no stage'}, and was to go to {stage}"
        if stage is ReleaseStage.RETIRED:
            return None
        if idle := no_place_for(self._settings, stage):
            return ChangeRefusal.CHANGES_NOTHING, idle
        return self._artefact_refusal(command) or self._gate_refusal(connection, command, examined, before)

    def _artefact_refusal(self, command: ControlCommand) -> Refused | None:
        try:
            artefact = of_our_schema(self._store, command.target)
        except ArtefactRefused as refused:
            return ChangeRefusal.ARTEFACT_REFUSED, refused.sentence
        if artefact.name != command.model:
            return ChangeRefusal.MALFORMED, f"the artefact is of {artefact.name}, not of {command.model[:64]!a}"
        return None

    def _gate_refusal(
        self, connection: Connection, command: ControlCommand, examined: Examined, before: ReleaseStage | None
    ) -> Refused | None:
        if command.release_stage not in GATED:
            return None
        if examined.change is not None:
            return _override_refusal(examined, before)
        verdict = gate(connection, self._settings, command.target)
        if verdict is not None and verdict.passes:
            return None
        return ChangeRefusal.GATE_NOT_PASSED, told(verdict, gate_terms(self._settings.models))


def _override_refusal(examined: Examined, before: ReleaseStage | None) -> Refused | None:
    """Return why two people's word does not stand in for the gate, or None."""
    change = examined.change
    assert change is not None, "the caller has looked"
    if time.time_ns() > change.expires_at_ns:
        return ChangeRefusal.EXPIRED, f"it was good until {change.expires_at_ns} ns"
    if change.base != (before or ""):
        return ChangeRefusal.STALE_BASE, f"the model is in {before or 'no stage'}, not in {change.base or 'none'}"
    if len(set(examined.approved_by)) < SIGNERS_MIN:
        return ChangeRefusal.NEEDS_TWO_PEOPLE, "a release that the gate does not pass"
    return None
