"""What ``tradermind up`` was asked for: the settings decide which parts are somebody's and which are started here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.settings import DEFAULT_FILE, SettingsError, load_settings
from streams.demo.plan import REAL, worker_groups

INFLUX: Final = "influx"
PROMETHEUS: Final = "prometheus"
OPTIONAL: Final = (INFLUX, PROMETHEUS)
"""Parts without which the platform trades all the same."""
_NAME: Final = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpPlan:
    """A platform that stays. ``broker`` is ``kafka``, started here, or an address; ``without`` names optional parts."""

    directory: Path
    settings_file: Path
    broker: str
    groups: tuple[tuple[str, ...], ...]
    without: frozenset[str] = frozenset()

    def overrides(self) -> dict[str, Any]:
        """Return the settings that differ from the file: only where it writes."""
        return {"run.directory": str(self.directory)}


def planned(settings_file: Path | None, directory: Path | None, without: tuple[str, ...]) -> UpPlan:
    """Return what the settings ask for. Raises SettingsError."""
    if unknown := sorted(set(without) - set(OPTIONAL)):
        raise SettingsError(f"--without {unknown[0]}: only {' and '.join(OPTIONAL)} can be left out.")
    file = (settings_file or DEFAULT_FILE).resolve()
    settings = load_settings(file)
    if settings.feed.kind == "capture":
        raise SettingsError(
            "feed.kind is 'capture', and a capture comes to its end: `tradermind demo --feed` runs one; `tradermind up`"
            " goes on with a market that does."
        )
    return UpPlan(
        directory=(directory or settings.run.directory / _NAME).resolve(),
        settings_file=file,
        broker=settings.kafka.bootstrap or REAL,
        groups=worker_groups(trainer=settings.trainer.enabled),
        without=frozenset(without),
    )
