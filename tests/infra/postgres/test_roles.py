"""The roles that workers and readers connect as: what they need works; to change the audit is refused by the server."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from audit_stories import KEYS, order_events, verified, write
from every_event import RECORDS, example
from psycopg.conninfo import make_conninfo

from infra.postgres.audit_chain import AuditChain
from infra.postgres.checkpoints import Commit, RunFacts, ShardName, ShardStore
from infra.postgres.commands import Command, insert_command
from infra.postgres.migrate import downgrade, migrate
from infra.postgres.projections import Projections
from schemas.control import ControlAction
from schemas.decisions import Decision

pytestmark = pytest.mark.embedded
LOGINS = {"tradermind_app": "audit_test_worker", "tradermind_reader": "audit_test_reader"}
KEPT = (
    *("audit_rows", "order_events", "fills", "decisions", "order_verdicts", "ledger", "commands"),
    *("change_proposals", "change_approvals", "control_outcomes", "model_refusals"),
)
CHANGES = {
    "UPDATE": "UPDATE {table} SET {column} = {column}",
    "DELETE": "DELETE FROM {table}",
    "TRUNCATE": "TRUNCATE {table}",
    "ALTER": "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "DROP": "DROP TABLE {table}",
}


@pytest.fixture
def roles(database: str) -> Iterator[dict[str, str]]:
    """Role -> the DSN of somebody who logs in as a member of it; ``owner`` is who migrated, with rows of every type."""
    migrate(database)
    write(database, [example(record) for record in RECORDS])
    insert_command(database, Command("ann", "drill", ControlAction.FLATTEN))
    with psycopg.connect(database, autocommit=True) as owner:
        for role, login in LOGINS.items():
            owner.execute(f"DROP ROLE IF EXISTS {login}")
            owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'of the test' IN ROLE {role}")
    given = {role: make_conninfo(database, user=login, password="of the test") for role, login in LOGINS.items()}
    yield given | {"owner": database}
    with psycopg.connect(database, autocommit=True) as owner:
        for login in LOGINS.values():
            owner.execute(f"DROP ROLE {login}")


@pytest.mark.parametrize("role", sorted(LOGINS))
def test_each_way_to_change_what_is_kept_is_refused(roles: dict[str, str], role: str) -> None:
    with psycopg.connect(roles[role], autocommit=True) as connection:
        for table in KEPT:
            columns = connection.execute(f"SELECT * FROM {table} LIMIT 1").description
            assert columns
            for name, statement in CHANGES.items():
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.format(table=table, column=f'"{columns[1].name}"').encode())
                    pytest.fail(f"{role} may {name} {table}")


def test_saying_that_it_is_maintenance_helps_nobody_but_the_owner(roles: dict[str, str]) -> None:
    with psycopg.connect(roles["tradermind_app"], autocommit=True) as worker:
        worker.execute("SET tradermind.audit_maintenance = 'on'")
        for statement in ("DELETE FROM audit_rows", "DELETE FROM audit_heads", "UPDATE audit_heads SET ordinal = 0"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(statement)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_rows SET content = ''", "DELETE FROM audit_rows", "TRUNCATE audit_rows", "DELETE FROM audit_heads"],
)
def test_even_the_owner_has_to_say_that_it_is_maintenance(roles: dict[str, str], statement: str) -> None:
    with psycopg.connect(roles["owner"]) as owner:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added to"), owner.transaction():
            owner.execute(statement)
        owner.execute("SET LOCAL tradermind.audit_maintenance = 'on'")
        owner.execute(statement)
        owner.rollback()


def test_a_head_never_falls(roles: dict[str, str]) -> None:
    with (
        psycopg.connect(roles["tradermind_app"]) as worker,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="only rises"),
    ):
        worker.execute("UPDATE audit_heads SET ordinal = ordinal - 1")


def test_a_sink_and_a_stage_work_as_members_of_the_apps_role(roles: dict[str, str]) -> None:
    dsn = roles["tradermind_app"]

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            projections = Projections(connection, AuditChain(KEYS))
            # Another day than the fixture's: the sink makes its room, which only an owner may.
            changes = {"event_id": "later", "available_at_ns": 1_800_000_000 * 10**9}
            later = [example(record, **changes) for record in RECORDS if record is not Decision]
            later.append(example(Decision, decision_id="later", **changes))
            await projections.write([*later, *order_events(3)])
        store = ShardStore(dsn, ShardName("risk", "0", "test"), durable=True)
        facts = RunFacts(cluster_id="c", code_version="1", settings_hash="s")
        await store.claim_once(facts)
        await store.write_once(
            Commit(batch=1, progress=b"p", state={"k": b"v"}, sent_through=0, journal=b"j", outbox=None), facts
        )
        await store.close()

    asyncio.run(work())
    insert_command(dsn, Command("bob", "again", ControlAction.FLATTEN))
    assert verified(roles["owner"]).finding is None
    with psycopg.connect(roles["owner"]) as owner:
        assert owner.execute("SELECT count(*) FROM market_data_default").fetchone() == (0,)


def test_a_reader_reads_everything_and_writes_nothing(roles: dict[str, str]) -> None:
    with psycopg.connect(roles["tradermind_reader"], autocommit=True) as reader:
        tables = reader.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace ="
            " 'public'::regnamespace").fetchall()  # fmt: skip
        assert len(tables) > 30
        for (table,) in tables:
            reader.execute(f'SELECT * FROM "{table}" LIMIT 1'.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("INSERT INTO audit_heads VALUES ('x', 1, '', '', '')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT make_market_day('market_data_20300101', 1, 2)")


def test_tables_of_later_migrations_are_the_roles_to_use_and_a_downgrade_takes_all_of_it_back(
    roles: dict[str, str],
) -> None:
    with psycopg.connect(roles["owner"], autocommit=True) as owner:
        owner.execute("CREATE TABLE of_tomorrow (a int)")
    with psycopg.connect(roles["tradermind_app"], autocommit=True) as worker:
        worker.execute("INSERT INTO of_tomorrow VALUES (1)")
    with psycopg.connect(roles["owner"], autocommit=True) as owner:
        owner.execute("DROP TABLE of_tomorrow")
    downgrade(roles["owner"], "0007")
    with (
        psycopg.connect(roles["tradermind_app"], autocommit=True) as worker,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        worker.execute("SELECT * FROM decisions")


def test_somebody_who_may_make_no_roles_still_migrates_and_grants_them_later(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS audit_test_plain")
        owner.execute("CREATE ROLE audit_test_plain LOGIN PASSWORD 'of the test'")
        owner.execute("GRANT ALL ON SCHEMA public TO audit_test_plain")
    plain = make_conninfo(empty_database, user="audit_test_plain", password="of the test")
    migrate(plain)
    with psycopg.connect(plain) as connection:
        connection.execute("SELECT grant_roles()")
        assert connection.execute("SELECT count(*) FROM audit_rows").fetchone() == (0,)
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute("DROP OWNED BY audit_test_plain CASCADE")
        owner.execute("DROP ROLE audit_test_plain")
