"""Commands: stored once, read in the order of their commits, and refused when they are none."""

import asyncio
import threading

import psycopg
import pytest

from agents.control.stage import Control
from agents.stage import ShardState, run_step
from infra.postgres.commands import Command, StoredCommand, insert_command, read_commands, recent_commands
from infra.postgres.migrate import migrate
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.values import Level

pytestmark = pytest.mark.embedded
HALT = Command("ann", "drill", ControlAction.SET_LEVEL, level=Level.HALTED)


@pytest.fixture
def records(database: str) -> str:
    """The DSN of a database with our tables."""
    migrate(database)
    return database


def read(dsn: str, after: int = 0, limit: int = 100) -> list[StoredCommand]:
    async def run() -> list[StoredCommand]:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            return list(await read_commands(connection, after, limit))

    return asyncio.run(run())


def test_a_command_comes_back_as_the_event_that_the_control_stage_takes(records: str) -> None:
    name = insert_command(records, HALT)
    (stored,) = read(records)
    event = stored.event
    assert (event.command_id, event.event_id, event.key) == (name, name, name)
    assert (event.author, event.reason, event.level) == ("ann", "drill", Level.HALTED)
    assert event.available_at_ns > 1_700_000_000 * 10**9
    _, outputs = run_step(Control(), ShardState(), event)
    assert isinstance(outputs[0], ControlCommand) and outputs[0].command_id == name


def test_the_same_id_twice_is_one_command(records: str) -> None:
    insert_command(records, HALT, "c1")
    insert_command(records, Command("bob", "again", ControlAction.FLATTEN), "c1")
    assert [stored.event.author for stored in read(records)] == ["ann"]


def test_reading_goes_on_where_it_stopped(records: str) -> None:
    names = [insert_command(records, HALT) for _ in range(5)]
    first = read(records, limit=2)
    rest = read(records, after=first[-1].ordinal)
    assert [stored.event.command_id for stored in (*first, *rest)] == names
    assert read(records, after=rest[-1].ordinal) == []


def test_nobody_can_commit_a_smaller_ordinal_after_a_larger_one_was_read(records: str) -> None:
    with psycopg.connect(records) as slow:
        slow.execute("SELECT pg_advisory_xact_lock(hashtext('commands'))")
        late = threading.Thread(target=insert_command, args=(records, HALT, "late"))
        late.start()
        late.join(0.3)
        assert late.is_alive(), "an insert waits while another one has not committed"
        slow.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target)"
            " VALUES ('early', 'a', 'r', 'FLATTEN', 'GLOBAL', '*')"
        )
        assert read(records) == []
    late.join(10)
    assert [stored.event.command_id for stored in read(records)] == ["early", "late"]


@pytest.mark.parametrize(
    ("command", "flaw"),
    [
        (Command(" ", "r", ControlAction.FLATTEN), "needs an author"),
        (Command("a", "", ControlAction.FLATTEN), "needs an author and a reason"),
        (Command("a", "r", ControlAction.SET_LEVEL), "SET_LEVEL needs a level"),
        (Command("a", "r", ControlAction.FLATTEN, level=Level.HALTED), "no other action has one"),
        (Command("a", "r", ControlAction.FLATTEN, target="main"), "has the target '*'"),
        (Command("a", "r", ControlAction.FLATTEN, ScopeKind.ACCOUNT), "ACCOUNT needs a target"),
    ],
)
def test_what_is_no_command_is_refused_in_one_sentence(command: Command, flaw: str) -> None:
    with pytest.raises(ValueError, match=flaw.replace("*", r"\*")):
        insert_command("host=nowhere", command)


def test_one_order_can_be_cancelled_globally_by_its_id() -> None:
    assert Command("a", "r", ControlAction.CANCEL, target="order-1").flaw() == ""


def test_the_newest_commands_come_first(records: str) -> None:
    insert_command(records, HALT, "c1")
    insert_command(records, HALT, "c2")
    assert [row["command_id"] for row in recent_commands(records)] == ["c2", "c1"]
