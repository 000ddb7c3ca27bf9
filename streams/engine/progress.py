"""How far a shard has come: what of it is kept in its checkpoint beside the state of its stage."""

import msgspec

from streams.engine.dedupe import SeenPositions
from streams.engine.quarantine import LetterProgress


class Progress(msgspec.Struct):
    """How far a shard has come: next offset per input lane, next number per output lane, what it has seen.

    ``topic_ids``: of the topics that it reads, the id that each had, so that one made anew is told from it.
    ``silent`` says per output lane up to which input offset another version of the code has sent what followed.
    """

    next_offsets: dict[str, int] = {}
    numbers: dict[str, int] = {}
    output_ends: dict[str, int] = {}
    seen: SeenPositions = msgspec.field(default_factory=SeenPositions)
    external: int = 0
    reached_ns: int = 0
    topic_ids: dict[str, str] = {}
    silent: dict[str, int] = {}
    letters: LetterProgress = msgspec.field(default_factory=LetterProgress)
