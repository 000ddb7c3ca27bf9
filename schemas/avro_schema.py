"""Event type -> Avro schema, by introspection. The result is committed under ``schemas/avro`` and reviewed there."""

import enum
import types
import typing
from decimal import Decimal
from typing import Any

import msgspec

from schemas.values import MONEY_PLACES

_PRIMITIVES: dict[Any, Any] = {
    int: "long",
    float: "double",
    str: "string",
    bool: "boolean",
    bytes: "bytes",
    Decimal: {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": MONEY_PLACES},
}
_ABSENT_SYMBOL = "UNRECOGNISED"


def avro_schema(record: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the Avro schema of an event type. Raises TypeError for a field type that Avro cannot hold."""
    return _record(record, set())


def _namespace(kind: type) -> str:
    return "tradermind." + kind.__module__.removeprefix("schemas.")


def _record(record: type[msgspec.Struct], named: set[str]) -> dict[str, Any]:
    name = f"{_namespace(record)}.{record.__name__}"
    named.add(name)
    hints = typing.get_type_hints(record)
    fields = [_field(field, hints[field.name], named) for field in msgspec.structs.fields(record)]
    doc = " ".join((record.__doc__ or "").split())
    return {"type": "record", "name": record.__name__, "namespace": _namespace(record), "doc": doc, "fields": fields}


def _field(field: msgspec.structs.FieldInfo, hint: Any, named: set[str]) -> dict[str, Any]:
    result: dict[str, Any] = {"name": field.name, "type": _type(hint, named)}
    if field.default_factory is not msgspec.NODEFAULT:
        default: Any = field.default_factory()
    else:
        default = field.default
    if default is not msgspec.NODEFAULT:
        result["default"] = list(default) if isinstance(default, tuple) else default
    elif isinstance(result["type"], list) and result["type"][0] == "null":
        result["default"] = None
    return result


def _type(hint: Any, named: set[str]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        if len(rest) != 1 or len(arguments) != 2:
            raise TypeError(f"{hint}: only 'T | None' unions are allowed")
        return ["null", _type(rest[0], named)]
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _type(arguments[0], named)}
    if origin is dict and arguments[0] is str:
        return {"type": "map", "values": _type(arguments[1], named)}
    if isinstance(hint, type):
        return _named_type(hint, named)
    raise TypeError(f"{hint} has no Avro form")


def _named_type(kind: type, named: set[str]) -> Any:
    name = f"{_namespace(kind)}.{kind.__name__}"
    if name in named:
        return name
    if issubclass(kind, enum.Enum):
        named.add(name)
        symbols = [str(member.value) for member in kind] + [_ABSENT_SYMBOL]
        return {
            "type": "enum",
            "name": kind.__name__,
            "namespace": _namespace(kind),
            "symbols": symbols,
            "default": _ABSENT_SYMBOL,
        }
    if issubclass(kind, msgspec.Struct):
        return _record(kind, named)
    raise TypeError(f"{kind} has no Avro form")
