"""Limits and resets as people use them: proposed, signed with keys, applied, refused, and shown.

A thread stands for the platform: it reads the rows, examines them, steps the execution stage, and keeps its state and
its words where the workers would.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec.structs import force_setattr
from typer.testing import CliRunner, Result

from agents.stage import ShardState, Stage, run_step
from infra.examination import examine
from infra.people import development_people, new_personal_key, reader_of
from infra.postgres.audit_tables import AUDITED_TABLES
from infra.postgres.commands import read_commands
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from infra.settings import SettingsError, load_settings
from schemas.changes import ControlOutcome
from schemas.event import Event, Heartbeat
from schemas.orders import Claimed
from schemas.values import NS_PER_S
from streams.cli import app
from streams.composition import build_stage, compose
from streams.standing import tell_of_other_limits

pytestmark = pytest.mark.embedded
RUNNER = CliRunner()
SHORT = 12


class Office:
    """A running platform as far as changes go, and a person's command line."""

    def __init__(self, dsn: str, folder: Path, **more: str) -> None:
        self.dsn, self.folder = dsn, folder
        self.overrides: dict[str, Any] = {"postgres.dsn": dsn, "run.directory": str(folder), **more}
        (folder / "run.json").write_text(json.dumps({"overrides": self.overrides}))
        settings = load_settings(None, self.overrides)
        self.stage: Stage = build_stage(compose(settings), "execution")
        self.state = ShardState()
        self.people = reader_of(settings.people.allow_list_file)
        self.ahead_ns = 0
        self._numbers = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Office":
        self._thread.start()
        self.until(lambda: len(self.rows("SELECT 1 FROM shard_state")) == 2)
        return self

    def __exit__(self, *of: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _run(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            await self._step(connection, self._beat())
            claim = Claimed(key="x", event_time_ns=0, available_at_ns=0, event_id="claimed", epoch=1)
            await self._step(connection, claim)
            newest = 0
            while not self._ended.is_set():
                for row in await read_commands(connection, newest):
                    newest = row.ordinal
                    await Projections(connection).write([row.event])
                    await self._step(connection, examine(self.people, row.event))
                await self._step(connection, self._beat())
                await asyncio.sleep(0.02)

    def _beat(self) -> Heartbeat:
        now_ns = time.time_ns() + self.ahead_ns
        return Heartbeat(key="h", event_time_ns=now_ns, available_at_ns=now_ns, event_id=f"beat-{now_ns}")

    async def _step(self, connection: psycopg.AsyncConnection[Any], event: Event) -> None:
        self._numbers += 1
        _, outputs = run_step(self.stage, self.state, event)
        for number, output in enumerate(outputs):
            force_setattr(output, "seq", self._numbers * 100 + number)
        known = [output for output in outputs if isinstance(output, ControlOutcome)]
        await Projections(connection).write(known)
        for key in sorted(self.state.touched & {"limits", "desk"}):
            await connection.execute(
                "INSERT INTO shard_state (stage, shard, key, value) VALUES ('execution', '0', %s, %s)"
                " ON CONFLICT (stage, shard, key) DO UPDATE SET value = excluded.value",
                (key, msgspec.msgpack.encode(self.state[key])),
            )
        self.state.touched.clear()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def until(self, holds: Any) -> None:
        limit = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < limit
            time.sleep(0.02)

    def say(self, *arguments: str) -> Result:
        return RUNNER.invoke(app, [*arguments, "--run", str(self.folder)])

    def told(self, *arguments: str) -> Any:
        result = self.say(*arguments, "--json")
        assert result.exit_code == 0, result.output + result.stderr
        return json.loads(result.stdout)

    def proposed(self, *arguments: str) -> str:
        answer = self.told(*arguments)
        assert answer["needs"] == 2
        return str(answer["change_id"])

    def approve(self, change: str, name: str) -> Result:
        return self.say("change", "approve", change, "--key", str(self.folder / f"{name}.key"))


@pytest.fixture
def office(database: str, tmp_path: Path) -> Iterator[Office]:
    """A platform with two development people."""
    migrate(database)
    made = Office(database, tmp_path, **development_people(tmp_path))
    with made:
        yield made


def largest(office: Office) -> str:
    return str(office.told("limits", "show")["sets"]["GLOBAL|*"]["order_value_max"])


def test_a_raise_is_proposed_signed_by_two_and_applied(office: Office) -> None:
    change = office.proposed("limits", "propose", "order_value_max=12000", "--reason", "more room", "--author", "cy")
    early = office.say("change", "apply", change[:SHORT])
    assert (early.exit_code, early.stderr.startswith("Refused: NEEDS_TWO_PEOPLE")) == (1, True), early.output
    assert "1 more must sign" in office.approve(change, "ann").stdout
    again = office.approve(change, "ann")
    assert (again.exit_code, again.stderr.startswith("Refused: SAME_PERSON")) == (1, True)
    assert "it can be applied" in office.approve(change[:SHORT], "bob").stdout
    shown = office.told("change", "show", change[:SHORT])
    assert shown["approved_by"] == ["ann", "bob"]
    assert shown["change"]["values"] == {"order_value_max": "12000"}
    done = office.say("change", "apply", change[:SHORT])
    assert done.exit_code == 0, done.output + done.stderr
    assert largest(office) == "12000"
    (newest, refused) = office.told("limits", "history")
    assert (newest["outcome"], newest["approved_by"], newest["author"]) == ("APPLIED", ["ann", "bob"], "cy")
    assert (refused["outcome"], refused["refusal"]) == ("REFUSED", "NEEDS_TWO_PEOPLE")
    assert newest["base"] == refused["base"] != newest["version"]
    once_more = office.say("change", "apply", change)
    assert once_more.stderr.startswith("Refused: ALREADY_APPLIED")
    attempts = office.rows("SELECT author, refusal FROM change_approvals ORDER BY ordinal")
    assert attempts == [("ann", None), ("ann", "SAME_PERSON"), ("bob", None)], "each attempt is a row of the audit"
    assert {"change_proposals", "change_approvals"} <= {table.table for table in AUDITED_TABLES}


def test_lowering_is_applied_at_once_and_the_settings_are_shown_beside_it(office: Office) -> None:
    done = office.say("limits", "propose", "order_value_max=9000", "--account", "main", "--reason", "less")
    assert (done.exit_code, "Applied" in done.stdout) == (0, True), done.output + done.stderr
    shown = office.told("limits", "show")
    assert shown["owner"] != "settings"
    assert shown["differs_from_settings"] == [
        {"limit": "main.order_value_max", "in_force": "9000", "settings": "10000"}
    ]
    assert (
        "main.order_value_max is 9000; the settings, which change nothing, say '10000'"
        in office.say("limits", "show").stdout
    )


def test_an_override_is_shown_and_is_over_by_itself(office: Office) -> None:
    change = office.proposed("limits", "propose", "order_value_max=12000", "--until", "1h", "--reason", "just now")
    for name in ("ann", "bob"):
        assert office.approve(change, name).exit_code == 0
    assert office.told("change", "apply", change)["outcome"] == "APPLIED"
    assert "until" in office.say("limits", "show").stdout
    assert [item["values"] for item in office.told("limits", "show")["overrides"]] == [{"order_value_max": "12000"}]
    office.ahead_ns = 3_601 * NS_PER_S
    office.until(lambda: office.rows("SELECT 1 FROM control_outcomes WHERE outcome = 'LAPSED'"))
    assert office.told("limits", "show")["overrides"] == []
    assert [row["outcome"] for row in office.told("limits", "history")] == ["LAPSED", "APPLIED"]


def test_a_kill_is_lifted_by_two_people_and_by_nobody_alone(office: Office) -> None:
    assert office.say("kill", "--reason", "drill").exit_code == 0
    change = office.proposed("risk", "ACTIVE", "--reason", "looked at")
    reducing = office.proposed("risk", "REDUCING", "--reason", "half way")
    assert reducing != change
    for name in ("ann", "bob"):
        office.approve(change, name)
    assert office.told("change", "apply", change)["outcome"] == "APPLIED"
    assert office.say("risk", "REDUCING", "--reason", "carefully").exit_code == 0, "from ACTIVE it is one person's"
    listed = {row["change_id"]: row["outcome"] for row in office.told("change", "ls")}
    assert listed == {change: "APPLIED", reducing: None}


def test_a_reset_that_was_signed_before_another_kill_is_stale(office: Office) -> None:
    office.say("kill", "--reason", "drill")
    change = office.proposed("risk", "ACTIVE", "--reason", "looked at")
    assert office.approve(change, "ann").exit_code == 0
    office.say("kill", "--reason", "again")
    office.until(lambda: office.approve(change, "bob").stderr.startswith("Refused: STALE_BASE"))
    refused = office.say("change", "apply", change)
    assert refused.exit_code == 1, refused.output
    assert office.rows("SELECT refusal FROM change_approvals WHERE refusal IS NOT NULL")


def test_a_stranger_and_a_change_that_nobody_knows(office: Office) -> None:
    change = office.proposed("limits", "propose", "order_value_max=12000", "--reason", "more")
    new_personal_key(office.folder / "eve.key", "eve")
    assert office.approve(change, "eve").stderr.startswith("Refused: UNKNOWN_PERSON")
    new_personal_key(office.folder / "false.key", "ann")
    assert office.approve(change, "false").stderr.startswith("Refused: BAD_SIGNATURE")
    assert "No change has an id" in office.approve("feed", "ann").stderr
    nobody = office.approve(change, "nobody")
    assert (nobody.exit_code, "tradermind person new-key" in nobody.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["order_value_max=lots", "--reason", "r"], "Refused: NOT_A_LIMIT"),
        (["nonsense=1", "--reason", "r"], "Refused: NOT_A_LIMIT"),
        (["order_value_max", "--reason", "r"], "is not LIMIT=VALUE"),
        (["order_value_max=1", "order_value_max=2", "--reason", "r"], "or is there twice"),
        (["order_value_max=10000", "--reason", "r"], "Refused: CHANGES_NOTHING"),
        (["order_value_max=1", "--reason", " "], "needs an owner and a reason"),
        (["order_value_max=1", "--reason", "r", "--until", "soon"], "is no time"),
        (["order_value_max=1", "--reason", "r", "--until", "1h"], "Refused: OVERRIDE_LOWERS"),
        (["order_value_max=99999", "--reason", "r", "--until", "2d"], "Refused: OVERRIDE_TOO_LONG"),
        (["order_value_max=1", "--account", "nobody", "--reason", "r"], "There is no account 'nobody'"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_nothing_is_stored(
    office: Office, arguments: list[str], sentence: str
) -> None:
    result = office.say("limits", "propose", *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output + result.stderr
    assert sentence in result.stderr
    assert office.rows("SELECT 1 FROM change_proposals") == office.rows("SELECT 1 FROM commands") == []


def test_without_a_list_a_raise_and_a_reset_are_refused_naming_the_setting(database: str, tmp_path: Path) -> None:
    migrate(database)
    with Office(database, tmp_path) as office:
        for arguments in (("limits", "propose", "order_value_max=12000"), ("risk", "ACTIVE")):
            result = office.say(*arguments, "--reason", "r")
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output + result.stderr
            assert "set people.allow_list_file" in result.stderr
        assert office.say("limits", "propose", "order_value_max=1000", "--reason", "less").exit_code == 0
        assert office.rows("SELECT count(*) FROM change_proposals") == [(1,)]


def test_before_execution_has_begun_no_limits_are_in_force(database: str, tmp_path: Path) -> None:
    migrate(database)
    office = Office(database, tmp_path, **development_people(tmp_path))
    for arguments in (("limits", "show"), ("limits", "propose", "order_value_max=1", "--reason", "r")):
        result = office.say(*arguments)
        assert (result.exit_code, "No execution worker has begun" in result.stderr) == (2, True)


def test_a_new_person_is_a_private_file_and_a_line(tmp_path: Path) -> None:
    file = tmp_path / "ann.key"
    made = RUNNER.invoke(app, ["person", "new-key", str(file), "--name", "ann"])
    assert made.exit_code == 0
    name, role, key = made.stdout.split()
    assert (name, role, len(bytes.fromhex(key))) == ("ann", "risk", 32)
    assert key not in file.read_text()
    assert RUNNER.invoke(app, ["person", "new-key", str(file), "--name", "ann"]).exit_code == 2


def test_who_is_on_the_list(office: Office) -> None:
    assert [(row["name"], row["role"]) for row in office.told("person", "ls")] == [("ann", "risk"), ("bob", "risk")]


def test_settings_that_name_other_limits_change_nothing_and_are_told_in_one_line(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    same = compose(load_settings(None, office.overrides))
    tell_of_other_limits(same, office.dsn)
    assert caplog.messages == []
    other = compose(load_settings(None, office.overrides | {"limits.global.order_value_max": 77_000}))
    tell_of_other_limits(other, office.dsn)
    (line,) = caplog.messages
    assert "main.order_value_max is 10000, not 77000" in line
    again = build_stage(other, "execution")
    state = ShardState()
    for key in ("limits", "desk"):
        state.restore(key, office.state[key])
    claim = Claimed(key="x", event_time_ns=0, available_at_ns=0, event_id="again", epoch=2)
    (told,) = [event for event in run_step(again, state, claim)[1] if isinstance(event, ControlOutcome)]
    assert told.sets["GLOBAL|*"]["order_value_max"] == "10000"


def test_limits_in_force_that_do_not_cover_an_account_end_the_start_in_one_sentence(office: Office) -> None:
    everything = office.told("limits", "show")["sets"]["GLOBAL|*"]
    moved = {"ACCOUNT|main": everything | office.told("limits", "show")["sets"]["ACCOUNT|main"]}
    book = msgspec.structs.replace(office.state["limits"], sets=moved)
    with psycopg.connect(office.dsn) as connection:
        connection.execute("UPDATE shard_state SET value = %s WHERE key = 'limits'", (msgspec.msgpack.encode(book),))
    second = {"accounts.second": {"currency": "USD", "capital": 1}}
    with pytest.raises(SettingsError, match=r"do not cover these settings: The limit .* is missing"):
        tell_of_other_limits(compose(load_settings(None, office.overrides | second)), office.dsn)
