"""An audit on the real Postgres for tests: how it is written, and how somebody with the database changes it."""

import asyncio
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import psycopg
from every_event import example
from psycopg.rows import dict_row

from infra.audit_keys import ANCHORS_NAME, KEYS_NAME, AuditKeys, load_keys
from infra.postgres.audit_anchors import Anchor, AnchorFile, read_anchors
from infra.postgres.audit_chain import AuditChain
from infra.postgres.audit_record import ORDERS, START, STREAMS, AuditRow, Entry, Head, sealed_head, signed_row
from infra.postgres.audit_verify import StreamReport, Verifier, read_rows
from infra.postgres.projections import Projections
from schemas.event import Event
from schemas.orders import OrderEvent

KEYS = AuditKeys({"one": b"k" * 32}, "one")
STRANGERS_KEYS = AuditKeys({"one": b"s" * 32}, "one")
Rows = list[AuditRow]


def order_events(count: int, first: int = 1) -> list[Event]:
    """Return events of the orders stream, each with an id of its own."""
    return [example(OrderEvent, event_id=f"{number:032x}") for number in range(first, first + count)]


def write(dsn: str, *batches: Sequence[Event], keys: AuditKeys = KEYS, anchors: AnchorFile | None = None) -> AuditChain:
    """Write batches through one sink's projections, each a transaction; return the chain that wrote them."""

    async def run() -> AuditChain:
        chain = AuditChain(keys, anchors)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            projections = Projections(connection, chain)
            for batch in batches:
                await projections.write(batch)
        return chain

    return asyncio.run(run())


def verified(
    dsn: str, stream: str = ORDERS, keys: AuditKeys = KEYS, anchors: Sequence[Anchor] = (), first: int = 1
) -> StreamReport:
    """Return what the verifier says of a stream from a row on."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        return Verifier(connection, keys, anchors).verify(stream, first)


def assert_it_holds_the_record(dsn: str, run: Path) -> None:
    """The audit of a run is sound by its keys and anchors, and has exactly the events that the tables have."""
    keys, anchors = load_keys(run / KEYS_NAME), read_anchors(run / ANCHORS_NAME)
    reports = [verified(dsn, stream, keys, anchors) for stream in STREAMS]
    assert [report.finding for report in reports] == [None] * len(STREAMS)
    assert sum(report.anchors for report in reports) > 0
    with psycopg.connect(dsn) as connection:
        unequal = connection.execute(
            "SELECT coalesce(a.event_id, r.event_id) FROM ("
            "   SELECT event_id::text FROM audit_rows WHERE kind NOT IN ('commands', 'dead_letter_actions',"
            "       'topic_rescales', 'restores', 'change_proposals', 'change_approvals', 'model_refusals')) AS a"
            "   FULL JOIN ("
            "   SELECT event_id::text FROM order_events UNION ALL SELECT event_id FROM fills"
            "   UNION ALL SELECT event_id FROM order_verdicts UNION ALL SELECT event_id FROM decisions"
            "   UNION ALL SELECT event_id FROM command_events UNION ALL SELECT event_id FROM model_releases"
            "   UNION ALL SELECT event_id FROM control_outcomes) AS r"
            " USING (event_id) WHERE a.event_id IS NULL OR r.event_id IS NULL LIMIT 5"
        ).fetchall()
    assert unequal == []


def anchor_file(folder: Path, *, rows: int = 1, interval_s: float = 3600.0) -> AnchorFile:
    """Return a writer of anchors in a folder."""
    return AnchorFile(folder / "audit.anchors", rows=rows, interval_s=interval_s)


def stored(dsn: str, stream: str = ORDERS) -> Rows:
    """Return a stream's rows as they lie there."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return read_rows(connection, stream, 1, 2**62)


