"""The role that Grafana reads Postgres by: every query of Postgres passes, and nothing else does."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from infra.dashboards.asking import ROLE, Servers, asking
from infra.dashboards.board import ANNOTATIONS
from infra.dashboards.every_board import BOARDS
from infra.dashboards.macros import Span
from infra.dashboards.queries import Source, Sql
from infra.dashboards.variables import VARIABLES
from infra.postgres.commands import Command, insert_command
from schemas.control import ControlAction

LOGIN = "grafana_of_the_test"
CHOICES = {variable.name: ["a", "b"] for variable in VARIABLES}
TEXTS = [query.text for board in BOARDS for panel in board.panels for query in panel.queries if isinstance(query, Sql)]
TEXTS += [annotation.query for annotation in ANNOTATIONS]
TEXTS += [variable.query for variable in VARIABLES if variable.source is Source.POSTGRES]
KEPT_FROM_IT = {
    "change_approvals": "signature",
    "commands": "approvals",
    "command_events": "approvals",
    "change_proposals": "content",
    "audit_rows": "content",
    "audit_heads": "seal",
    "dead_letters": "value",
    "dead_letter_states": "headers",
    "dead_letter_actions": "detail",
    "shard": "progress",
    "shard_state": "value",
    "shard_outbox": "messages",
    "shard_journal": "inputs",
    "market_data": "price",
    "alembic_version": "version_num",
}


@pytest.fixture
def reader(database: str) -> Iterator[psycopg.Connection]:
    """A session of somebody who logs in as Grafana does."""
    insert_command(database, Command("ann", "drill", ControlAction.FLATTEN))
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD 'of the test' IN ROLE {ROLE}".encode())
        try:
            with psycopg.connect(
                make_conninfo(database, user=LOGIN, password="of the test"), autocommit=True
            ) as session:
                yield session
        finally:
            owner.execute(f"DROP ROLE {LOGIN}".encode())


def test_it_writes_nothing(reader: psycopg.Connection, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        tables = owner.execute(
            "SELECT relname, relkind = 'v', has_table_privilege(%s, oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
            " FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace", (ROLE,)
        ).fetchall()  # fmt: skip
        functions = owner.execute(
            "SELECT has_function_privilege(%s, oid, 'EXECUTE'), proname FROM pg_proc WHERE prosecdef"
            " AND pronamespace = 'public'::regnamespace", (ROLE,)
        ).fetchall()  # fmt: skip
    assert len(tables) > 40
    assert not [table for table, _, may_write in tables if may_write]
    for table in (name for name, is_view, _ in tables if not is_view):
        for statement in ('DELETE FROM "{}"', 'TRUNCATE "{}"', 'INSERT INTO "{}" DEFAULT VALUES', 'DROP TABLE "{}"'):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement.format(table).encode())
    assert functions, "there are functions that run as their owner"
    assert not [name for may, name in functions if may]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("CREATE TABLE mine (a int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SET ROLE tradermind_app")


def test_it_reads_no_secret_no_signature_and_no_payload(reader: psycopg.Connection) -> None:
    for table, column in KEPT_FROM_IT.items():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT {column} FROM {table}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT * FROM {table}".encode())


def test_no_column_that_it_reads_is_of_bytes_or_named_like_a_secret(reader: psycopg.Connection, database: str) -> None:
    with psycopg.connect(database) as owner:
        columns = owner.execute(
            "SELECT c.relname, a.attname, a.atttypid::regtype::text FROM pg_attribute a JOIN pg_class c ON c.oid ="
            " a.attrelid WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND"
            " c.relkind IN ('r', 'p', 'v') AND has_column_privilege(%s, c.oid, a.attnum, 'SELECT')", (ROLE,)
        ).fetchall()  # fmt: skip
    assert len(columns) > 200
    for table, column, kind in columns:
        assert kind != "bytea", f"{table}.{column}"
        assert not re.search("signature|secret|password|seal|token|_key|mac$", column), f"{table}.{column}"


def test_it_may_read_what_the_boards_ask_and_nothing_that_they_do_not(
    reader: psycopg.Connection, database: str
) -> None:
    servers = Servers("", database, "", "", "")
    with asking(servers, Span(1_700_000_000, 1_700_003_600)) as asker:
        for board in BOARDS:
            for panel in board.panels:
                for query in panel.queries:
                    if isinstance(query, Sql):
                        asker.ask(query, CHOICES)
        for annotation in ANNOTATIONS:
            asker.annotations(annotation)
    with psycopg.connect(database) as owner:
        granted = owner.execute(
            "SELECT DISTINCT table_name FROM information_schema.column_privileges WHERE grantee = %s", (ROLE,)
        ).fetchall()
    for (table,) in granted:
        assert any(re.search(rf"\b(?:FROM|JOIN)\s+{table}\b", text) for text in TEXTS), f"no board asks {table}"


def test_a_stretch_of_time_is_found_by_an_index(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("SET enable_seqscan = off")
        for table in ("fills", "order_events", "scores", "votes", "account_marks", "tallies", "trade_feedback"):
            plan = owner.execute(
                f"EXPLAIN SELECT count(*) FROM {table} WHERE available_at_ns >= 1 AND available_at_ns <= 2".encode()
            ).fetchall()
            assert any(f"{table}_stretch" in line for (line,) in plan), plan
