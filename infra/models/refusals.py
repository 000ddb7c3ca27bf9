"""Why an artefact is refused. What was not checked is not loaded, and every refusal has its reason from one list."""

import enum

from infra.settings_sources import SettingsError


class Refusal(enum.StrEnum):
    """Every reason for which an artefact is refused. The list is closed."""

    BAD_ADDRESS = "BAD_ADDRESS"
    NO_SUCH_ARTEFACT = "NO_SUCH_ARTEFACT"
    NOT_PLAIN_FILES = "NOT_PLAIN_FILES"
    TOO_LARGE = "TOO_LARGE"
    PICKLE = "PICKLE"
    WRONG_ADDRESS = "WRONG_ADDRESS"
    BAD_MANIFEST = "BAD_MANIFEST"
    UNKNOWN_FORMAT = "UNKNOWN_FORMAT"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    TRUNCATED = "TRUNCATED"
    WRONG_DIGEST = "WRONG_DIGEST"
    BAD_SPEC = "BAD_SPEC"
    BAD_HEADER = "BAD_HEADER"
    WRONG_DTYPE = "WRONG_DTYPE"
    WRONG_TENSORS = "WRONG_TENSORS"
    WRONG_SHAPE = "WRONG_SHAPE"
    NOT_FINITE = "NOT_FINITE"
    WRONG_SCHEMA = "WRONG_SCHEMA"


class ArtefactRefused(SettingsError):
    """An artefact that is not loaded: the closed reason, and one sentence that begins with it."""

    def __init__(self, reason: Refusal, told: str) -> None:
        super().__init__(f"Refused: {reason}, {told}.")
        self.reason = reason

    @property
    def sentence(self) -> str:
        """The one sentence for people."""
        return str(self)
