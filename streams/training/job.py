"""What a training is told and what it tells: files in a folder of its own, since it is a process of its own.

The process may be killed at any time, and so may whoever started it. What it was told lies complete in the folder
before it begins; what came of it lies there whole or not at all.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from schemas.training import TrainingFailure

JOB_NAME: Final = "job.json"
OUTCOME_NAME: Final = "outcome.json"
SNAPSHOT_NAME: Final = "replay.safetensors"
LOG_NAME: Final = "training.log"


class Teaching(msgspec.Struct, frozen=True, kw_only=True):
    """How candidates are trained, whatever they are trained on.

    ``store`` is the store of artefacts, ``keys_file`` and ``allow_development_key`` say whose signatures count there,
    and ``key_file`` is the key that signs candidates (None: the one that everybody has). ``champion`` is the address
    to start from unless a release has named another, or "shipped". ``identity`` as in TransitionTerms. ``fewest``
    transitions are needed to begin; ``gradient_steps`` and ``learning_rate`` are of one training. ``nice`` is added to
    the priority of the process. Paths are absolute.
    """

    store: str
    keys_file: str | None
    allow_development_key: bool
    key_file: str | None
    champion: str
    identity: str
    fewest: int
    gradient_steps: int
    learning_rate: float
    seed: int
    nice: int


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """One training: the request's id, ordinal and start (see TrainingRequested), and how."""

    request_id: str
    ordinal: int
    start: str
    teaching: Teaching


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate (``model``, ``sha256``, on how many transitions, with which metrics), or the reason for none."""

    model: str = ""
    sha256: str = ""
    transitions: int = 0
    metrics: dict[str, float] = {}
    failure: TrainingFailure | None = None
    detail: str = ""


def write_job(folder: Path, job: TrainingJob) -> None:
    """Write what a training is told."""
    _write(folder / JOB_NAME, msgspec.json.encode(job))


def read_job(folder: Path) -> TrainingJob:
    """Return what a training was told. Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode((folder / JOB_NAME).read_bytes(), type=TrainingJob)


def write_outcome(folder: Path, outcome: TrainingOutcome) -> None:
    """Write what came of a training."""
    _write(folder / OUTCOME_NAME, msgspec.json.encode(outcome))


def read_outcome(folder: Path) -> TrainingOutcome | None:
    """Return what came of a training; None when it never came to an end. Raises msgspec.DecodeError."""
    file = folder / OUTCOME_NAME
    return msgspec.json.decode(file.read_bytes(), type=TrainingOutcome) if file.exists() else None


def _write(file: Path, content: bytes) -> None:
    beside = file.with_suffix(".new")
    with beside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)
