"""What the trainer's stage asks of its shell, and what it is told: events that no topic carries.

Requests are performed after the commit that made them. What the shell tells is journaled with its bytes, so that a
recomputation hears the same and a candidate is never trained again to learn what became of it.
"""

import enum

from schemas.event import Event
from schemas.feedback import Experience


class BufferResumed(Event, frozen=True, kw_only=True, gc=False):
    """Take up the replay buffer where the stage stands. The first thing asked after a claim; it has no topic.

    ``lineage`` is the id of the first experience that this stage ever took, empty before there was one: a buffer of
    another lineage holds another run's experiences. Experiences are numbered from 1 in the order they were taken;
    those up to ``saved`` are known to lie in a snapshot, those after it up to ``taken`` follow as ExperienceTaken.
    """

    lineage: str
    saved: int
    taken: int


class ExperienceTaken(Event, frozen=True, kw_only=True, gc=False):
    """Put experience ``number`` into the replay buffer, unless it is there. It has no topic.

    After a claim those that are not known to be in a snapshot are asked for again, under the same numbers.
    """

    lineage: str
    number: int
    experience: Experience


class TrainingRequested(Event, frozen=True, kw_only=True, gc=False):
    """Train a candidate on the experiences up to ``through``, from the weights of ``start``. It has no topic.

    ``start`` is the sha256 of the champion that releases have made; empty: the one of the settings.
    ``ordinal`` counts requests from 1 and seeds the training; ``attempt`` counts the claims under which this one was
    asked for. Whatever comes of an attempt, ``request_id`` has one outcome.
    """

    request_id: str
    ordinal: int
    attempt: int
    through: int
    start: str = ""


class BufferSaved(Event, frozen=True, kw_only=True, gc=False):
    """Experiences up to ``number`` lie in a snapshot on disk, and need not be kept elsewhere."""

    lineage: str
    number: int


class CandidateTrained(Event, frozen=True, kw_only=True, gc=False):
    """An artefact was made for a request. ``sha256`` names it in the store, ``model`` is what releases call it.

    ``transitions`` is how many the buffer held, ``metrics`` what the training measured of itself.
    """

    request_id: str
    model: str
    sha256: str
    transitions: int
    metrics: dict[str, float]


class TrainingFailure(enum.StrEnum):
    """Why a training gave no candidate. The list is closed.

    TOO_FEW: the buffer holds fewer transitions than a training needs. NO_START: the champion's weights could not be
    read, or are of another schema. TIMED_OUT: it took longer than the limit and was ended. DIVERGED: a weight or a loss
    is not finite. BROKEN: it ended with an error of its own.
    """

    TOO_FEW = "TOO_FEW"
    NO_START = "NO_START"
    TIMED_OUT = "TIMED_OUT"
    DIVERGED = "DIVERGED"
    BROKEN = "BROKEN"


class TrainingFailed(Event, frozen=True, kw_only=True, gc=False):
    """A request gave no candidate; ``detail`` is a sentence for people."""

    request_id: str
    reason: TrainingFailure
    detail: str
