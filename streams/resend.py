"""What goes out when a dead letter is sent again: the record as it was, and headers that say that it is a replay."""

import hashlib
from dataclasses import dataclass
from typing import Any

from infra.postgres.dead_letters import raw_headers
from infra.postgres.queries import NotInRecord, Row
from schemas.dead_letters import DeadLetterReason
from schemas.topics import TOPICS
from streams.engine.dead_letter import ATTEMPT, ERRORS, REPLAY, attempts_of, own_headers

_IN_PART = (f"{ERRORS}value.bytes", f"{ERRORS}key.and.headers.bytes")


@dataclass(frozen=True, slots=True)
class Resend:
    """One record on its way to where it came from. ``place`` is a topic and a partition."""

    place: tuple[str, int]
    key: bytes | None
    value: bytes | None
    own: tuple[tuple[str, bytes | None], ...]
    attempt: int
    of: str
    by: str
    detail: dict[str, Any]

    def headers(self, ordinal: int) -> list[tuple[str, bytes | None]]:
        """Return the record's own headers and ours; ``ordinal`` is the audit's row of this replay."""
        facts = {"of": self.of, "by": self.by, "action": str(ordinal)}
        ours = [(f"{REPLAY}{name}", content.encode()) for name, content in facts.items()]
        return [*self.own, *ours, (ATTEMPT, str(self.attempt).encode())]


def resend_of(letter: Row, mended: bytes | None, author: str) -> Resend:
    """Return what sending a letter again means, with ``mended`` bytes in place of its own, if given.

    Raises NotInRecord for a letter of a topic of ours, and for one that is not whole.
    """
    topic = TOPICS.get(letter["topic"])
    place = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
    if topic is None or not topic.public:
        way = "--release KEY" if letter["reason"] == DeadLetterReason.QUARANTINED else "`tradermind dlq take`"
        raise NotInRecord(
            f"{place} is not on a public topic: what our own stages wrote is never sent again by hand, since it would"
            f" overtake what followed it; the way past it is {way}."
        )
    if letter["partition"] is None or letter["raw_headers"] is None:
        raise NotInRecord(f"The letter of {place} does not say where the record lay, or with which headers.")
    headers = raw_headers(bytes(letter["raw_headers"]))
    names = {name for name, _ in headers[len(own_headers(_texts(headers))) :]}
    if names.intersection(_IN_PART) and mended is None:
        raise NotInRecord(f"Of {place} only a part is kept: send the whole record with --with FILE.")
    own = headers[: len(own_headers(_texts(headers)))]
    value = _bytes(letter["value"]) if mended is None else mended
    detail: dict[str, Any] = {"sha256": hashlib.sha256(value or b"").hexdigest(), "mended": mended is not None}
    if mended is not None:
        detail["original_sha256"] = hashlib.sha256(_bytes(letter["value"]) or b"").hexdigest()
    return Resend(
        place=(letter["topic"], int(letter["partition"])),
        key=_bytes(letter["key"]),
        value=value,
        own=tuple((name, content) for name, content in own if not name.startswith(REPLAY)),
        attempt=attempts_of(_texts(own)) + 1,
        of=place,
        by=author,
        detail=detail,
    )


def _texts(headers: list[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    return [(name, content or b"") for name, content in headers]


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
