"""How limits and levels stand now, by execution's own checkpoint: for whoever proposes a change, or asks.

Execution keeps the limits in force from its first claim on; no report about them is as sure as its state.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agents.execution.state import DeskState
from agents.limits.book import EffectiveLimits, LimitBook, book_of, effective, lapsed, readable
from agents.limits.changes import LevelNow
from agents.limits.flaw import Flaw
from agents.limits.limit_set import LimitSet
from infra.postgres.changes import read_state
from infra.postgres.queries import RecordUnreachable
from infra.settings import DEFAULT_FILE, Settings, SettingsError, load_settings
from schemas.control import ScopeKind
from streams.cli_record import LATEST_RUN
from streams.composition import Run, limit_book, limit_sets
from streams.limit_seeds import seed_facts
from streams.processes import settings_of_run

_PLACE: Final = ("execution", "0")
_LOG: Final = logging.getLogger("tradermind.limits")
_SHOWN_MAX: Final = 5


class Standing(NamedTuple):
    """The limits in force and the levels, as execution keeps them."""

    book: LimitBook
    desk: DeskState

    def level_of(self, scope: ScopeKind, target: str) -> LevelNow:
        """Return what set the level of a scope last."""
        key = f"{scope}|{'*' if scope is ScopeKind.GLOBAL else target}"
        return LevelNow(self.desk.level_ordinals.get(key, 0), self.desk.latched_ns.get(key, 0))


class Difference(NamedTuple):
    """A limit that is not what the settings say; "" where there is none."""

    limit: str
    in_force: str
    settings: str


def read_standing(dsn: str) -> Standing | None:
    """Return how limits and levels stand; None before execution has begun for the first time."""
    kept = read_state(dsn, _PLACE, ("limits", "desk"))
    if "limits" not in kept or "desk" not in kept:
        return None
    book = msgspec.msgpack.decode(kept["limits"], type=LimitBook)
    return Standing(book, msgspec.msgpack.decode(kept["desk"], type=DeskState))


def standing_of(dsn: str) -> Standing:
    """Return how limits and levels stand. Raises RecordUnreachable before execution has begun for the first time."""
    found = read_standing(dsn)
    if found is None:
        raise RecordUnreachable("No execution worker has begun on this database: no limits are in force yet.")
    return found


def settings_for(run: Path | None) -> Settings:
    """Return the settings of a run, by default of the newest; without any, those of the file. Raises SettingsError."""
    run_file = (LATEST_RUN if run is None else run) / "run.json"
    if run_file.exists():
        return settings_of_run(run_file, None)
    if run is not None:
        raise RecordUnreachable(f"There is no run in {run}: {run_file} does not exist.")
    return load_settings(DEFAULT_FILE)


def now_ns(settings: Settings, standing: Standing) -> int:
    """Return the time by the run's clock: on a capture, the one that execution has reached."""
    return standing.desk.now_ns if settings.run.clock == "capture" else time.time_ns()


def effective_limits(settings: Settings, standing: Standing) -> EffectiveLimits:
    """Return what books come to for the accounts of the settings."""
    return EffectiveLimits(seed_facts(settings), standing.book)


def differences(run: Run, standing: Standing, at_ns: int) -> list[Difference]:
    """Return which limits in force are not what the settings of a run say, by account."""
    in_force = _flat(effective(lapsed(standing.book, at_ns), seed_facts(run.settings)))
    told = _flat(limit_sets(run))
    return [
        Difference(name, in_force.get(name, ""), told.get(name, ""))
        for name in sorted(in_force.keys() | told.keys())
        if in_force.get(name, "") != told.get(name, "")
    ]


def _flat(limits: Mapping[str, LimitSet]) -> dict[str, str]:
    sets = book_of(limits).sets
    return {f"{scope.partition('|')[2]}.{name}": text for scope in sets for name, text in sets[scope].items()}


def tell_of_other_limits(run: Run, dsn: str) -> None:
    """Say in one line of the log that the settings name other limits than those in force, which they only seed.

    Raises SettingsError when the limits in force do not cover an account of the settings.
    """
    standing = read_standing(dsn)
    if standing is None or standing.book.sets == limit_book(run).sets:
        return
    covered = readable(standing.book, seed_facts(run.settings))
    if isinstance(covered, Flaw):
        raise SettingsError(f"The limits in force ({standing.book.version}) do not cover these settings: {covered}")
    found = differences(run, standing, standing.desk.now_ns)
    shown = "; ".join(f"{item.limit} is {item.in_force or 'none'}, not {item.settings or 'none'}" for item in found)
    if len(found) > _SHOWN_MAX:
        shown = f"{len(found)} limits, see `tradermind limits show`"
    if found:
        version = standing.book.version
        _LOG.warning("the limits in force (%s) are not those of the settings, which change none: %s", version, shown)
