"""What a demo was asked for, as settings: the one place that turns flags into overrides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.settings import SettingsError

EMBEDDED: Final = "embedded"
REAL: Final = "kafka"
SIMULATED: Final = "simulated"
DEFAULT_DURATION_S: Final = 60.0
WORKER_GROUPS: Final[tuple[tuple[str, ...], ...]] = (
    ("sinks",),
    ("decider", "risk", "execution", "feedback", "control"),
    ("voting",),
    ("experts",),
    ("ingestion",),
)
"""The processes of a demo, in the order in which they start: whoever reads first, before whoever writes."""
_BRIEF_TRAINING: Final[dict[str, Any]] = {
    "trainer.enabled": True,
    "trainer.first_experiences": 60,
    "trainer.every_experiences": 60,
    "trainer.interval_ms": 10_000,
    "trainer.fewest_transitions": 50,
    "trainer.gradient_steps": 200,
}
"""A schedule by which a minute has candidates to show; of so few experiences they are none to be trusted."""


def worker_groups(*, trainer: bool) -> tuple[tuple[str, ...], ...]:
    """Return the processes of a demo, with a trainer if one is wanted."""
    return (WORKER_GROUPS[0], ("trainer",), *WORKER_GROUPS[1:]) if trainer else WORKER_GROUPS


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """A demo. ``duration_s`` None: a minute, or for a capture until it has ended. ``speed`` is a number or max.

    ``policy`` is the committee's; None: what the settings say.
    """

    directory: Path
    settings_file: Path | None = None
    broker: str = EMBEDDED
    feed: str = SIMULATED
    speed: str = "1"
    policy: str | None = None
    seed: int = 7
    duration_s: float | None = None
    trainer: bool = False
    groups: tuple[tuple[str, ...], ...] = WORKER_GROUPS
    more: tuple[tuple[str, Any], ...] = ()

    @property
    def on_capture(self) -> bool:
        """Whether the market is a recorded one."""
        return self.feed not in (SIMULATED, "binance")

    @property
    def lasts_s(self) -> float | None:
        """How long it runs; None for a capture that runs to its end."""
        if self.duration_s is not None:
            return self.duration_s
        return None if self.on_capture else DEFAULT_DURATION_S

    def overrides(self) -> dict[str, Any]:
        """Return the settings that the flags stand for. Raises SettingsError."""
        speed = self._speed()
        values: dict[str, Any] = {
            "run.directory": str(self.directory),
            "run.seed": self.seed,
            "feed.kind": "capture" if self.on_capture else self.feed,
        }
        if self.on_capture:
            values |= {
                "run.clock": "capture",
                "feed.paths": [str(Path(part).resolve()) for part in self.feed.split(",")],
                "feed.speed": speed,
            }
        if self.policy is not None:
            values["strategies.committee.policy"] = self.policy
        if self.trainer:
            values |= _BRIEF_TRAINING
        return values | dict(self.more)

    def _speed(self) -> float | str:
        if self.speed == "max" and self.on_capture:
            return "max"
        try:
            speed = float(self.speed)
        except ValueError as error:
            if self.speed != "max":
                raise SettingsError(f"SPEED is a number or max, not {self.speed!r}.") from error
            speed = 0.0
        if not self.on_capture and speed != 1:
            raise SettingsError(f"SPEED={self.speed} is for captures: the feed {self.feed} goes by the wall clock.")
        return speed
