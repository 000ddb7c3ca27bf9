"""Commands of people, run as a user runs them: stored with author and reason, and heard, or said not to be."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from money_events import approved, order_event
from typer.testing import CliRunner, Result

from infra.postgres.commands import read_commands
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.control import ControlCommand
from schemas.event import Event
from schemas.orders import OrderStatus
from streams.cli_commands import app

pytestmark = pytest.mark.embedded
RUNNER = CliRunner()


@pytest.fixture
def record(database: str) -> str:
    """The DSN of a record with one open and one filled order."""
    migrate(database)
    orders = (("open-1", OrderStatus.NEW), ("done-1", OrderStatus.FILLED))
    events = [order_event(approved(name), status, event_id=f"e-{name}") for name, status in orders]

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())
    return database


def order(dsn: str, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--dsn", dsn])


def stored(dsn: str) -> list[ControlCommand]:
    async def run() -> list[ControlCommand]:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            return [row.event for row in await read_commands(connection)]

    return asyncio.run(run())


@contextmanager
def platform(dsn: str) -> Iterator[None]:
    """Pass each command on into the record, as the control worker and the sinks do together."""
    ended = threading.Event()

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            newest = 0
            while not ended.is_set():
                for row in await read_commands(connection, newest):
                    newest = row.ordinal
                    heard: list[Event] = [row.event]
                    await Projections(connection).write(heard)
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["kill"], ("SET_LEVEL", "GLOBAL", "*", "HALTED")),
        (["kill", "--account", "main"], ("SET_LEVEL", "ACCOUNT", "main", "HALTED")),
        (["kill", "--scope", "global"], ("SET_LEVEL", "GLOBAL", "*", "HALTED")),
        (["kill", "--scope", "account", "--target", "main"], ("SET_LEVEL", "ACCOUNT", "main", "HALTED")),
        (["kill", "--scope", "strategy", "--target", "alpha"], ("SET_LEVEL", "STRATEGY", "alpha", "HALTED")),
        (["kill", "--scope", "instrument", "--target", "A:B"], ("SET_LEVEL", "INSTRUMENT", "A:B", "HALTED")),
        (["risk", "reducing", "--strategy", "alpha"], ("SET_LEVEL", "STRATEGY", "alpha", "REDUCING")),
        (["flatten", "--instrument", "SIM:BTCUSD"], ("FLATTEN", "INSTRUMENT", "SIM:BTCUSD", None)),
        (["cancel", "open-1"], ("CANCEL", "GLOBAL", "open-1", None)),
        (["cancel", "--all"], ("CANCEL", "GLOBAL", "*", None)),
    ],
)
def test_each_command_is_stored_with_author_and_reason_and_heard(
    record: str, arguments: list[str], expected: tuple[str, str, str, str | None]
) -> None:
    with platform(record):
        result = order(record, *arguments, "--reason", "drill", "--author", "ann")
    assert result.exit_code == 0, result.output
    assert "heard." in result.stdout
    (event,) = stored(record)
    assert (event.action, event.scope, event.target, event.level) == expected
    assert (event.author, event.reason) == ("ann", "drill")


def test_a_kill_that_flattens_lets_only_what_closes_leave_and_closes(record: str) -> None:
    with platform(record):
        result = order(record, "kill", "--scope", "account", "--target", "main", "--flatten", "--reason", "drill")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("heard.") == 2
    first, second = stored(record)
    assert (first.action, first.scope, first.target, first.level) == ("SET_LEVEL", "ACCOUNT", "main", "REDUCING")
    assert (second.action, second.scope, second.target, second.level) == ("FLATTEN", "ACCOUNT", "main", None)


def test_a_kill_that_flattens_is_stored_whole_though_nobody_hears_it(record: str) -> None:
    result = order(record, "kill", "--flatten", "--reason", "drill", "--wait", "0.2", "--json")
    assert result.exit_code == 2
    assert [told["heard"] for told in json.loads(result.stdout)] == [False, False]
    assert [command.action for command in stored(record)] == ["SET_LEVEL", "FLATTEN"]


def test_a_command_that_nobody_hears_is_stored_but_does_not_look_as_if_it_worked(record: str) -> None:
    result = order(record, "kill", "--reason", "drill", "--wait", "0.2")
    assert result.exit_code == 2
    assert "is stored, but no control worker has passed it on within 0.2 s." in result.stderr
    assert "heard." not in result.stdout
    assert len(stored(record)) == 1


def test_a_script_may_choose_not_to_wait(record: str) -> None:
    result = order(record, "flatten", "--reason", "drill", "--wait", "0", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["heard"] is False
    assert told["command_id"] == stored(record)[0].command_id
    assert stored(record)[0].author, "the user's name, when none is given"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cancel", "nothing", "--reason", "r"], "No order in the record has the id 'nothing'."),
        (["cancel", "done-1", "--reason", "r"], "The order done-1 is FILLED already."),
        (["cancel", "--reason", "r"], "Name one order, or say --all."),
        (["cancel", "open-1", "--all", "--reason", "r"], "Name one order, or say --all."),
        (["kill", "--account", "a", "--strategy", "b", "--reason", "r"], "Name one scope at most"),
        (["kill", "--scope", "account", "--reason", "r"], "needs a --target"),
        (["kill", "--scope", "global", "--target", "main", "--reason", "r"], "needs a --target"),
        (["kill", "--target", "main", "--reason", "r"], "needs a --target"),
        (["kill", "--scope", "account", "--target", "a", "--account", "a", "--reason", "r"], "Name one scope at most"),
        (["kill", "--reason", " "], "A command needs an author and a reason."),
    ],
)
def test_what_cannot_be_ordered_is_one_sentence_and_nothing_is_stored(
    record: str, arguments: list[str], sentence: str
) -> None:
    result = order(record, *arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert stored(record) == []


def test_without_a_database_it_is_one_sentence_and_exit_code_2() -> None:
    result = order("host=127.0.0.1 port=1 connect_timeout=1", "kill", "--reason", "r")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
