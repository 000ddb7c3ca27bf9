"""Every check, in the order in which people read them. What needs no settings runs without any, too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.settings import Settings
from streams.doctor import broker, clocks, configuration, machine, stores
from streams.doctor.examination import Check, Finding, failed, warning


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: the settings, or why there are none, and where the run writes."""

    settings: Settings | None
    why_none: str
    directory: Path


def checks_of(patient: Patient) -> list[Check]:
    """Return every check. Without settings those that need them say that they were not made."""
    before = [
        Check("python", machine.python),
        Check("packages", lambda: machine.packages(machine.lock_file())),
        Check("run directory", lambda: machine.directory(patient.directory)),
    ]
    settings = patient.settings
    if settings is None:
        mend = "Correct the key that the sentence names; docs/operations.md has every section."
        unread = Check("settings", lambda: [failed("settings", patient.why_none, mend)])
        return [
            *before,
            unread,
            *(_not_made(name) for name in _OF_SETTINGS if name != "settings"),
            Check("java", machine.java),
        ]
    made = [Check(name, _asked(question, settings)) for name, question in _OF_SETTINGS.items()]
    own = [Check("java", machine.java)] if settings.kafka.bootstrap is None else []
    return [*before, *made, *own]


Question = Callable[[Settings], Iterator[Finding]]
_OF_SETTINGS: dict[str, Question] = {
    "settings": configuration.composition,
    "secrets": configuration.secrets,
    "development keys": configuration.production,
    "audit": configuration.audit,
    "people": configuration.people,
    "models": configuration.models,
    "metrics port": lambda settings: machine.port("metrics port", settings.metrics.host, settings.metrics.port),
    "kafka": broker.kafka,
    "schemas": stores.registry,
    "postgres": stores.postgres,
    "clock of postgres": clocks.of_the_database,
    "influx": stores.influx,
    "clocks of venues": clocks.of_the_venues,
}


def _asked(question: Question, settings: Settings) -> Callable[[], Iterator[Finding]]:
    return lambda: question(settings)


def _not_made(name: str) -> Check:
    return Check(name, lambda: [warning(name, "Not asked: it needs the settings.", "Correct the settings first.")])
