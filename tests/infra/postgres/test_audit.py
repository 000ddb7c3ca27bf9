"""The audit: everything is chained once, in order, whoever writes and however often it comes."""

import psycopg
import pytest
from audit_stories import order_events, verified, write
from every_event import RECORDS, example

from infra.postgres.audit_record import COMMANDS, DECISIONS, ORDERS, STREAM_OF
from infra.postgres.migrate import migrate

pytestmark = pytest.mark.embedded


@pytest.fixture
def records(database: str) -> str:
    """The DSN of a database with our tables."""
    migrate(database)
    return database


def chained(dsn: str, stream: str) -> list[tuple[int, str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT ordinal, kind, event_id FROM audit_rows WHERE stream = %s ORDER BY ordinal", (stream,)
        ).fetchall()


def test_every_event_of_orders_decisions_and_commands_is_chained_and_nothing_else(records: str) -> None:
    write(records, [example(record) for record in RECORDS])
    kinds = {stream: {kind for _, kind, _ in chained(records, stream)} for stream in (ORDERS, DECISIONS, COMMANDS)}
    assert kinds == {
        ORDERS: {"OrderApproved", "OrderDenied", "OrderEvent", "Fill"},
        DECISIONS: {"Decision"},
        COMMANDS: {"ControlCommand", "ModelRelease"},
    }
    assert {kind for listed in kinds.values() for kind in listed} == {record.__name__ for record in STREAM_OF}
    assert all(verified(records, stream).finding is None for stream in kinds)


def test_what_comes_again_is_not_chained_twice_and_the_order_is_that_of_the_batches(records: str) -> None:
    events = order_events(30)
    write(records, events[:10], events[5:20])
    write(records, events[:30], events[29:], [*events[:1], *events[:1]])
    assert chained(records, ORDERS) == [
        (number, "OrderEvent", event.event_id) for number, event in enumerate(events, start=1)
    ]
    report = verified(records)
    assert (report.rows, report.newest, report.finding) == (30, 30, None)
