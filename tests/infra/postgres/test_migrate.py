"""Migrations: up, down and up again, at once from many processes, and quickly when there is nothing to do."""

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


def test_up_down_up_ends_where_the_first_up_did_and_down_leaves_nothing(empty_database: str) -> None:
    assert current_revision(empty_database) is None
    migrate(empty_database)
    first = catalogue(empty_database)
    assert current_revision(empty_database) == HEAD
    downgrade(empty_database, "base")
    assert leftovers(empty_database) == []
    migrate(empty_database)
    assert catalogue(empty_database) == first


def test_each_revision_can_be_undone_on_its_own(empty_database: str) -> None:
    migrate(empty_database, "0001")
    before = catalogue(empty_database)
    migrate(empty_database)
    downgrade(empty_database, "0001")
    assert catalogue(empty_database) == before


def test_what_is_there_stays_over_a_second_call(empty_database: str) -> None:
    migrate(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target)"
            " VALUES ('c', 'a', 'r', 'CANCEL', 'GLOBAL', '*')"
        )
    migrate(empty_database)
    assert row_counts(empty_database)["commands"] == 1


def test_many_processes_at_once_make_the_tables_once(empty_database: str) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for made in [pool.submit(migrate, empty_database) for _ in range(3)]:
            made.result(timeout=60)
    assert current_revision(empty_database) == HEAD
    assert "decisions" in row_counts(empty_database)


def test_a_failed_migration_leaves_nothing_behind(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE fills (in_the_way int)")
    with pytest.raises(Exception, match='"fills" already exists'):
        migrate(empty_database)
    assert current_revision(empty_database) is None
    assert [name for (name,) in leftovers(empty_database)] == ["fills"]


def test_money_is_exact_and_no_column_of_money_is_a_float(empty_database: str) -> None:
    migrate(empty_database)
    floats = {(row[0], row[1]) for row in catalogue(empty_database) if row[2] == "double precision"}
    assert {table for table, _ in floats} & {"ledger", "fills", "positions", "account_marks", "trade_feedback"} == set()
