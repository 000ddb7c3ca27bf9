"""What was done to a row whose mac does not fit: told by where its mac would fit, and by the rows after it.

A mac covers its row's ordinal. So a row that was moved still fits its old ordinal; after an insertion the rows that
follow fit the ordinal below their own; and where nothing fits any more, all of it was written anew without the key.
"""

import enum
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Final, Protocol

from infra.audit_keys import AuditKeys
from infra.postgres.audit_record import AuditRow, Head, is_sealed

_SHIFTS: Final = tuple(chain.from_iterable((-step, step) for step in range(1, 65)))
_LOOKED_AT: Final = 100
"""In so many rows after one that does not fit, a shift of all ordinals is looked for."""


class Tampering(enum.StrEnum):
    """What can be done to a chain by whoever has the database and not the key."""

    EDITED = "EDITED"
    DELETED = "DELETED"
    INSERTED = "INSERTED"
    SWAPPED = "SWAPPED"
    TRUNCATED = "TRUNCATED"
    RECHAINED = "RECHAINED"


class Rows(Protocol):
    """The stream that a row is of, and the keys."""

    @property
    def keys(self) -> AuditKeys: ...

    def is_signed(self, row: AuditRow) -> bool:
        """Tell whether a row is as it was signed."""

    def rows(self, stream: str, first: int = ..., last: int = ...) -> Iterator[AuditRow]:
        """Yield rows by their ordinal."""

    def newest(self, stream: str) -> int:
        """Return the highest ordinal, 0 without a row."""


def why_not_signed(rows: Rows, row: AuditRow, head: Head | None) -> tuple[Tampering, str]:
    """Return what was done at a row, the first whose mac does not fit, and a sentence that says how it shows."""
    here = row.ordinal
    if row.key_id not in rows.keys.by_id:
        return Tampering.RECHAINED, f"row {here} is signed with a key {row.key_id!r} that is none of ours"
    return _moved(rows, row) or _exchanged(rows, row) or _by_what_follows(rows, row, head)


def _moved(rows: Rows, row: AuditRow) -> tuple[Tampering, str] | None:
    """Tell where the row was before, when it is as it was signed but for its ordinal."""
    here = row.ordinal
    places = range(1, rows.newest(row.stream) + len(_SHIFTS))
    there = next((place for place in places if _fits_at(rows, row, place)), None)
    if there is None:
        return None
    if any(same.mac == row.mac for same in rows.rows(row.stream) if same.ordinal != here):
        return Tampering.INSERTED, f"row {here} is a copy of the row that was written as row {there}"
    other = next(rows.rows(row.stream, there, there), None)
    if other is not None and _fits_at(rows, other, here):
        return Tampering.SWAPPED, f"row {here} was written as row {there}, and row {there} as row {here}"
    if there > here:
        return Tampering.DELETED, f"row {here} was written as row {there}: rows before it are gone"
    return Tampering.INSERTED, f"row {here} was written as row {there}: rows before it are not ours"


def _exchanged(rows: Rows, row: AuditRow) -> tuple[Tampering, str] | None:
    """Tell with which row it has exchanged what it says."""
    for other in rows.rows(row.stream, 1):
        content = replace(row, content=other.content)
        whole = replace(content, event_id=other.event_id, kind=other.kind)
        timed = replace(whole, created_at_ns=other.created_at_ns)
        if other.ordinal != row.ordinal and any(rows.is_signed(was) for was in (content, whole, timed)):
            return Tampering.SWAPPED, f"row {row.ordinal} says what row {other.ordinal} was written to say"
    return None


def _by_what_follows(rows: Rows, row: AuditRow, head: Head | None) -> tuple[Tampering, str]:
    here, last = row.ordinal, row
    for number, after in enumerate(rows.rows(row.stream, here + 1)):
        last = after
        if rows.is_signed(after):
            return Tampering.EDITED, f"row {here} is not what was signed, and rows after it are"
        if number < _LOOKED_AT and (step := _shift(rows, after)):
            if step < 0:
                return Tampering.INSERTED, f"row {here} was never signed, and row {after.ordinal} was {-step} lower"
            return Tampering.DELETED, f"after row {here}, row {after.ordinal} was {step} higher"
    if head is not None and is_sealed(rows.keys, head):
        if here > head.ordinal:
            return Tampering.INSERTED, f"row {here} was never signed, and lies after the last that was"
        if head.mac == last.mac:
            return Tampering.EDITED, f"row {here} is not what was signed, and the last row's mac is as it was"
    return Tampering.RECHAINED, f"from row {here} on, nothing is signed with a key of ours"


def _shift(rows: Rows, row: AuditRow) -> int:
    """Return by how much a row's ordinal was higher when it was signed, 0 when no near one fits."""
    return next((step for step in _SHIFTS if _fits_at(rows, row, row.ordinal + step)), 0)


def _fits_at(rows: Rows, row: AuditRow, ordinal: int) -> bool:
    return ordinal != row.ordinal and rows.is_signed(replace(row, ordinal=ordinal))
