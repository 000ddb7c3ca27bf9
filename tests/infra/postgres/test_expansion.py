"""A release works on the schema of the one after it: whatever a migration adds, nothing that we ask for is in its way.

And what a migration takes away, it says: so that the release before it does not start, instead of failing later.
"""

import asyncio
import re

import msgspec
import psycopg
import pytest
from audit_stories import verified, write
from every_event import RECORDS, example
from typer.testing import CliRunner

from infra.postgres.checkpoints import Commit, RunFacts, ShardName, ShardStore
from infra.postgres.commands import Command, insert_command
from infra.postgres.migrate import HEAD, MIGRATIONS, SchemaRefused, migrate, refuse_other_schema
from schemas.control import ControlAction
from streams.cli import app
from streams.engine.shard import Progress

pytestmark = pytest.mark.embedded
NEXT = f"{int(HEAD) + 1:04d}"
FIRST_BY_THE_RULE = 14
"""Earlier revisions were never in a release."""
_TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|VIEW|FUNCTION|TYPE|DOMAIN)\b|\bRENAME\b|\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b"
    r"|\bSET\s+NOT\s+NULL\b|\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?\w+\s+[^,;]*\bNOT\s+NULL\b(?![^,;]*\bDEFAULT\b)",
    re.IGNORECASE,
)
READS = ("positions", "orders", "pnl", "decisions", "experts", "dlq ls", "limits history", "model ls")


@pytest.fixture
def expanded(database: str) -> str:
    """A database in which the release after this one has added to every table."""
    with psycopg.connect(database, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND relname <> 'alembic_version'"
        ).fetchall()
        assert len(tables) > 30
        for (table,) in tables:
            connection.execute(f'ALTER TABLE "{table}" ADD COLUMN next_note text'.encode())
            connection.execute(f"ALTER TABLE \"{table}\" ADD COLUMN next_kind text NOT NULL DEFAULT 'none'".encode())
        connection.execute("CREATE TABLE next_things (name text PRIMARY KEY)")
        connection.execute("UPDATE alembic_version SET version_num = %s", (NEXT,))
    return database


def test_all_that_we_write_and_ask_works_on_a_schema_that_has_grown(expanded: str) -> None:
    refuse_other_schema(expanded)  # It says nothing.
    write(expanded, [example(record) for record in RECORDS])
    write(expanded, [example(record) for record in RECORDS])  # Once more, as after a crash.
    insert_command(expanded, Command("ann", "drill", ControlAction.FLATTEN))

    async def work() -> None:
        facts = RunFacts(cluster_id="c", code_version="1", settings_hash="s")
        for life in (1, 2):
            store = ShardStore(expanded, ShardName("risk", "0", "test"), durable=True)
            claimed = await store.claim_once(facts)
            commit = Commit(
                batch=life,
                progress=msgspec.msgpack.encode(Progress()),
                state={"k": b"v"},
                sent_through=life - 1,
                journal=b"j",
                outbox=b"o",
            )
            await store.write_once(commit, facts)
            assert claimed is not None
            await store.close()

    asyncio.run(work())
    assert verified(expanded).finding is None
    for words in READS:
        told = CliRunner().invoke(app, [*words.split(), "--dsn", expanded])
        assert told.exit_code == 0, (words, told.output, told.exception)
    with psycopg.connect(expanded) as connection:
        kinds = connection.execute("SELECT DISTINCT next_kind FROM orders").fetchall()
    assert kinds == [("none",)]


def test_a_release_that_is_behind_or_too_far_ahead_does_not_start(empty_database: str) -> None:
    with pytest.raises(SchemaRefused, match=r"has no schema of ours.*tradermind migrate"):
        refuse_other_schema(empty_database)
    migrate(empty_database, "0012")
    with pytest.raises(SchemaRefused, match=f"is at revision 0012, and this version needs {HEAD}"):
        refuse_other_schema(empty_database)
    migrate(empty_database)
    refuse_other_schema(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (NEXT,))
        refuse_other_schema(empty_database)
        connection.execute(
            f"CREATE OR REPLACE FUNCTION oldest_release_served() RETURNS text LANGUAGE sql AS $$ SELECT '{NEXT}' $$"
            .encode()
        )  # fmt: skip
    with pytest.raises(SchemaRefused, match=f"serves releases from {NEXT} on; this one is {HEAD}"):
        refuse_other_schema(empty_database)
    with pytest.raises(SchemaRefused, match="newer than this version knows"):
        migrate(empty_database)


def _taken_away(content: str) -> list[str]:
    return [found[0] for found in _TAKES_AWAY.finditer(re.sub(r"--[^\n]*", "", content))]


def test_a_migration_that_takes_something_away_says_whom_it_serves_no_more() -> None:
    files = sorted(file for file in MIGRATIONS.glob("[0-9]*.sql") if not file.name.endswith(".down.sql"))
    later = [file for file in files if int(file.name[:4]) >= FIRST_BY_THE_RULE]
    assert later
    for file in later:
        content = file.read_text()
        assert not _taken_away(content) or "oldest_release_served" in content, f"{file.name}: {_taken_away(content)}"


@pytest.mark.parametrize(
    ("statement", "takes"),
    [
        ("ALTER TABLE a DROP COLUMN b", True),
        ("ALTER TABLE a RENAME b TO c", True),
        ("ALTER TABLE a ALTER COLUMN b TYPE bigint", True),
        ("ALTER TABLE a ALTER COLUMN b SET NOT NULL", True),
        ("ALTER TABLE a ADD COLUMN b text NOT NULL", True),
        ("ALTER TABLE a ADD COLUMN b text NOT NULL, ADD COLUMN c text DEFAULT ''", True),
        ("drop table a", True),
        ("ALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT ''", False),
        ("ALTER TABLE a ADD COLUMN b text", False),
        ("CREATE TABLE a (b text NOT NULL)", False),
        ("-- DROP TABLE a\nCREATE INDEX i ON a (b)", False),
    ],
)
def test_the_rule_knows_what_takes_away(statement: str, takes: bool) -> None:
    assert bool(_taken_away(statement)) is takes
