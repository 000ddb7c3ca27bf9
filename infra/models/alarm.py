"""What is said aloud when an artefact is refused: a model that is not what it has to be is a fault or an attack.

A line of the log at ERROR, and a counter by reason. A row in the record is written where a database is at hand
(``infra.postgres.model_refusals``).
"""

import logging
from typing import Final

from prometheus_client import Counter

from infra.models.refusals import ArtefactRefused

_LOG: Final = logging.getLogger("tradermind.models")
REFUSED: Final = Counter("tradermind_models_refused", "Artefacts of models that were refused.", ["reason"])


def sound(sha256: str, refused: ArtefactRefused) -> None:
    """Tell of a refusal; ``sha256`` is what was asked for."""
    REFUSED.labels(refused.reason.value).inc()
    _LOG.error("the model %s is not loaded: %s", ascii(sha256[:64])[1:-1], refused)
