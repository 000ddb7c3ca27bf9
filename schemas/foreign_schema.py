"""Schemas that others have registered, looked at before a record is decoded with one.

A schema is a program for the decoder: one that refers to itself can nest without end, and an array whose items take
no bytes can claim any number of them in a record of ten. Both are refused, whoever registered them.
"""

from collections.abc import Mapping
from typing import Any, Final

from schemas.schema_table import WriterSchema, parsed_schema, schema_fingerprint

_PARTS_MAX: Final = 5_000
_DEPTH_MAX: Final = 32
_PRIMITIVES: Final = frozenset(("null", "boolean", "int", "long", "float", "double", "bytes", "string"))


class ForeignSchemaRefused(ValueError):
    """A schema that records are not read with, and why."""


def foreign_writer(schema: Any) -> WriterSchema:
    """Return a registered schema as what a record was written with. Raises ForeignSchemaRefused."""
    if not isinstance(schema, Mapping) or schema.get("type") != "record":
        raise ForeignSchemaRefused("it is no record")
    _Inspection().width_min(schema, "", 0)
    try:
        parsed = parsed_schema(schema)
    except Exception as error:
        # fastavro reports a schema that is none by whatever it tripped over.
        raise ForeignSchemaRefused(f"{type(error).__name__}: {str(error)[:200]}") from error
    return WriterSchema(str(schema["name"]).rpartition(".")[2], parsed, schema_fingerprint(schema))


class _Inspection:
    """One walk over a schema, which finds the fewest bytes that a value of each type takes."""

    def __init__(self) -> None:
        self._parts = 0
        self._named: dict[str, int | None] = {}

    def width_min(self, schema: Any, space: str, depth: int) -> int:
        """Return the fewest bytes of a value. ``space`` is the namespace around it; None in _named is still open."""
        self._parts += 1
        if self._parts > _PARTS_MAX or depth > _DEPTH_MAX:
            raise ForeignSchemaRefused(f"it has more than {_PARTS_MAX} parts or {_DEPTH_MAX} levels")
        if isinstance(schema, list):
            for branch in schema:
                self.width_min(branch, space, depth + 1)
            return 1
        if isinstance(schema, str):
            return self._width_of_name(schema, space)
        if not isinstance(schema, Mapping):
            raise ForeignSchemaRefused("it is no Avro schema")
        return self._width_of_complex(schema, space, depth)

    def _width_of_name(self, name: str, space: str) -> int:
        if name in _PRIMITIVES:
            return 0 if name == "null" else 1
        full = name if "." in name or not space else f"{space}.{name}"
        if full not in self._named:
            raise ForeignSchemaRefused(f"it names {full[:100]!r}, which it does not define")
        width = self._named[full]
        if width is None:
            raise ForeignSchemaRefused(f"{full[:100]!r} holds itself")
        return width

    def _width_of_complex(self, schema: Mapping[str, Any], space: str, depth: int) -> int:
        kind = schema.get("type")
        if kind == "array":
            if self.width_min(schema.get("items"), space, depth + 1) == 0:
                raise ForeignSchemaRefused("the items of an array take no bytes")
            return 1
        if kind == "map":
            self.width_min(schema.get("values"), space, depth + 1)
            return 1
        if kind in ("record", "enum", "fixed"):
            return self._width_of_named(schema, space, depth)
        return self.width_min(kind, space, depth + 1)

    def _width_of_named(self, schema: Mapping[str, Any], space: str, depth: int) -> int:
        name, own = str(schema.get("name")), str(schema.get("namespace") or space)
        full = name if "." in name or not own else f"{own}.{name}"
        self._named[full] = None
        width = 1
        if schema["type"] == "record":
            inner = full.rpartition(".")[0]
            fields = schema.get("fields")
            if not isinstance(fields, list) or not all(isinstance(field, Mapping) for field in fields):
                raise ForeignSchemaRefused("a record of it has no fields")
            width = sum(self.width_min(field.get("type"), inner, depth + 1) for field in fields)
        elif schema["type"] == "fixed":
            width = int(schema.get("size") or 0)
        self._named[full] = width
        return width
