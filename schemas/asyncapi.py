"""The AsyncAPI 3 document: every topic, record and rule of the wire, from the topic table and the event types.

Tools of others read it (documentation, code generators, gateways); it says what ``docs/for-other-systems.md`` says,
and cannot say anything else than the table does.
"""

from typing import Any, Final

import msgspec

from schemas.avro_schema import avro_schema
from schemas.cloudevents import CONTENT_TYPE, SPEC_VERSION, event_type
from schemas.topics import TOPICS, Spread, Topic

_AVRO: Final = "application/vnd.apache.avro+json;version=1.9.0"
_BINDING: Final = "0.5.0"
_MS_PER_HOUR: Final = 3_600_000
_DESCRIPTION: Final = (
    "An event-driven trading platform on Kafka. A value is a zero byte, the schema id as four bytes (big endian) and"
    " the Avro body; a header `__value_schema_id` with a GUID may stand in the frame's place. Prices and quantities"
    " are integers in units of 1e-8, times are nanoseconds since the Unix epoch, money is decimal(38, 18), and what is"
    " not known is null, never 0. Delivery is at least once: a reader drops what it has seen, by (topic, partition,"
    " source, generation, seq)."
)


def asyncapi_document() -> dict[str, Any]:
    """Return the document, from the point of view of TraderMind: it receives the public topics and sends the rest."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "TraderMind",
            "version": "1.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic.name: _channel(topic) for topic in TOPICS.values()},
        "operations": {_operation_name(topic): _operation(topic) for topic in TOPICS.values()},
        "components": {
            "messages": {
                topic.subject(record): _message(topic, record) for topic in TOPICS.values() for record in topic.records
            },
            "schemas": {"headers": _headers(), "publicHeaders": _public_headers()},
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    topic_configuration = {"cleanup.policy": ["delete"], "retention.ms": topic.retention_hours * _MS_PER_HOUR}
    return {
        "address": topic.name,
        "description": topic.purpose,
        "messages": {
            record.__name__: {"$ref": f"#/components/messages/{topic.subject(record)}"} for record in topic.records
        },
        "bindings": {
            "kafka": {"topic": topic.name, "topicConfiguration": topic_configuration, "bindingVersion": _BINDING}
        },
        "x-producers": list(topic.producers),
        "x-consumers": [name for name in topic.consumers if name],
        "x-partitions": _partition_rule(topic),
        "x-dead-letters": topic.dead_letters,
    }


def _partition_rule(topic: Topic) -> str:
    if topic.public:
        return "any: records are put where their instrument belongs"
    if topic.spread is Spread.SINGLE:
        return "one"
    return "murmur2 of the UTF-8 key, which is the instrument; a Heartbeat goes to every partition"


def _operation_name(topic: Topic) -> str:
    return f"{'receive' if topic.public else 'send'}.{topic.name}"


def _operation(topic: Topic) -> dict[str, Any]:
    channel = {"$ref": f"#/channels/{topic.name}"}
    return {
        "action": "receive" if topic.public else "send",
        "channel": channel,
        "summary": topic.purpose,
        "messages": [{"$ref": f"{channel['$ref']}/messages/{record.__name__}"} for record in topic.records],
    }


def _message(topic: Topic, record: type[msgspec.Struct]) -> dict[str, Any]:
    schema = avro_schema(record)
    subject = topic.subject(record)
    strategy = "TopicNameStrategy" if topic.public else "TopicRecordNameStrategy"
    return {
        "name": event_type(topic, record),
        "title": record.__name__,
        "summary": schema["doc"].partition(". ")[0].rstrip(".") + ".",
        "contentType": CONTENT_TYPE,
        "headers": {"$ref": f"#/components/schemas/{'publicHeaders' if topic.public else 'headers'}"},
        "payload": {"schemaFormat": _AVRO, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "UTF-8 text." if topic.public else "The event's `key`."},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": strategy,
                "bindingVersion": _BINDING,
            }
        },
        "x-subjects": [subject, f"{topic.name}-value"] if topic.public else [subject],
    }


def _headers() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "CloudEvents in binary mode, on the topics that `kafka.cloudevents` names.",
        "properties": {
            "ce_specversion": {"type": "string", "const": SPEC_VERSION},
            "ce_id": {"type": "string", "description": "The event's `event_id`."},
            "ce_source": {"type": "string", "description": "The event's `source`, after `/tradermind/`."},
            "ce_type": {"type": "string", "description": "The topic without its version, the record, the version."},
            "content-type": {"type": "string", "const": CONTENT_TYPE},
            "tradermind-origin-ns": {"type": "string", "description": "When the cause reached us, for latencies."},
        },
    }


def _public_headers() -> dict[str, Any]:
    guid = "The byte 1 and the 16 bytes of a schema GUID: then the value is the Avro body alone."
    return {
        "type": "object",
        "description": "No header is needed. CloudEvents headers are taken, and not read.",
        "properties": {"__value_schema_id": {"type": "string", "format": "binary", "description": guid}},
    }
