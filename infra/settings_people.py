"""The people in the settings: where it is written who may sign what two people must want."""

from pathlib import Path

from infra.settings_sections import Section


class PeopleSettings(Section):
    """``allow_list_file`` names the mounted list of people; without it nothing that loosens is ever let through."""

    allow_list_file: Path | None = None
