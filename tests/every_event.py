"""One event of every type of the internal topics, from the committed examples that every version must read."""

import json
from pathlib import Path

import msgspec

from schemas.event import Event
from schemas.topics import TOPICS

EXAMPLES = Path(__file__).resolve().parents[1] / "schemas" / "examples" / "accepted"
RECORDS = tuple(sorted({record for topic in TOPICS.values() if not topic.public for record in topic.records}, key=str))


def example(record: type[msgspec.Struct], **changes: object) -> Event:
    """Return the example of an event type with ``changes`` applied."""
    topic = next(topic for topic in TOPICS.values() if record in topic.records)
    content = json.loads((EXAMPLES / f"{topic.name}-{record.__name__}.v1.json").read_text())
    event = msgspec.convert(content["fields"], record, strict=False)
    assert isinstance(event, Event)
    return msgspec.structs.replace(event, **changes)
