"""What is said aloud when an artefact is refused: a model that is not what it has to be is a fault or an attack.

A line of the log at ERROR, and a count by reason, which is a metric of the worker. A row in the record is written where
a database is at hand (``infra.postgres.model_refusals``).
"""

import logging
from collections import Counter
from typing import Final

from infra.models.refusals import ArtefactRefused

_LOG: Final = logging.getLogger("tradermind.models")
REFUSED: Final[Counter[str]] = Counter()
"""Reason -> how many artefacts this process has refused; whoever tells of the process tells of it."""


def sound(sha256: str, refused: ArtefactRefused) -> None:
    """Tell of a refusal; ``sha256`` is what was asked for."""
    REFUSED[refused.reason.value] += 1
    _LOG.error("the model %s is not loaded: %s", ascii(sha256[:64])[1:-1], refused)
