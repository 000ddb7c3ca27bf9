"""From a row in Postgres to the last gate: what two people on the list have not signed raises nothing.

The rows are real; they are read, examined and given to the stages as the control worker and the executor do it.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from proposed_changes import level_change, limits_change
from trading_desk import CONFIG, ONE, Desk, wide_limits

from agents.control.stage import Control
from agents.stage import ShardState, run_step
from infra.people import ReadPeople, new_personal_key, reader_of
from infra.postgres.commands import Command, insert_command
from infra.postgres.migrate import migrate
from schemas.changes import Change, ChangeRefusal, ControlOutcome, OutcomeKind, canonical_text
from schemas.control import Approval, ControlAction, ControlCommand
from schemas.event import Event
from schemas.orders import SubmitRequested
from schemas.values import Level
from streams.commands import PostgresCommands, follow_commands

pytestmark = pytest.mark.embedded
R = ChangeRefusal


class Office:
    """A database, people with their keys, and what the control worker and the executor make of the rows."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.keys = {name: new_personal_key(folder / f"{name}.key", name) for name in ("ann", "bob", "tom", "eve")}
        self.people = folder / "people.allow"
        self.list_people("ann", "bob", "tom")
        self.desk = Desk(replace(CONFIG, limits={"main": wide_limits("alpha", "beta", order_value_max=150)}))
        self.control = ShardState()

    def list_people(self, *names: str) -> None:
        """Write the list: tom only trades, and eve is not on it."""
        roles = {"tom": "trader"}
        lines = [self.keys[name].line(roles.get(name, "risk")) for name in names]
        self.people.write_text("\n".join(lines) + "\n")
        self.people.chmod(0o644)

    def change(self, **changes: Any) -> Change:
        """Return a raise of the largest order to 1,000 on top of what is in force."""
        now = {"proposed_at_ns": self.desk.now_ns, "expires_at_ns": self.desk.now_ns + 10**12}
        base = self.desk.stage.limits(self.desk.state).version
        return limits_change(base, **now | {"values": {"order_value_max": "1000"}} | changes)

    def signed(self, text: str, *names: str) -> tuple[Approval, ...]:
        """Return these people's approvals of a text."""
        return tuple(Approval(person=name, signature=self.keys[name].sign(text)) for name in names)

    def order(self, wanted: Change, approvals: tuple[Approval, ...], **changes: Any) -> str:
        """Write the row of a change, as anybody can who may write to the database."""
        command = Command(
            wanted.owner,
            wanted.reason,
            wanted.action,
            wanted.scope,
            wanted.target,
            wanted.level,
            canonical_text(wanted),
            approvals,
        )
        return insert_command(self.dsn, replace(command, **changes))

    def hear(self, people: ReadPeople | None = None) -> tuple[list[ControlOutcome], list[ControlCommand]]:
        """Read all rows as both workers do; return what execution says, and what control passes on."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("SELECT count(*) FROM commands").fetchone()
        assert rows is not None
        heard: list[Event] = []

        async def obey(event: Event) -> None:
            heard.append(event)
            if len(heard) == rows[0]:
                raise asyncio.CancelledError

        async def follow() -> None:
            commands = PostgresCommands(self.dsn)
            try:
                await follow_commands(commands, people, obey)
            except asyncio.CancelledError:
                await commands.close()

        asyncio.run(follow())
        said = [output for event in heard for output in self.desk.give(event)]
        passed = [output for event in heard for output in run_step(Control(), self.control, event)[1]]
        outcomes = [event for event in said if isinstance(event, ControlOutcome)]
        return outcomes, [event for event in passed if isinstance(event, ControlCommand)]

    def leaves(self, order_id: str) -> bool:
        """Return whether an order of 200 leaves, which the settings forbid."""
        return any(isinstance(event, SubmitRequested) for event in self.desk.approve(order_id, quantity=2 * ONE))


@pytest.fixture
def office(database: str, tmp_path: Path) -> Office:
    """Everybody at their desks."""
    migrate(database)
    return Office(database, tmp_path)


def test_two_people_on_the_list_raise_a_limit(office: Office) -> None:
    change = office.change()
    office.order(change, office.signed(canonical_text(change), "bob", "ann"))
    (said,), (passed,) = office.hear(reader_of(office.people))
    assert (said.outcome, said.approved_by) == (OutcomeKind.APPLIED, ("ann", "bob"))
    assert passed.refusal is None
    assert office.leaves("a")
    assert office.hear(reader_of(office.people)) == ([], []), "whoever comes up reads all rows again"


def forged(office: Office, how: str) -> None:
    """Write a row that wants to raise a limit, and has not what it takes."""
    change = office.change()
    text = canonical_text(change)
    ann, bob = office.signed(text, "ann", "bob")
    other = office.signed(canonical_text(office.change(nonce="2")), "bob")
    rows: dict[str, tuple[Change, tuple[Approval, ...], dict[str, Any]]] = {
        "nobody": (change, (), {}),
        "one": (change, (ann,), {}),
        "one twice": (change, (ann, ann), {}),
        "one key under two names": (change, (ann, Approval(person="bob", signature=ann.signature)), {}),
        "a stranger": (change, (ann, *office.signed(text, "eve")), {}),
        "a trader": (change, (ann, *office.signed(text, "tom")), {}),
        "the signature of another change": (change, (ann, *other), {}),
        "more than they signed": (office.change(values={"order_value_max": "9999"}), (ann, bob), {}),
        "for longer than they signed": (office.change(expires_at_ns=2**62), (ann, bob), {}),
        "another target than they signed": (change, (ann, bob), {"target": "other"}),
        "another author": (change, (ann, bob), {"author": "eve"}),
        "not canonical": (change, (ann, bob), {"change": text.replace(":", ": ", 1)}),
        "no change": (change, (ann, bob), {"change": "{}"}),
    }
    wanted, approvals, changes = rows[how]
    office.order(wanted, approvals, **changes)


@pytest.mark.parametrize(
    ("how", "refusal"),
    [
        ("nobody", R.NEEDS_TWO_PEOPLE),
        ("one", R.NEEDS_TWO_PEOPLE),
        ("one twice", R.SAME_PERSON),
        ("one key under two names", R.BAD_SIGNATURE),
        ("a stranger", R.UNKNOWN_PERSON),
        ("a trader", R.NOT_AUTHORISED),
        ("the signature of another change", R.BAD_SIGNATURE),
        ("more than they signed", R.BAD_SIGNATURE),
        ("for longer than they signed", R.BAD_SIGNATURE),
        ("another target than they signed", R.MALFORMED),
        ("another author", R.MALFORMED),
        ("not canonical", R.MALFORMED),
        ("no change", R.MALFORMED),
    ],
)
def test_a_forged_row_raises_nothing_and_is_told(office: Office, how: str, refusal: ChangeRefusal) -> None:
    forged(office, how)
    (said,), (passed,) = office.hear(reader_of(office.people))
    assert (said.outcome, said.refusal) == (OutcomeKind.REFUSED, refusal)
    assert passed.refusal == (None if refusal is R.NEEDS_TWO_PEOPLE else refusal), "control cannot tell what loosens"
    assert not office.leaves("a")


def test_approvals_that_are_no_approvals_are_none(office: Office) -> None:
    change = office.change()
    with psycopg.connect(office.dsn) as connection:
        connection.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target, change, approvals)"
            " VALUES ('c', %s, %s, 'SET_LIMITS', 'ACCOUNT', 'main', %s, '{\"ann\": true}')",
            (change.owner, change.reason, canonical_text(change)),
        )
    (said,), _ = office.hear(reader_of(office.people))
    assert said.refusal is R.NEEDS_TWO_PEOPLE


def test_nobody_chooses_a_commands_number(office: Office) -> None:
    """With a high one, readers would pass over every command that comes after it, kills too."""
    with psycopg.connect(office.dsn) as connection:
        connection.execute(
            "INSERT INTO commands (ordinal, command_id, author, reason, action, scope, target)"
            " OVERRIDING SYSTEM VALUE VALUES (1000000, 'c', 'eve', 'r', 'CANCEL', 'GLOBAL', '*')"
        )
    insert_command(office.dsn, Command("ann", "drill", ControlAction.SET_LEVEL, level=Level.HALTED))
    with psycopg.connect(office.dsn) as connection:
        rows = connection.execute("SELECT ordinal, author FROM commands ORDER BY ordinal").fetchall()
    assert rows == [(1, "eve"), (2, "ann")]
    office.hear(None)
    assert not any(isinstance(event, SubmitRequested) for event in office.desk.approve("b"))


@pytest.mark.parametrize(("column", "text"), [("action", "RAISE"), ("scope", "ALL"), ("level", "OPEN")])
def test_a_row_that_no_worker_could_read_is_refused_by_the_database(office: Office, column: str, text: str) -> None:
    row = {"action": "SET_LEVEL", "scope": "GLOBAL", "level": "ACTIVE"} | {column: text}
    with psycopg.connect(office.dsn) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target, level)"
            " VALUES ('c', 'a', 'r', %(action)s, %(scope)s, '*', %(level)s)",
            row,
        )


def test_a_set_limits_row_without_a_change_cannot_be_meant(office: Office) -> None:
    with psycopg.connect(office.dsn) as connection:
        connection.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target)"
            " VALUES ('c', 'a', 'r', 'SET_LIMITS', 'ACCOUNT', 'main')"
        )
    (said,), _ = office.hear(reader_of(office.people))
    assert (said.outcome, said.refusal) == (OutcomeKind.REFUSED, R.MALFORMED)


def test_without_a_list_or_with_one_that_others_may_write_nobody_has_signed(office: Office) -> None:
    change = office.change()
    office.order(change, office.signed(canonical_text(change), "ann", "bob"))
    (said,), _ = office.hear(None)
    assert (said.refusal, said.detail) == (R.NO_ALLOW_LIST, "people.allow_list_file is not set")
    office.people.chmod(0o666)
    office.order(change, office.signed(canonical_text(change), "ann", "bob"))
    (said,), _ = office.hear(reader_of(office.people))
    assert said.refusal is R.NO_ALLOW_LIST
    assert "may be written by others" in said.detail
    assert not office.leaves("a")


def test_who_was_taken_off_the_list_meanwhile_counts_no_more(office: Office) -> None:
    change = office.change()
    office.order(change, office.signed(canonical_text(change), "ann", "bob"))
    office.list_people("ann", "tom")
    (said,), _ = office.hear(reader_of(office.people))
    assert said.refusal is R.UNKNOWN_PERSON


def test_lowering_needs_no_list_and_no_key(office: Office) -> None:
    office.order(office.change(values={"order_value_max": "50"}), ())
    (said,), (passed,) = office.hear(None)
    assert (said.outcome, passed.refusal) == (OutcomeKind.APPLIED, None)


def test_a_kill_is_lifted_by_two_and_a_forged_row_lifts_nothing(office: Office) -> None:
    insert_command(office.dsn, Command("ann", "drill", ControlAction.SET_LEVEL, level=Level.HALTED))
    insert_command(office.dsn, Command("eve", "let me", ControlAction.SET_LEVEL, level=Level.ACTIVE))
    said, passed = office.hear(reader_of(office.people))
    assert [(event.outcome, event.refusal) for event in said] == [(OutcomeKind.REFUSED, R.NEEDS_TWO_PEOPLE)]
    assert [event.level for event in passed] == [Level.HALTED, Level.ACTIVE], "risk hears of it, and loosens nothing"
    assert not office.leaves("a")
    lift = level_change(seen=2, proposed_at_ns=office.desk.now_ns, expires_at_ns=office.desk.now_ns + 10**12)
    office.order(lift, office.signed(canonical_text(lift), "ann", "bob"))
    (lifted,), _ = office.hear(reader_of(office.people))
    assert (lifted.outcome, lifted.level) == (OutcomeKind.APPLIED, Level.ACTIVE)
    assert any(isinstance(event, SubmitRequested) for event in office.desk.approve("b"))
