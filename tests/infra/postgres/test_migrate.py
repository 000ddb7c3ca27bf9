"""Migrations: up, down and up again, at once from many processes, and quickly when there is nothing to do."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from infra.postgres.migrate import HEAD, MIGRATIONS, current_revision, downgrade, migrate, row_counts

pytestmark = pytest.mark.embedded
_CATALOGUE = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2
"""


def catalogue(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(_CATALOGUE).fetchall()


def leftovers(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relname NOT LIKE 'alembic_version%'"
            " UNION ALL SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
            " WHERE nspname = 'public'"
            " UNION ALL SELECT typname FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace"
            " WHERE nspname = 'public' AND typtype = 'd'"
        ).fetchall()


def test_the_newest_revision_is_the_one_that_migrate_aims_at() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_up_down_up_ends_where_the_first_up_did_and_down_leaves_nothing(database: str) -> None:
    assert current_revision(database) is None
    migrate(database)
    first = catalogue(database)
    assert current_revision(database) == HEAD
    downgrade(database, "base")
    assert leftovers(database) == []
    migrate(database)
    assert catalogue(database) == first


def test_each_revision_can_be_undone_on_its_own(database: str) -> None:
    migrate(database, "0001")
    before = catalogue(database)
    migrate(database)
    downgrade(database, "0001")
    assert catalogue(database) == before


def test_what_is_there_stays_and_a_second_call_is_quick(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target)"
            " VALUES ('c', 'a', 'r', 'CANCEL', 'GLOBAL', '*')"
        )
    started = time.monotonic()
    migrate(database)
    assert time.monotonic() - started < 1
    assert row_counts(database)["commands"] == 1


def test_many_processes_at_once_make_the_tables_once(database: str) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for made in [pool.submit(migrate, database) for _ in range(3)]:
            made.result(timeout=60)
    assert current_revision(database) == HEAD
    assert "decisions" in row_counts(database)


def test_a_failed_migration_leaves_nothing_behind(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE fills (in_the_way int)")
    with pytest.raises(Exception, match='"fills" already exists'):
        migrate(database)
    assert current_revision(database) is None
    assert [name for (name,) in leftovers(database)] == ["fills"]


def test_money_is_exact_and_no_column_of_money_is_a_float(database: str) -> None:
    migrate(database)
    floats = {(row[0], row[1]) for row in catalogue(database) if row[2] == "double precision"}
    assert {table for table, _ in floats} & {"ledger", "fills", "positions", "account_marks", "trade_feedback"} == set()