def put_guards_aside(dsn: str) -> None:
    """Do what somebody who owns the database can do first: away with triggers and keys of the tables."""
    with psycopg.connect(dsn) as connection:
        for table in ("audit_rows", "audit_heads"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        connection.execute("ALTER TABLE audit_rows DROP CONSTRAINT audit_rows_pkey")
        connection.execute("DROP INDEX audit_rows_event")


def replace_stream(dsn: str, rows: Rows, head: Head | None) -> None:
    """Put rows and head in the place of the orders stream's."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_rows WHERE stream = %s", (ORDERS,))
        cursor.execute("DELETE FROM audit_heads WHERE stream = %s", (ORDERS,))
        cursor.executemany(
            "INSERT INTO audit_rows (stream, ordinal, event_id, kind, content, created_at_ns, key_id, previous, mac)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [astuple(row) for row in rows],
        )
        if head is not None:
            cursor.execute(
                "INSERT INTO audit_heads (stream, ordinal, mac, key_id, seal) VALUES (%s, %s, %s, %s, %s)",
                astuple(head),
            )


def a_chain(count: int, keys: AuditKeys = KEYS) -> tuple[Rows, Head]:
    """Return a sound chain of the orders stream."""
    rows: Rows = []
    head = sealed_head(keys, ORDERS)
    for number in range(1, count + 1):
        entry = Entry(f"{number:032x}", "OrderEvent", f'{{"quantity":{number}}}'.encode())
        rows.append(signed_row(keys, head, entry, 1_700_000_000_000_000_000 + number))
        head = sealed_head(keys, ORDERS, number, rows[-1].mac)
    return rows, head


def edited(rows: Rows, place: int, column: str) -> Rows:
    """Change one column of the row at ``place`` (from 1)."""
    row = rows[place - 1]
    other = {
        "content": row.content + b" ",
        "event_id": "f" * 32,
        "kind": "Fill",
        "created_at_ns": row.created_at_ns - 1,
        "mac": bytes(32),
        "previous": b"\x01" * 32,
    }
    return [*rows[: place - 1], replace(row, **{column: other[column]}), *rows[place:]]  # type: ignore[arg-type]


def deleted(rows: Rows, place: int, *, renumbered: bool) -> Rows:
    """Take a row away, and move what follows up, if asked."""
    rest = [replace(row, ordinal=row.ordinal - 1) if renumbered else row for row in rows[place:]]
    return [*rows[: place - 1], *rest]


def inserted(rows: Rows, place: int, row: AuditRow) -> Rows:
    """Put a row before the one at ``place``, and move what follows down."""
    rest = [replace(after, ordinal=after.ordinal + 1) for after in rows[place - 1 :]]
    return [*rows[: place - 1], replace(row, ordinal=place), *rest]


def a_forged_row(rows: Rows, place: int) -> AuditRow:
    """Return a row as a stranger would write it for ``place``: linked to the row before, under a key of his own."""
    before = Head(ORDERS, place - 1, rows[place - 2].mac if place > 1 else START, "one", b"")
    return signed_row(STRANGERS_KEYS, before, Entry("e" * 32, "Fill", b'{"quantity":1}'), 1_700_000_000_000_000_000)


def swapped(rows: Rows, one: int, other: int, *, whole: bool) -> Rows:
    """Exchange two rows: whole ones, under each other's ordinal, or only what they say."""
    changed = list(rows)
    first, second = rows[one - 1], rows[other - 1]
    if whole:
        changed[one - 1] = replace(second, ordinal=one)
        changed[other - 1] = replace(first, ordinal=other)
    else:
        changed[one - 1] = replace(first, event_id=second.event_id, kind=second.kind, content=second.content)
        changed[other - 1] = replace(second, event_id=first.event_id, kind=first.kind, content=first.content)
    return changed


def rechained(rows: Rows, place: int, keys: AuditKeys) -> tuple[Rows, Head]:
    """Change a row and write anew, under other keys, every mac from there on; return the head that fits, too."""
    changed = edited(rows, place, "content")
    last = rows[place - 2].mac if place > 1 else START
    head = Head(ORDERS, place - 1, last, "one", b"")
    for number in range(place - 1, len(rows)):
        row = changed[number]
        changed[number] = signed_row(keys, head, Entry(row.event_id, row.kind, row.content), row.created_at_ns)
        head = sealed_head(keys, ORDERS, row.ordinal, changed[number].mac)
    return changed, head
