"""The audit in the settings: where its keys lie, where its anchors go, and how often."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.settings_sections import Seconds, Section, Whole


class AuditSettings(Section):
    """The signed audit. ``key_file`` is a secret's file; a demo makes both files in its run directory.

    An anchor is written ``anchor_rows`` rows or ``anchor_interval_s`` after the last one of its stream; ``anchor_log``
    tells each to the log as well. Without ``anchor_file`` there are none, and a chain whose end was cut off together
    with its head is not found.
    """

    key_file: Path | None = None
    anchor_file: Path | None = None
    anchor_rows: Annotated[Whole, Field(ge=1, le=10_000_000)] = 1_000
    anchor_interval_s: Seconds = 60
    anchor_log: bool = False
