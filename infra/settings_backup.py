"""Backups in the settings: where they lie, how many are kept, and how old the newest may be."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.settings_sections import Section, Whole


class BackupSettings(Section):
    """``directory`` (None: ``backups`` below the run's) belongs on another disk than the database's."""

    directory: Path | None = None
    keep: Annotated[Whole, Field(ge=1, le=10_000)] = 14
    age_max_h: Annotated[Whole, Field(ge=1, le=8_784)] = 26
