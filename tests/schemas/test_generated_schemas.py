"""The committed schemas are the contract: fresh, valid, stable in their ids, and free of what can bomb a reader."""

import json
from typing import Any

import fastavro
import msgspec
import pytest

from schemas.avro_schema import avro_schema
from schemas.generate import FOLDER, generated_files
from schemas.schema_table import SchemaTable
from schemas.topics import ROUTES, TOPICS, Spread


def test_the_committed_files_are_what_the_event_types_say() -> None:
    expected = generated_files()
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == expected, "run: python -m schemas.generate"


@pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)
def test_every_schema_parses_and_holds_nothing_that_expands_from_no_bytes(topic: Any) -> None:
    for record in topic.records:
        schema = avro_schema(record)
        fastavro.parse_schema(schema)
        assert not _zero_width_items(schema), record


def _zero_width_items(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(_zero_width_items(branch) for branch in schema)
    if not isinstance(schema, dict):
        return False
    if schema["type"] in ("array", "map"):
        items = schema.get("items", schema.get("values"))
        return items == "null" or _zero_width_items(items)
    return any(_zero_width_items(field["type"]) for field in schema.get("fields", ()))


def test_ids_are_distinct_and_every_subject_has_one() -> None:
    ids = json.loads((FOLDER / "ids.json").read_text())
    assert len(set(ids.values())) == len(ids)
    table = SchemaTable.committed()
    assert set(table.subjects()) == {topic.subject(record) for topic in TOPICS.values() for record in topic.records}


def test_a_registrys_ids_replace_ours() -> None:
    table = SchemaTable.committed()
    moved = table.with_ids({subject: number + 1000 for subject, number in table.subjects().items()})
    subject, number = next(iter(table.subjects().items()))
    assert moved.id_of(subject) == number + 1000
    assert moved.writer(number + 1000) == table.writer(number)
    assert moved.writer(number) is None


def test_money_topics_have_one_partition_and_every_routed_type_one_topic() -> None:
    assert all(topic.spread is Spread.SINGLE for topic in TOPICS.values() if topic.money)
    for record, topic in ROUTES.items():
        assert record in topic.records


def test_a_type_without_an_avro_form_is_an_error() -> None:
    kind = msgspec.defstruct("Odd", [("field", int | str)], module="schemas.odd")
    with pytest.raises(TypeError):
        avro_schema(kind)
