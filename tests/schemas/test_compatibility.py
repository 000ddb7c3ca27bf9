"""Compatibility both ways, held against what fastavro really reads."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from schemas.compatibility import Version, first_difference
from schemas.schema_table import subject_schemas

SUBJECTS = subject_schemas()
EXAMPLES = Path(__file__).resolve().parents[2] / "schemas" / "examples" / "accepted"
ORDER = SUBJECTS["tradermind.account.event.v1-Fill"]


def _changed(change: Any) -> dict[str, Any]:
    schema = copy.deepcopy(ORDER)
    change(schema)
    return schema


def _add(field: dict[str, Any]) -> Any:
    return lambda schema: schema["fields"].append(field)


def _decimal(schema: Any) -> Any:
    return next(f["type"] for f in schema["fields"] if isinstance(f["type"], dict) and "logicalType" in f["type"])


def _rename(schema: Any) -> None:
    schema["fields"][-1]["name"] = "renamed"
    schema["fields"][-1].pop("default", None)


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_a_schema_is_compatible_with_itself(subject: str) -> None:
    assert first_difference(SUBJECTS[subject], [Version("itself", copy.deepcopy(SUBJECTS[subject]))]) is None


@pytest.mark.parametrize(
    "change",
    [
        _add({"name": "added", "type": ["null", "string"], "default": None}),
        _add({"name": "added", "type": "long", "default": 0}),
        lambda schema: schema.update(doc="other words"),
    ],
)
def test_what_may_change(change: Any) -> None:
    assert first_difference(_changed(change), [Version("v1", ORDER)]) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_add({"name": "added", "type": "long"}), "cannot read v1: reader field missing default value"),
        (lambda schema: schema["fields"].pop(0), "cannot be read by v1: reader field missing default value"),
        (_rename, "reader field missing default value"),
        (lambda schema: schema["fields"][1].update(type="string"), "type mismatch"),
        (lambda schema: schema["fields"][1].update(type="double"), "cannot be read by v1: type mismatch"),
        (lambda schema: schema.update(name="Other"), "name mismatch"),
        (lambda schema: _decimal(schema).update(scale=2), "name mismatch"),
        (lambda schema: _decimal(schema).pop("logicalType"), "type mismatch"),
        (lambda schema: schema["fields"][0].update(type="nonsense"), "not an Avro schema"),
    ],
)
def test_what_may_not_change(change: Any, words: str) -> None:
    found = first_difference(_changed(change), [Version("v1", ORDER)])
    assert found is not None and words in found, found


def test_the_first_of_several_former_versions_is_named() -> None:
    new = _changed(_add({"name": "added", "type": "long", "default": 0}))
    third = copy.deepcopy(new)
    third["fields"][-1]["type"] = "string"
    third["fields"][-1]["default"] = ""
    found = first_difference(new, [Version("v1", ORDER), Version("v2", third), Version("v3", third)])
    assert found is not None and found.startswith("cannot read v2: type mismatch"), found


def test_what_is_called_compatible_fastavro_reads_both_ways() -> None:
    example = EXAMPLES / "tradermind.account.event.v1-Fill.v1.json"
    framed = bytes.fromhex(json.loads(example.read_text())["framed_hex"])[5:]
    new = _changed(_add({"name": "added", "type": "long", "default": 7}))
    assert first_difference(new, [Version("v1", ORDER)]) is None
    forward = fastavro.schemaless_reader(io.BytesIO(framed), copy.deepcopy(ORDER), copy.deepcopy(new))
    assert forward["added"] == 7
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, copy.deepcopy(new), forward)
    buffer.seek(0)
    back = fastavro.schemaless_reader(buffer, copy.deepcopy(new), copy.deepcopy(ORDER))
    assert back | {"added": 7} == forward
