"""Whether two versions of a schema can read each other's records, both ways: FULL, and over all versions TRANSITIVE.

The rules are Apache Avro's own library's. It leaves out logical types, though, and a decimal read with another scale
is a wrong amount of money: here a changed logical type is a changed type.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException


class Version(NamedTuple):
    """A version of a subject: what people call it, and its schema."""

    name: str
    schema: Mapping[str, Any]


def first_difference(new: Mapping[str, Any], former: Iterable[Version]) -> str | None:
    """Return a sentence about the first former version that ``new`` cannot read or be read by, or None."""
    for version in former:
        for reader, writer, way in ((new, version.schema, "cannot read"), (version.schema, new, "cannot be read by")):
            reason = _incompatibility(reader, writer)
            if reason is not None:
                return f"{way} {version.name}: {reason}"
    return None


def _incompatibility(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> str | None:
    try:
        reads, writes = (avro.schema.parse(json.dumps(_LogicalTypes().marked(schema))) for schema in (reader, writer))
    except AvroException as error:
        return f"not an Avro schema: {error}"
    checker: Any = ReaderWriterCompatibilityChecker
    result = checker().get_compatibility(reads, writes)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return None
    kinds = ", ".join(dict.fromkeys(kind.value.replace("_", " ") for kind in result.incompatibilities))
    places = ", ".join(sorted(result.locations - {"/"})) or "/"
    return f"{kinds} at {places} ({'; '.join(sorted(result.messages))})"


class _LogicalTypes:
    """Rewrites a schema so that a logical type is a named type, and its name says everything that belongs to it."""

    def __init__(self) -> None:
        self._defined: set[str] = set()

    def marked(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self.marked(branch) for branch in schema]
        if not isinstance(schema, Mapping):
            return schema
        if "logicalType" in schema:
            facts = (schema["logicalType"], schema["type"], schema.get("precision", ""), schema.get("scale", 0))
            name = "_".join(str(fact).replace("-", "_") for fact in facts)
            if name in self._defined:
                return f"logical.{name}"
            self._defined.add(name)
            return {"type": "fixed", "name": name, "namespace": "logical", "size": 1}
        changed = {key: self.marked(schema[key]) for key in ("type", "items", "values") if key in schema}
        if "fields" in schema:
            changed["fields"] = [self._field(field) for field in schema["fields"]]
        return {**schema, **changed}

    def _field(self, field: Mapping[str, Any]) -> dict[str, Any]:
        changed = {**field, "type": self.marked(field["type"])}
        if "default" in changed and _is_logical(changed["type"]):
            # Of a fixed type no text is a default; what counts is only that there is one.
            changed["default"] = "\u0000"
        return changed


def _is_logical(kind: Any) -> bool:
    if isinstance(kind, list):
        return bool(kind) and _is_logical(kind[0])
    name = kind.get("namespace", "") if isinstance(kind, Mapping) else str(kind).rpartition(".")[0]
    return bool(name == "logical")
