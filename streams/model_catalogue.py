"""Models as people name them, and what is known of each: what lies in the store beside what the record says of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.artefacts import Artefact, ArtefactRefused
from infra.models.store import ModelStore
from infra.postgres.queries import Connection, NotInRecord, RecordUnreachable
from infra.servers.process import ServerFailed
from infra.settings import SettingsError
from streams.cli_record import opened_record
from streams.model_standing import Standing, Standings, standings

_PREFIX_MIN: Final = 4
_NOTHING_KNOWN: Final = Standings({}, None, 0)


class Listed(NamedTuple):
    """One model: its address, what was read of it or why it is refused, and its standing, where there is any."""

    sha256: str
    artefact: Artefact | None
    refused: ArtefactRefused | None
    standing: Standing | None

    @property
    def name(self) -> str:
        """The model's name: the artefact's own, else the record's."""
        if self.artefact is not None:
            return self.artefact.name
        return self.standing.model if self.standing is not None else "?"

    def row(self) -> dict[str, Any]:
        """Return what a table shows."""
        standing, artefact = self.standing, self.artefact
        return {
            "model": self.name,
            "sha256": self.sha256,
            "stage": None if standing is None else standing.stage.value,
            "in_force": standing is not None and standing.in_force,
            "reason": None if standing is None else standing.reason,
            "author": None if standing is None else standing.author,
            "signed_by": None if artefact is None else artefact.key,
            "trials": None if artefact is None else artefact.spec.trials,
            "markets": None if artefact is None else list(artefact.spec.markets),
            "artefact": "good" if self.refused is None else self.refused.reason.value,
        }


def listed(store: ModelStore, known: Standings) -> list[Listed]:
    """Return every model that lies in the store or that the record names."""
    found = [_look(store, sha256, known) for sha256 in sorted({*store.addresses(), *known.by_address})]
    return sorted(found, key=lambda item: (item.name, item.sha256))


def named(store: ModelStore, known: Standings, asked: str) -> Listed:
    """Return the one model of this name, or whose sha256 begins like this. Raises NotInRecord."""
    found = [item for item in listed(store, known) if _is_meant(item, asked)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotInRecord(f"No model is named {asked!r} or has such a sha256; `tradermind model ls` lists them.")
    shown = ", ".join(item.sha256[:12] for item in found[:5])
    raise NotInRecord(f"{asked!r} is more than one model ({shown}): give the beginning of one's sha256.")


def in_force(store: ModelStore, known: Standings, asked: str | None, champion: str) -> Listed:
    """Return the model asked for, or the one a rollback means: the canary in force, else the champion.

    ``champion`` is the settings' own, which counts until the record names another. Raises NotInRecord, and
    ArtefactRefused when none is shipped.
    """
    if asked is not None:
        return named(store, known, asked)
    canaries = [item for item in known.by_address.values() if item.in_force and item.stage == "CANARY"]
    sha256 = canaries[-1].sha256 if canaries else known.champion or store.champion(champion)
    return _look(store, sha256, known)


def _is_meant(item: Listed, asked: str) -> bool:
    return asked == item.name or (len(asked) >= _PREFIX_MIN and item.sha256.startswith(asked))


def _look(store: ModelStore, sha256: str, known: Standings) -> Listed:
    standing = known.by_address.get(sha256)
    try:
        return Listed(sha256, store.read(sha256), None, standing)
    except ArtefactRefused as refused:
        return Listed(sha256, None, refused, standing)


def known_standings(dsn: str | None, run: Path | None) -> Standings:
    """Return how models stand by the record; without a record nothing is known of any."""
    with record_if_any(dsn, run) as record:
        return _NOTHING_KNOWN if record is None else standings(record)


@contextlib.contextmanager
def record_if_any(dsn: str | None, run: Path | None) -> Iterator[Connection | None]:
    """Give the record, or None where none was named and there is none: a store can be looked at without a run."""
    with contextlib.ExitStack() as stack:
        record: Connection | None = None
        try:
            record = stack.enter_context(opened_record(dsn, run))
        except (RecordUnreachable, ServerFailed, SettingsError):
            if dsn is not None or run is not None:
                raise
        yield record
