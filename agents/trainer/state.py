"""What the trainer remembers: how far it has counted, what it has asked for, and what no snapshot holds yet."""

from typing import Final

import msgspec

STATE_KEY: Final = "trainer"
_TAIL: Final = "tail/"


class Asked(msgspec.Struct):
    """The training that is under way: see TrainingRequested."""

    request_id: str
    ordinal: int
    attempt: int
    through: int
    start: str


class TrainerState(msgspec.Struct):
    """Counts and times; experiences are numbered from 1.

    ``lineage``, ``taken`` and ``saved`` as in BufferResumed. ``asked_at_taken`` and ``asked_at_ns`` are where the
    newest request stood, or, before there was one, where the first experience did. ``asked`` is the one without
    an outcome.
    ``champions`` are the artefacts that were made champion and not retired, oldest first.
    """

    now_ns: int = 0
    lineage: str = ""
    taken: int = 0
    saved: int = 0
    requests: int = 0
    candidates: int = 0
    failures: int = 0
    asked_at_taken: int = 0
    asked_at_ns: int = 0
    asked: Asked | None = None
    champions: list[str] = []


def tail_key(number: int) -> str:
    """Return where experience ``number`` is kept until a snapshot holds it."""
    return f"{_TAIL}{number}"


def is_tail(key: str) -> bool:
    """Tell whether a key is that of an experience."""
    return key.startswith(_TAIL)
