"""The trainer in the settings: when it trains, on how much, for how long, and where its replay buffer lies."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from infra.settings_sections import Milliseconds, Seconds, Section, Whole

Experiences = Annotated[Whole, Field(ge=1, le=10_000_000)]
SCHEDULE: Final = ("first_experiences", "every_experiences", "interval_ms")
"""What the trainer's own outputs depend on."""


class TrainerSettings(Section):
    """``enabled``: whether the run has a trainer, a worker of its own that needs the extra ``train``.

    It trains after ``first_experiences``, then after each ``every_experiences`` more, at most once in ``interval_ms``
    of the run's clock. ``directory`` holds the replay buffer of the newest ``capacity`` transitions (None: ``trainer``
    below the run's), of which a snapshot is written every ``snapshot_every`` experiences. A training takes
    ``gradient_steps`` with ``learning_rate``, at least ``fewest_transitions`` and at most ``time_limit_s``, ``nice``
    below the priority of the workers. ``key_file`` signs candidates (None: the key that everybody has, where
    that counts).
    """

    enabled: bool = False
    directory: Path | None = None
    first_experiences: Experiences = 1_000
    every_experiences: Experiences = 1_000
    interval_ms: Milliseconds = 60_000
    capacity: Experiences = 20_000
    snapshot_every: Experiences = 250
    fewest_transitions: Experiences = 256
    gradient_steps: Annotated[Whole, Field(ge=1, le=10_000_000)] = 1_000
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    time_limit_s: Seconds = 300
    nice: Annotated[Whole, Field(ge=0, le=19)] = 10
    key_file: Path | None = None
