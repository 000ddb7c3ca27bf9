"""Our records are, byte for byte, what Confluent's own serialiser makes of the same value under the same id."""

import io
import json
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from infra.registry_client import Registered, RegistryClient
from infra.registry_table import RegistryTable
from infra.settings_registry import RegistrySettings
from schemas.codec import Codec
from schemas.kit import accepted_examples
from schemas.schema_table import SchemaTable, parsed_schema, subject_schemas
from schemas.topics import TOPICS

SCHEMAS = subject_schemas()
EXAMPLES = {f"{example.topic}-{example.record}": example for example in accepted_examples()}


@pytest.fixture(scope="module")
def registry() -> Any:
    """Confluent's own in-memory registry, with our schemas under ids that it gives."""
    client: Any = SchemaRegistryClient.new_client({"url": "mock://golden"})
    client.register_schema("first", Schema('{"type":"record","name":"First","fields":[]}', "AVRO"))
    for subject, schema in SCHEMAS.items():
        client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
    return client


def _subject_of_record(context: Any, name: str) -> str:
    return f"{context.topic}-{name.rpartition('.')[2]}"


@pytest.fixture(scope="module")
def codec(registry: Any) -> Codec:
    ids = {
        subject: registry.lookup_schema(subject, Schema(json.dumps(schema), "AVRO")).schema_id
        for subject, schema in SCHEMAS.items()
    }
    return Codec(SchemaTable.committed().with_ids(ids))


@pytest.mark.parametrize("subject", sorted(SCHEMAS))
def test_confluents_serialiser_makes_the_same_bytes(subject: str, registry: Any, codec: Codec) -> None:
    example = EXAMPLES[subject]
    event = Codec(SchemaTable.committed()).decode(example.topic, example.framed)
    ours = codec.encode(example.topic, event)
    fields = _fields(subject, example.framed)
    settings = {"auto.register.schemas": False, "subject.name.strategy": _subject_of_record}
    serializer = AvroSerializer(registry, json.dumps(SCHEMAS[subject]), conf=settings)
    context = SerializationContext(example.topic, MessageField.VALUE)
    assert serializer(fields, context) == ours
    # The bodies are the committed ones: an id of a registry changes four bytes and nothing else.
    assert ours[5:] == example.framed[5:]
    assert ours[:5] != example.framed[:5]
    assert AvroDeserializer(registry)(ours, context) == fields


def test_confluents_serialiser_may_name_the_schema_by_guid_in_a_header(registry: Any) -> None:
    ours = {}
    for subject, schema in SCHEMAS.items():
        found = registry.lookup_schema(subject, Schema(json.dumps(schema), "AVRO"))
        ours[subject] = [Registered(found.schema_id, schema, guid=bytes.fromhex(found.guid.replace("-", "")))]
    codec = Codec(RegistryTable(RegistryClient(RegistrySettings(url="http://127.0.0.1:1")), ours, 30))
    for subject, example in EXAMPLES.items():
        settings = {
            "auto.register.schemas": False,
            "subject.name.strategy": _subject_of_record,
            "schema.id.serializer": header_schema_id_serializer,
        }
        headers: list[tuple[str, bytes]] = []
        context = SerializationContext(example.topic, MessageField.VALUE, headers)
        serializer = AvroSerializer(registry, json.dumps(SCHEMAS[subject]), conf=settings)
        body: Any = serializer(_fields(subject, example.framed), context)
        assert body == example.framed[5:]
        event = Codec(SchemaTable.committed()).decode(example.topic, example.framed)
        assert codec.decode(example.topic, body, headers) == event


def _fields(subject: str, framed: bytes) -> Any:

    return fastavro.schemaless_reader(io.BytesIO(framed[5:]), parsed_schema(SCHEMAS[subject]))


def test_every_record_of_every_topic_is_compared() -> None:
    assert set(EXAMPLES) == {topic.subject(record) for topic in TOPICS.values() for record in topic.records}
