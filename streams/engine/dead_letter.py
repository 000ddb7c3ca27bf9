"""A dead letter: the record itself, with its own key, bytes and headers, and why, where and by whom it was refused.

The facts are headers with the suffixes that Kafka Connect uses, under a prefix of our own, so that tools which know
Connect's find them; they stand after the record's own headers, and nothing of a record is ever decoded again to read
them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.event import Event
from schemas.partition import partition_of
from schemas.topics import TOPICS, Spread, Topic
from schemas.values import NS_PER_MS
from streams.engine.ports import Outgoing, RawRecord, WorkerFailed

ERRORS: Final = "__tradermind.errors."
"""What the names of our facts begin with. ``reason`` is always the first of them."""
REPLAY: Final = "__tradermind.replay."
"""What the names of the headers begin with that a replayed record carries."""
ATTEMPT: Final = f"{REPLAY}attempt"
LETTER_VALUE_BYTES_MAX: Final = 9 * 1024 * 1024
LETTER_AROUND_BYTES_MAX: Final = 2 * 1024 * 1024
"""What a dead letter carries at most of a record's value, and of its key and headers: within what its topic takes."""
_BAD_IN_A_ROW_MAX: Final = 20
_BAD_SHARE_WINDOW: Final = 1000
_BAD_SHARE_MAX: Final = 0.1
_FRAME_BYTES: Final = 5
_BY_ORDER: Final = frozenset({DeadLetterReason.TAKEN, DeadLetterReason.QUARANTINED})

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Refuser:
    """Who refuses: the stage, which of its shards, its class, and the code it runs."""

    stage: str
    task: str = ""
    class_name: str = ""
    code_version: str = ""


def dead_letter(
    topic: Topic, record: RawRecord, refusal: BadRecord, by: Refuser, more: dict[str, str] | None = None
) -> Outgoing:
    """Return the dead letter of a record, with ``more`` facts, if any.

    Of a record that no topic takes back (small on the way here, since it was compressed) the beginning is kept.
    """
    facts = {"reason": refusal.reason.value, **_facts(record, refusal, by), **(more or {})}
    own, key, value = tuple(record.headers), record.key, record.value
    if value is not None and len(value) > LETTER_VALUE_BYTES_MAX:
        facts |= {"value.bytes": str(len(value)), "value.sha256": hashlib.sha256(value).hexdigest()}
        value = value[:LETTER_VALUE_BYTES_MAX]
    around = len(key or b"") + sum(len(name) + len(content or b"") for name, content in own)
    if around > LETTER_AROUND_BYTES_MAX:
        facts |= {"key.and.headers.bytes": str(around)}
        own, key = (), (key or b"")[:LETTER_AROUND_BYTES_MAX]
    headers = (*own, *((f"{ERRORS}{name}", content.encode()) for name, content in facts.items() if content))
    return Outgoing(topic.dead_letters, record.partition, key, value, headers)


def outside_letter(event: Event, refusal: BadRecord, by: Refuser, instrument_partitions: int) -> Outgoing:
    """Return the dead letter of a word that did not come by Kafka: a venue's report on an order that is not ours, say.

    It lies with those of the first topic that the stage writes, where what follows from such a word would have gone.
    Its value is the word as JSON; it has no topic, partition and offset of its own, and ``record.type`` instead.
    """
    topic = next(topic for topic in TOPICS.values() if by.stage in topic.producers)
    partition = 0 if topic.spread is Spread.SINGLE else partition_of(event.key, instrument_partitions)
    word = RawRecord("", 0, 0, event.key.encode(), msgspec.json.encode(event), (), event.available_at_ns // NS_PER_MS)
    facts = _facts(word, refusal, by) | {"topic": "", "partition": "", "offset": "", "schema.id": ""}
    facts = {"reason": refusal.reason.value, **facts, "record.type": type(event).__name__}
    headers = tuple((f"{ERRORS}{name}", content.encode()) for name, content in facts.items() if content)
    return Outgoing(topic.dead_letters, partition, word.key, word.value, headers)


def _facts(record: RawRecord, refusal: BadRecord, by: Refuser) -> dict[str, str]:
    cause = refusal.__cause__ or refusal
    value = record.value or b""
    framed = len(value) >= _FRAME_BYTES and value[0] == 0
    return {
        "exception.message": refusal.detail[:500],
        "exception.class.name": type(cause).__name__,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp_ms),
        "connector.name": f"tradermind.{by.stage}",
        "task.id": by.task,
        "stage": by.stage,
        "class.name": by.class_name,
        "schema.id": str(int.from_bytes(value[1:_FRAME_BYTES], "big")) if framed else "",
        "code.version": by.code_version,
        "attempt": str(attempts_of(record.headers) + 1),
    }


def attempts_of(headers: Headers) -> int:
    """Return how often a record was replayed before: what its last header of that name says, else 0."""
    for name, content in reversed(headers):
        if name == ATTEMPT:
            return int(content) if content and content.isdigit() and len(content) < 7 else 0
    return 0


def own_headers(headers: Headers) -> Headers:
    """Return the headers that the record had before it became this letter; all of them where ours are missing."""
    mark = f"{ERRORS}reason"
    last = max((place for place, (name, _) in enumerate(headers) if name == mark), default=len(headers))
    return headers[:last]


def way_past(record: RawRecord, more: str = "") -> str:
    """Return the sentence that tells a person how to get past a record; ``more`` are further options."""
    place = f"{record.topic} {record.partition} {record.offset}"
    return f"`tradermind dlq take {place} {more}--reason WHY` is the way past it."


class BadRecordLimit:
    """Stops a line of our own before it drains into the dead letters; public topics have no such limit.

    What a person has taken, and what is held behind a quarantine, has its cause elsewhere and does not count. A
    recomputation does not stop (``stops``): it goes over what several lives of a worker have passed.
    """

    def __init__(self, *, stops: bool = True) -> None:
        self._stops = stops
        self._in_a_row = 0
        self._recent = 0
        self._recent_bad = 0

    def good(self) -> None:
        """Take note of a record that was stepped."""
        self._in_a_row = 0
        self._recent += 1

    def bad(self, topic: Topic, record: RawRecord, refusal: BadRecord) -> None:
        """Take note of a record that was refused. Raises WorkerFailed when there were too many."""
        if refusal.reason in _BY_ORDER:
            return
        self._in_a_row += 1
        self._recent += 1
        self._recent_bad += 1
        too_many = self._recent >= _BAD_SHARE_WINDOW and self._recent_bad > _BAD_SHARE_MAX * self._recent
        if self._recent >= _BAD_SHARE_WINDOW:
            self._recent = self._recent_bad = 0
        if self._stops and not topic.public and (too_many or self._in_a_row >= _BAD_IN_A_ROW_MAX):
            raise WorkerFailed(
                f"Too many bad records on {topic.name}, the last at partition {record.partition} offset"
                f" {record.offset} ({refusal}): the line stops before it drains into the dead letters."
                f" {way_past(record)}"
            )
