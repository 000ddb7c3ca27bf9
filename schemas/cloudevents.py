"""CloudEvents 1.0 headers in Kafka's binary mode, so that routers and catalogues of others know our records unread.

Everything in them but the id is the same for all records of a stage and a type, and is built once. The time is left
out, which the specification allows: it would have to be formatted for every record, and stands in the body.
"""

from typing import Final

import msgspec

from schemas.event import Event
from schemas.topics import TOPICS, Topic

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/avro"
CloudHeaders = tuple[tuple[str, bytes], ...]


def event_type(topic: Topic, record: type[msgspec.Struct]) -> str:
    """Return the CloudEvents type of a record: the topic without its version, the record, the version."""
    name, _, version = topic.name.rpartition(".")
    return f"{name}.{record.__name__}.{version}"


class CloudEvents:
    """The headers of one source's records."""

    def __init__(self, source: str) -> None:
        constant = ("ce_specversion", SPEC_VERSION.encode()), ("content-type", CONTENT_TYPE.encode())
        # A source is unique within us; the path before it makes it a URI reference that names us, too.
        self._fixed: dict[tuple[str, type], CloudHeaders] = {
            (topic.name, record): (
                *constant,
                ("ce_source", f"/tradermind/{source}".encode()),
                ("ce_type", event_type(topic, record).encode()),
            )
            for topic in TOPICS.values()
            for record in topic.records
        }

    def headers(self, topic: str, event: Event) -> CloudHeaders:
        """Return the headers of an event that goes to this topic. Raises KeyError for a type that does not belong."""
        return (*self._fixed[topic, type(event)], ("ce_id", event.event_id.encode()))
