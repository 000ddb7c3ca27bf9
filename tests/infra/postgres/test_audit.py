"""The audit: everything is chained once, in order, whoever writes and however often it comes."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psycopg
import pytest
from audit_stories import KEYS, anchor_file, order_events, stored, verified, write
from every_event import RECORDS, example
from full_disk import full_at
from money_events import T0
from psycopg.rows import dict_row

from infra.audit_keys import AuditKeys, add_key, load_keys
from infra.postgres.audit_anchors import AnchorsUnusable, forged, read_anchors
from infra.postgres.audit_chain import AuditBroken, AuditChain
from infra.postgres.audit_diagnosis import Tampering
from infra.postgres.audit_record import COMMANDS, DECISIONS, ORDERS, STREAM_OF
from infra.postgres.audit_reseal import Reseal, reseal
from infra.postgres.audit_retention import CLASSES, NOT_BY_TIME, past_retention
from infra.postgres.audit_tables import AUDITED_TABLES
from infra.postgres.commands import Command, insert_command
from infra.postgres.dead_letters import Action, record_action
from infra.postgres.migrate import migrate
from infra.postgres.restores import Restore, claim_restore, finish_restore
from schemas.codec import Codec
from schemas.control import ControlAction
from schemas.dead_letters import LetterAction
from schemas.event import Event
from schemas.opinions import Vote
from schemas.schema_table import SchemaTable
from schemas.topics import ACCOUNT_EVENT
from schemas.values import Level
from streams.engine.ports import WorkerFailed
from streams.sinks import Sink

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
        COMMANDS: {"ControlCommand", "ControlOutcome", "ModelRelease"},
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


def test_what_people_do_in_tables_of_their_own_is_chained_with_their_commands(records: str) -> None:
    halt = Command("ann", "drill", ControlAction.SET_LEVEL, level=Level.HALTED)
    insert_command(records, halt, "c1")
    with psycopg.connect(records, autocommit=True) as connection:
        record_action(connection, Action(action=LetterAction.TAKE, author="bob", why="poison", stage="risk", topic="t"))
        claim_restore(connection, Restore("cy", "the disk broke", 7, "cluster"))
        write(records, [])
        finish_restore(connection)
    write(records, [])
    write(records, [])
    assert [(kind, name) for _, kind, name in chained(records, COMMANDS)] == [
        ("commands", "commands/1"),
        ("dead_letter_actions", "dead_letter_actions/1"),
        ("restores", "restores/1/CLAIMED"),
        ("restores", "restores/1/DONE"),
    ]
    (first, *_) = stored(records, COMMANDS)
    assert b'"author": "ann"' in first.content and b'"reason": "drill"' in first.content


def test_every_table_that_is_chained_exists_and_says_who(records: str) -> None:
    with psycopg.connect(records) as connection:
        for table in AUDITED_TABLES:
            connection.execute(table.query(), (0, COMMANDS))
            connection.execute(f"SELECT author FROM {table.table}")


def test_what_a_transaction_takes_back_is_not_chained_and_the_next_one_goes_on(records: str) -> None:
    write(records, order_events(3))
    broken = msgspec.structs.replace(order_events(1, 9)[0], account=None)
    with pytest.raises(psycopg.IntegrityError):
        write(records, [*order_events(2, 4), broken])
    write(records, order_events(2, 4))
    assert [ordinal for ordinal, _, _ in chained(records, ORDERS)] == [1, 2, 3, 4, 5]
    assert verified(records).finding is None


def test_two_sinks_at_once_write_one_chain_in_which_each_event_is_once(records: str) -> None:
    batches = [order_events(5, first) for first in range(1, 100, 5)]
    failures: list[BaseException] = []

    def sink() -> None:
        try:
            write(records, *batches)
        except BaseException as error:
            failures.append(error)

    sinks = [threading.Thread(target=sink) for _ in range(2)]
    for one in sinks:
        one.start()
    for one in sinks:
        one.join(60)
    assert not failures
    report = verified(records)
    assert (report.rows, report.finding) == (100, None)


def test_who_holds_a_streams_head_is_waited_for_and_what_was_chained_meanwhile_is_known(records: str) -> None:
    write(records, order_events(2))
    with psycopg.connect(records) as holder:
        holder.execute("SELECT FROM audit_heads WHERE stream = 'orders' FOR UPDATE")
        late = threading.Thread(target=write, args=(records, order_events(4)))
        late.start()
        late.join(0.5)
        assert late.is_alive(), "a second sink waits for the stream's head"
    late.join(20)
    assert [ordinal for ordinal, _, _ in chained(records, ORDERS)] == [1, 2, 3, 4]


def test_a_new_key_signs_from_its_first_row_on_and_the_old_one_still_verifies(records: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    add_key(file, "a")
    write(records, order_events(3), keys=load_keys(file))
    add_key(file, "b")
    write(records, order_events(6), keys=load_keys(file))
    assert [row.key_id for row in stored(records)] == ["a"] * 3 + ["b"] * 3
    assert verified(records, keys=load_keys(file)).finding is None
    only_new = AuditKeys({"b": load_keys(file).by_id["b"]}, "b")
    finding = verified(records, keys=only_new).finding
    assert finding is not None and (finding.kind, finding.ordinal) == (Tampering.RECHAINED, 1)


def test_a_sink_adds_nothing_to_a_stream_that_was_changed_until_it_was_resealed(records: str) -> None:
    write(records, order_events(5))
    with psycopg.connect(records) as owner:
        owner.execute("SET tradermind.audit_maintenance = 'on'")
        owner.execute("DELETE FROM audit_rows WHERE ordinal = 5")
        owner.execute("UPDATE audit_heads SET ordinal = 4, mac = (SELECT mac FROM audit_rows WHERE ordinal = 4)")
    with pytest.raises(AuditBroken, match="not the one that was written last"):
        write(records, order_events(6))
    finding = verified(records).finding
    assert finding is not None and (finding.kind, finding.ordinal) == (Tampering.TRUNCATED, 5)
    with psycopg.connect(records, autocommit=True, row_factory=dict_row) as owner:
        assert reseal(owner, KEYS, Reseal(ORDERS, "ann", "row 5 is in the export", finding)) == 5
    write(records, order_events(6))
    rows = stored(records)
    assert [row.kind for row in rows] == ["OrderEvent"] * 4 + ["Resealed"] + ["OrderEvent"] * 2
    assert b"row 5 is in the export" in rows[4].content and b"TRUNCATED" in rows[4].content
    assert verified(records).finding is None


def test_a_row_that_was_put_behind_the_head_stops_the_sink_and_makes_no_dead_letter(records: str) -> None:
    write(records, order_events(2))
    with psycopg.connect(records) as forger:
        forger.execute(
            "INSERT INTO audit_rows (stream, ordinal, event_id, kind, content, created_at_ns, key_id, previous, mac)"
            " SELECT stream, 3, 'forged', kind, content, created_at_ns, key_id, mac, mac FROM audit_rows"
            " WHERE ordinal = 2"
        )
    codec = Codec(SchemaTable.committed())

    async def work() -> None:
        sink = Sink(records, codec, audit=AuditChain(KEYS))
        event = order_events(3)[2]
        record = SimpleNamespace(
            topic=ACCOUNT_EVENT.name, partition=0, offset=7, key=b"main", headers=(), timestamp_ms=0,
            value=codec.encode(ACCOUNT_EVENT.name, event),
        )  # fmt: skip
        with pytest.raises(WorkerFailed, match="audit verify"):
            await sink.handle([record])
        await sink.close()

    asyncio.run(work())
    finding = verified(records).finding
    assert finding is not None and (finding.kind, finding.ordinal) == (Tampering.INSERTED, 3)
    with psycopg.connect(records) as connection:
        assert connection.execute("SELECT count(*) FROM order_events").fetchone() == (2,)


def test_a_head_that_is_gone_stops_the_sink(records: str) -> None:
    write(records, order_events(2))
    with psycopg.connect(records) as owner:
        owner.execute("SET tradermind.audit_maintenance = 'on'")
        owner.execute("DELETE FROM audit_heads")
    with pytest.raises(AuditBroken, match="is gone"):
        write(records, order_events(3))


def test_anchors_are_written_by_rows_and_by_time_and_at_the_end(records: str, tmp_path: Path) -> None:
    batches = [order_events(1, number) for number in range(1, 8)]
    chain = write(records, *batches, anchors=anchor_file(tmp_path, rows=3))
    file = tmp_path / "audit.anchors"
    assert [anchor.head.ordinal for anchor in read_anchors(file)] == [1, 4, 7]
    write(records, *batches, order_events(1, 8), anchors=anchor_file(tmp_path, rows=1000)).close()
    assert [anchor.head.ordinal for anchor in read_anchors(file)] == [1, 4, 7, 7, 8]
    chain.close()
    anchors = read_anchors(file)
    assert len(anchors) == 5, "what is anchored is not anchored again"
    assert forged(anchors, KEYS) is None
    report = verified(records, anchors=anchors)
    assert (report.anchors, report.finding) == (4, None)
    write(records, order_events(1, 9), order_events(1, 10), anchors=anchor_file(tmp_path, rows=1000, interval_s=0.0))
    assert [anchor.head.ordinal for anchor in read_anchors(file)][-2:] == [9, 10]


def test_a_torn_anchor_is_passed_over_and_a_forged_one_is_named(records: str, tmp_path: Path) -> None:
    write(records, order_events(1), anchors=anchor_file(tmp_path))
    file = tmp_path / "audit.anchors"
    sound = file.read_bytes()
    file.write_bytes(sound + sound[:40])
    anchor_file(tmp_path).check()
    write(records, order_events(2), anchors=anchor_file(tmp_path))
    assert [anchor.head.ordinal for anchor in read_anchors(file)] == [1, 2]
    file.write_bytes(sound.replace(b'"ordinal":1', b'"ordinal":9'))
    stranger = forged(read_anchors(file), KEYS)
    assert stranger is not None and stranger.line == 1
    file.write_bytes(b"{}\n")
    with pytest.raises(AnchorsUnusable, match="line 1"):
        read_anchors(file)


def test_an_anchor_that_a_full_disk_tears_is_an_error_and_costs_no_other(records: str, tmp_path: Path) -> None:
    write(records, order_events(1), anchors=anchor_file(tmp_path, rows=1))
    file = tmp_path / "audit.anchors"
    with full_at(file.stat().st_size + 10), pytest.raises(OSError, match="No space"):
        write(records, order_events(1, 2), anchors=anchor_file(tmp_path, rows=1))
    assert not file.read_bytes().endswith(b"\n"), "the beginning was written"
    anchor_file(tmp_path).check()  # As a sink does that starts again.
    write(records, order_events(1, 3), anchors=anchor_file(tmp_path, rows=1)).close()
    assert [anchor.head.ordinal for anchor in read_anchors(file)] == [1, 3]


def test_every_table_has_one_retention_class_or_is_kept_by_other_rules(records: str) -> None:
    classed = [table for listed in CLASSES for table, _ in listed.tables]
    assert len(classed) == len(set(classed))
    with psycopg.connect(records) as connection:
        tables = {
            str(name)
            for (name,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
                " AND NOT relispartition AND relname <> 'alembic_version'"
            )
        }
    missing = tables - set(classed) - NOT_BY_TIME
    assert not missing, f"give {missing} a class in infra/postgres/audit_retention.py"
    assert not set(classed) - tables
    assert all(listed.days >= listed.least_days for listed in CLASSES)
    (orders,) = [listed for listed in CLASSES if ORDERS in listed.streams]
    assert orders.least_days >= 5 * 365 + 1, "RTS 6: at least five years"


def test_what_is_past_its_retention_is_counted_by_table_and_stream(records: str) -> None:
    write(records, [*order_events(2), example(Vote, event_id="v", available_at_ns=T0)])
    insert_command(records, Command("ann", "drill", ControlAction.FLATTEN))
    with psycopg.connect(records, row_factory=dict_row) as connection:
        now_ns = time.time_ns()
        assert {kept.rows for kept in past_retention(connection, T0)} == {0}
        later = {kept.what: kept for kept in past_retention(connection, now_ns + 3_000 * 86_400 * 10**9)}
    assert (later["votes"].rows, later["votes"].oldest_ns) == (1, T0)
    assert (later["commands"].rows, later["audit orders"].rows, later["order_events"].rows) == (1, 2, 2)
    assert later["commands"].oldest_ns is not None and abs(later["commands"].oldest_ns - now_ns) < 60 * 10**9


def test_a_sink_that_lost_its_session_in_the_middle_chains_everything_once(records: str, tmp_path: Path) -> None:
    codec = Codec(SchemaTable.committed())
    events = order_events(40)

    def record(event: Event, offset: int) -> SimpleNamespace:
        value = codec.encode(ACCOUNT_EVENT.name, event)
        return SimpleNamespace(
            topic=ACCOUNT_EVENT.name, partition=0, offset=offset, key=b"", headers=(), timestamp_ms=0, value=value
        )

    async def work() -> None:
        sink = Sink(records, codec, audit=AuditChain(KEYS, anchor_file(tmp_path)))
        for first in range(0, 40, 4):
            handling = asyncio.ensure_future(
                sink.handle([record(event, first + place) for place, event in enumerate(events[first : first + 4])])
            )
            await asyncio.sleep(0.055)
            with psycopg.connect(records, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'tradermind sinks' AND datname = current_database()"
                )
            await handling
        await sink.close()

    asyncio.run(work())
    report = verified(records, anchors=read_anchors(tmp_path / "audit.anchors"))
    assert (report.rows, report.finding) == (40, None)
    assert [row.event_id for row in stored(records)] == [event.event_id for event in events]
