"""The committed schemas are the contract: fresh, valid, stable in their ids, and free of what can bomb a reader."""

import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from schemas.avro_schema import avro_schema
from schemas.generate import ASYNCAPI, FOLDER, asyncapi_text, generated_files, write
from schemas.schema_table import SchemaTable, committed_versions, schema_fingerprint
from schemas.topics import INGEST_TRADE, ROUTES, TOPICS, Spread


def test_the_committed_files_are_what_the_event_types_say() -> None:
    expected = generated_files()
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == expected, "run: python -m schemas.generate"


def test_the_committed_asyncapi_document_is_what_the_topic_table_says() -> None:
    assert ASYNCAPI.read_text() == asyncapi_text(), "run: python -m schemas.generate"


def test_a_released_version_stays_and_a_change_after_it_is_the_next_one(tmp_path: Path) -> None:
    write(tmp_path, release=True)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    write(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    stem = INGEST_TRADE.subject(INGEST_TRADE.records[0])
    # As if the type had since been given a field: what was released differs from what the type says now.
    former = json.loads(before[f"{stem}.v1.avsc"])
    former["fields"].pop()
    (tmp_path / f"{stem}.v1.avsc").write_text(json.dumps(former))
    released = json.loads(before["released.json"]) | {f"{stem}.v1": schema_fingerprint(former)}
    (tmp_path / "released.json").write_text(json.dumps(released))
    write(tmp_path)
    versions = committed_versions(tmp_path)[stem]
    assert list(versions) == [1, 2]
    assert versions[1] == former
    assert len(versions[2]["fields"]) == len(former["fields"]) + 1
    write(tmp_path)
    assert list(committed_versions(tmp_path)[stem]) == [1, 2]


def test_what_was_released_is_never_edited() -> None:
    released = FOLDER / "released.json"
    for stem, fingerprint in (json.loads(released.read_text()) if released.exists() else {}).items():
        assert schema_fingerprint(json.loads((FOLDER / f"{stem}.avsc").read_text())) == fingerprint, stem


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
