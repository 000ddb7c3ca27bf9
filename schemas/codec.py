"""Events to bytes and back: Confluent framing (0x00, 4-byte id, Avro body) around fastavro.

Decoding trusts nothing: size, framing, an allow-listed schema id, the types a topic may hold, finite numbers and
the event type's own constraints are checked before anyone sees the record.
"""

import io
import math
import typing
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import fastavro
import msgspec

from schemas.cloudevents import CloudEvents, CloudEventsOn
from schemas.dead_letters import BadRecord, DeadLetterReason, UnknownRecordType
from schemas.schema_table import SchemaTable, WriterSchema
from schemas.topics import TOPICS, Topic

RECORD_BYTES_MAX: Final = 1_048_576
FRAME_BYTES: Final = 5
_GUID_HEADER: Final = "__value_schema_id"
_GUID_BYTES: Final = 17
_KEPT_TYPES = (bytes, Decimal)
Headers = Sequence[tuple[str, bytes]]
"""Record headers as the clients give them."""


def guid_of(headers: Headers) -> bytes | None:
    """Return the 16 bytes of the GUID that a header names the schema by, or None."""
    for name, content in headers:
        if name == _GUID_HEADER and content and len(content) == _GUID_BYTES and content[0] == 1:
            return content[1:]
    return None


class Codec:
    """Encode and decode the records of every topic. Stateless after construction; shared by all stages of a process."""

    def __init__(self, table: SchemaTable, cloud_events: CloudEventsOn = CloudEventsOn.OFF) -> None:
        self._table = table
        self._cloud_events = cloud_events
        self._writers: dict[tuple[str, type], tuple[bytes, Any]] = {}
        self._readers: dict[str, dict[str, _Reader]] = {}
        self._known: dict[tuple[str, bytes], tuple[_Reader, WriterSchema]] = {}
        for topic in TOPICS.values():
            self._readers[topic.name] = {record.__name__: _Reader(record) for record in topic.records}
            for record in topic.records:
                self._add_writer(topic, record)

    def _add_writer(self, topic: Topic, record: type[msgspec.Struct]) -> None:
        schema_id = self._table.id_of(topic.subject(record))
        writer = self._table.writer(schema_id)
        assert writer is not None, f"id {schema_id} of {topic.subject(record)} has no schema"
        self._writers[topic.name, record] = (b"\0" + schema_id.to_bytes(4, "big"), writer.parsed)
        self._readers[topic.name][record.__name__].expected = writer.parsed

    def cloud_events(self, source: str) -> CloudEvents:
        """Return what makes the CloudEvents headers of a source's records."""
        return CloudEvents(source, self._cloud_events)

    def encode(self, topic: str, event: msgspec.Struct) -> bytes:
        """Return the framed record. Raises BadRecord(TOO_LARGE) above 1 MiB and KeyError for a foreign type."""
        frame, schema = self._writers[topic, type(event)]
        buffer = io.BytesIO()
        buffer.write(frame)
        fastavro.schemaless_writer(buffer, schema, msgspec.to_builtins(event, builtin_types=_KEPT_TYPES))
        if buffer.tell() > RECORD_BYTES_MAX:
            raise BadRecord(DeadLetterReason.TOO_LARGE, f"{type(event).__name__} of {buffer.tell()} bytes")
        return buffer.getvalue()

    def decode(self, topic: str, value: bytes | None, headers: Headers = ()) -> Any:
        """Return the event in ``value``.

        The schema is named by the frame or, where a header ``__value_schema_id`` is given, by its GUID. Raises
        BadRecord with its reason, or UnknownRecordType when the schema is known but its record type does not
        belong to what this reader knows of the topic.
        """
        if value is None:
            raise BadRecord(DeadLetterReason.MALFORMED, "the record has no value")
        if len(value) > RECORD_BYTES_MAX:
            raise BadRecord(DeadLetterReason.TOO_LARGE, f"{len(value)} bytes, {RECORD_BYTES_MAX} allowed")
        # An id that was read once names the same schema for ever, so only a new one is looked up.
        known = None if headers else self._known.get((topic, value[:FRAME_BYTES]))
        if known is not None:
            return known[0].read(known[1], value, FRAME_BYTES)
        writer, start = self._writer_of(value, headers)
        reader = self._readers[topic].get(writer.record_name)
        if reader is None:
            raise UnknownRecordType(f"{writer.record_name} on {topic}")
        if start == FRAME_BYTES:
            self._known[topic, value[:FRAME_BYTES]] = (reader, writer)
        return reader.read(writer, value, start)

    def _writer_of(self, value: bytes, headers: Headers) -> tuple[WriterSchema, int]:
        guid = guid_of(headers)
        if guid is not None:
            writer = self._table.writer_by_guid(guid)
            if writer is None:
                reason, why = self._table.why_not(guid)
                raise BadRecord(reason, f"schema GUID {guid.hex()} {why}")
            return writer, 0
        if len(value) < FRAME_BYTES or value[0] != 0:
            raise BadRecord(DeadLetterReason.MALFORMED, "not framed as magic 0, 4-byte schema id, body")
        schema_id = int.from_bytes(value[1:FRAME_BYTES], "big")
        writer = self._table.writer(schema_id)
        if writer is None:
            reason, why = self._table.why_not(schema_id)
            raise BadRecord(reason, f"schema id {schema_id} {why}")
        return writer, FRAME_BYTES


class _Reader:
    """The reader side of one record type: its pinned schema, its float fields, its validation."""

    def __init__(self, record: type[msgspec.Struct]) -> None:
        self.record = record
        self.expected: Any = None
        self.float_fields = _float_fields(record)

    def read(self, writer: WriterSchema, value: bytes, start: int) -> Any:
        buffer = io.BytesIO(value)
        buffer.seek(start)
        expected = None if writer.parsed is self.expected else self.expected
        try:
            fields: Any = fastavro.schemaless_reader(buffer, writer.parsed, expected)
        except Exception as error:
            # fastavro reports a broken body by whatever it tripped over: EOFError, IndexError, UnicodeDecodeError, ...
            raise BadRecord(DeadLetterReason.MALFORMED, f"{type(error).__name__}: {str(error)[:200]}") from error
        if buffer.tell() != len(value):
            raise BadRecord(DeadLetterReason.MALFORMED, f"{len(value) - buffer.tell()} bytes after the record")
        for name in self.float_fields:
            if not _finite(fields[name]):
                raise BadRecord(DeadLetterReason.NOT_FINITE, f"{name} holds a number that is not finite")
        try:
            return msgspec.convert(fields, self.record)
        except (msgspec.ValidationError, RecursionError) as error:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, str(error)[:300]) from error


def _float_fields(record: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name, hint in typing.get_type_hints(record).items() if _holds_float(hint))


def _holds_float(hint: Any) -> bool:
    if hint is float:
        return True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return bool(_float_fields(hint))
    return any(_holds_float(argument) for argument in typing.get_args(hint))


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return True
