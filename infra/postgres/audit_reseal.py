"""Goes on with a stream that somebody has changed: a person says why, and the chain says so from then on.

What was changed stays found: nothing before is signed anew. The head is set to the newest row that is there, and the
next row, signed, holds who did it, why, and what the verifier had said.
"""

import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
from psycopg import Connection
from psycopg.rows import tuple_row

from infra.audit_keys import AuditKeys
from infra.postgres.audit_record import START, Entry, sealed_head, signed_row
from infra.postgres.audit_verify import Finding, newest_ordinal, read_rows

RESEALED: Final = "Resealed"
_HEAD: Final = (
    "INSERT INTO audit_heads (stream, ordinal, mac, key_id, seal) VALUES (%s, %s, %s, %s, %s) ON CONFLICT (stream)"
    " DO UPDATE SET ordinal = excluded.ordinal, mac = excluded.mac, key_id = excluded.key_id, seal = excluded.seal,"
    " updated_at = clock_timestamp()"
)
_ROW: Final = (
    "INSERT INTO audit_rows (stream, ordinal, event_id, kind, content, created_at_ns, key_id, previous, mac)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


@dataclass(frozen=True, slots=True)
class Reseal:
    """A person's order to go on with a stream, and what the verifier says of it."""

    stream: str
    author: str
    why: str
    finding: Finding | None


def reseal(connection: Connection[Any], keys: AuditKeys, order: Reseal) -> int:
    """Set the head to the newest row and chain the order after it; return the ordinal of the new row.

    The connection is the owner's, in autocommit. Raises psycopg.Error, and ValueError without an author or a reason.
    """
    if not order.author.strip() or not order.why.strip():
        raise ValueError("A reseal needs an author and a reason.")
    with connection.transaction():
        connection.execute("SET LOCAL tradermind.audit_maintenance = 'on'")
        connection.execute("LOCK TABLE audit_heads IN SHARE ROW EXCLUSIVE MODE")
        newest = newest_ordinal(connection, order.stream)
        before = read_rows(connection, order.stream, newest, newest)
        former = (
            connection.cursor(row_factory=tuple_row)
            .execute("SELECT ordinal, encode(mac, 'hex') FROM audit_heads WHERE stream = %s", (order.stream,))
            .fetchone()
        )
        said: dict[str, Any] = {"author": order.author, "why": order.why, "former_head": former, "newest": newest}
        said["finding"] = None if order.finding is None else asdict(order.finding)
        entry = Entry(f"reseal/{uuid.uuid4().hex}", RESEALED, msgspec.json.encode(said, order="deterministic"))
        head = sealed_head(keys, order.stream, newest, before[0].mac if before else START)
        row = signed_row(keys, head, entry, time.time_ns())
        connection.execute(
            _ROW,
            (
                *(row.stream, row.ordinal, row.event_id, row.kind, row.content, row.created_at_ns),
                *(row.key_id, row.previous, row.mac),
            ),
        )
        head = sealed_head(keys, order.stream, row.ordinal, row.mac)
        connection.execute(_HEAD, (head.stream, head.ordinal, head.mac, head.key_id, head.seal))
    return row.ordinal
