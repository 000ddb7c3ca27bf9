"""The first place where a recomputation and the log part, in words and as data: which input, which output."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from schemas.event import Event

ABSENT: Final = "absent"
_KEPT_TYPES: Final = (Decimal,)
_SHOWN_MOST: Final = 200


@dataclass(frozen=True, slots=True)
class InputPlace:
    """The input whose step gave an output: a record of Kafka or of a capture, or one that came another way.

    ``batch`` is the one that stepped it, in a stage that journals batches. ``lane`` is ``topic/partition``.
    """

    kind: str = ""
    event_id: str = ""
    lane: str | None = None
    offset: int | None = None
    batch: int | None = None

    def __str__(self) -> str:
        name = self.kind or "the input"
        if self.lane is not None:
            place = f"{name} at offset {self.offset} of {self.lane}"
        elif self.offset is not None:
            place = f"{name} of record {self.offset}"
        else:
            place = f"{name}, which did not come by Kafka" if self.kind else f"{name} {self.event_id}"
        return place if self.batch is None else f"{place}, in batch {self.batch}"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One value that differs: where in the event, and what each side has there."""

    path: str
    recomputed: str
    logged: str


@dataclass(frozen=True, slots=True)
class Difference:
    """The first diverging output. None on a side says that it has no such record.

    ``number`` is the output's seq in ``source``; ``offset`` is where the log's side lies.
    """

    source: str
    topic: str
    partition: int
    number: int
    cause: InputPlace
    recomputed: Event | None
    logged: Event | None
    offset: int | None = None
    fields: tuple[FieldDifference, ...] = ()

    def __str__(self) -> str:
        place = f"output {self.number} on {self.topic}/{self.partition}"
        if self.logged is None:
            what = f"{place} is not in the log"
        elif self.recomputed is None:
            what = f"{place} is in the log, but does not follow from the inputs"
        else:
            names = ", ".join(field.path for field in self.fields[:4])
            more = f" and {len(self.fields) - 4} more" if len(self.fields) > 4 else ""
            what = f"{place} differs in {names}{more}"
        return f"{what}; it came of {self.cause}."

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        return {
            "source": self.source,
            "topic": self.topic,
            "partition": self.partition,
            "seq": self.number,
            "offset": self.offset,
            "input": {name: getattr(self.cause, name) for name in InputPlace.__dataclass_fields__},
            "fields": [{"path": f.path, "recomputed": f.recomputed, "logged": f.logged} for f in self.fields],
            "recomputed": None if self.recomputed is None else _whole(self.recomputed),
            "logged": None if self.logged is None else _whole(self.logged),
        }


def field_differences(recomputed: Any, logged: Any, path: str = "") -> Iterator[FieldDifference]:
    """Yield every value in which two events, or two parts of them, differ, in the order of the fields."""
    if isinstance(recomputed, msgspec.Struct) and isinstance(logged, msgspec.Struct):
        kinds = (type(recomputed).__name__, type(logged).__name__)
        if kinds[0] != kinds[1]:
            yield FieldDifference(path or "type", *kinds)
        recomputed, logged = _plain(recomputed), _plain(logged)
    if isinstance(recomputed, dict) and isinstance(logged, dict):
        for key in {**recomputed, **logged}:
            yield from field_differences(
                recomputed.get(key, _Absent), logged.get(key, _Absent), f"{path}.{key}" if path else str(key)
            )
    elif isinstance(recomputed, list | tuple) and isinstance(logged, list | tuple):
        for number in range(max(len(recomputed), len(logged))):
            one, other = (side[number] if number < len(side) else _Absent for side in (recomputed, logged))
            yield from field_differences(one, other, f"{path}[{number}]")
    elif repr(recomputed) != repr(logged):
        yield FieldDifference(path, _shown(recomputed), _shown(logged))


class _Absent:
    """Stands for a value that one side does not have."""


def _shown(value: Any) -> str:
    if value is _Absent:
        return ABSENT
    text = repr(value)
    return text if len(text) <= _SHOWN_MOST else f"{text[:_SHOWN_MOST]}..."


def _plain(event: msgspec.Struct) -> Any:
    return msgspec.to_builtins(event, builtin_types=_KEPT_TYPES)


def _whole(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {"type": type(event).__name__} | fields
