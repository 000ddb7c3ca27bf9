"""Schemas of others: what a decoder may be given, and what would make it work without end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.foreign_schema import ForeignSchemaRefused, foreign_writer
from schemas.schema_table import SchemaTable, subject_schemas


def _record(*fields: Any, **more: Any) -> dict[str, Any]:
    named = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(fields)]
    return {"type": "record", "name": "R", "namespace": "n", "fields": named, **more}


@pytest.mark.parametrize("subject", sorted(subject_schemas()))
def test_every_schema_of_ours_would_be_taken_from_others(subject: str) -> None:
    schema = subject_schemas()[subject]
    writer = foreign_writer(schema)
    table = SchemaTable.committed()
    assert writer.fingerprint == table.writer(table.id_of(subject)).fingerprint  # type: ignore[union-attr]
    assert writer.record_name == schema["name"]


_EMPTY = {"type": "record", "name": "E", "fields": []}
_DEEP: Any = "long"
for _ in range(40):
    _DEEP = {"type": "array", "items": _DEEP}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("long", "no record"),
        ({"type": "array", "items": "long"}, "no record"),
        (_record({"type": "array", "items": "null"}), "take no bytes"),
        (_record({"type": "array", "items": _EMPTY}), "take no bytes"),
        (_record(_EMPTY, {"type": "array", "items": "E"}), "take no bytes"),
        (_record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}), "take no bytes"),
        (_record(["null", "n.R"]), "holds itself"),
        (_record(["null", "R"]), "holds itself"),
        (_record("n.Other"), "does not define"),
        (_record(_DEEP), "levels"),
        (_record(*["long"] * 6_000), "parts"),
        ({"type": "record", "name": "R"}, "no fields"),
        (_record({"type": "enum", "name": "1 2", "symbols": ["a b"]}), "Exception"),
    ],
)
def test_what_could_bomb_a_reader_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(ForeignSchemaRefused, match=reason):
        foreign_writer(schema)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["long", "null", "record", "array", "R", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "name", "fields", "items", "values", "size", "symbols"]), inner)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_anything_at_all_is_taken_or_refused(schema: Any) -> None:
    try:
        writer = foreign_writer(schema)
    except ForeignSchemaRefused:
        return
    assert json.dumps(schema)
    assert writer.record_name
