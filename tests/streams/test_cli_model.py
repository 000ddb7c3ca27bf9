"""Models as people handle them: listed, verified, promoted past the gate, rolled back; and evil ones refused."""

import asyncio
import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from model_artefacts import Forged, forged_from, small_artefact
from model_office import RUNNER, ModelOffice, policy_artefact

from infra.artefacts import WEIGHTS_NAME
from infra.examination import examine
from infra.postgres.commands import Command, insert_command, read_commands
from schemas.control import ControlAction
from schemas.feedback import ModelRelease, ReleaseStage
from streams.cli import app

pytestmark = pytest.mark.embedded
WHY = ("--reason", "drill")


@pytest.fixture
def office(database: str, tmp_path: Path) -> Iterator[ModelOffice]:
    """A platform with a store and two people."""
    with ModelOffice(database, tmp_path) as made:
        yield made


def stages(office: ModelOffice) -> list[tuple[str, str]]:
    return [
        (str(model), str(stage))
        for model, stage in office.rows("SELECT model, release_stage FROM model_releases ORDER BY ordinal")
    ]


def candidate(model: str, sha256: str) -> ModelRelease:
    return ModelRelease(
        key=model,
        event_time_ns=1,
        available_at_ns=1,
        model=model,
        sha256=sha256,
        release_stage=ReleaseStage.CANDIDATE,
        reason="training 1",
        author="trainer",
    )


def test_a_model_goes_the_whole_way_and_back(office: ModelOffice) -> None:
    sha256 = policy_artefact(office.store, "swan")
    office.released(candidate("swan", sha256))
    (row,) = [row for row in office.told("model", "ls") if row["model"] == "swan"]
    (old,) = [row for row in office.told("model", "ls") if row["model"] == "old"]
    assert (old["stage"], old["in_force"], old["author"]) == ("CHAMPION", True, "settings")
    assert office.say("model", "promote", "old", "--to", "shadow", *WHY).exit_code == 1, "it is champion already"
    assert (row["stage"], row["in_force"], row["artefact"], row["signed_by"]) == (
        "CANDIDATE",
        False,
        "good",
        "development",
    )
    skipped = office.say("model", "promote", "swan", "--to", "canary", *WHY)
    assert skipped.exit_code == 1
    assert skipped.stderr == "swan is in CANDIDATE: it cannot go to CANARY from there.\n"
    assert "swan" in office.say("model", "promote", "swan", "--to", "shadow", *WHY).stdout
    office.decide("swan", "SHADOW", advantage=0.5)
    told = office.told("model", "promote", sha256[:8], "--to", "canary", *WHY)
    assert (told["heard"], told["sha256"]) == (True, sha256)
    assert told["gate"].startswith("passed: 399 decisions of 200, mean advantage ")
    office.decide("swan", "CANARY", advantage=0.5)
    assert office.say("model", "promote", "swan", "--to", "champion", *WHY).exit_code == 0
    shown = office.told("model", "show", "swan")
    assert [release["release_stage"] for release in shown["releases"]] == ["CANDIDATE", "SHADOW", "CANARY", "CHAMPION"]
    assert (shown["in_force"], shown["spec"]["trials"], shown["gate"]) == (True, 3, None)
    assert office.say("model", "rollback", *WHY).exit_code == 0
    assert stages(office)[-1] == ("swan", "RETIRED")
    again = office.say("model", "rollback", "swan", *WHY)
    assert (again.exit_code, again.stderr) == (1, "swan is out of force already.\n")
    authors = office.rows("SELECT DISTINCT author FROM command_events WHERE action = 'RELEASE_MODEL'")
    assert len(authors) == 1


def test_the_gate_holds_back_what_is_not_better_and_prints_its_figures(office: ModelOffice) -> None:
    sha256 = policy_artefact(office.store, "goose")
    office.told("model", "promote", "goose", "--to", "shadow", *WHY)
    early = office.say("model", "promote", "goose", "--to", "canary", *WHY)
    assert early.exit_code == 1
    assert early.stderr.startswith("Refused: GATE_NOT_PASSED, TOO_FEW_DECISIONS: 0 decisions of 200, ")
    office.decide("goose", "SHADOW", advantage=0.0)
    late = office.say("model", "promote", "goose", "--to", "canary", *WHY)
    assert late.exit_code == 1
    assert "GATE_NOT_PASSED, NOT_BETTER" in late.stderr
    assert "399 decisions of 200" in late.stderr
    assert office.told("model", "show", "goose")["gate"]["refusals"][0] == "NOT_BETTER"
    assert stages(office) == [("goose", "SHADOW")]
    # A row by whoever can write one gets no further: the control worker asks the gate itself.
    forged = Command(
        "eve", "let me", ControlAction.RELEASE_MODEL, target=sha256, model="goose", release_stage=ReleaseStage.CANARY
    )
    insert_command(office.dsn, forged)
    wait_until(office, "SELECT 1 FROM command_events WHERE author = 'eve'")
    assert office.rows("SELECT refusal FROM command_events WHERE author = 'eve'") == [("GATE_NOT_PASSED",)]
    assert stages(office) == [("goose", "SHADOW")]


def wait_until(office: ModelOffice, query: str) -> None:
    limit = time.monotonic() + 20
    while not office.rows(query):
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_two_people_let_a_model_past_the_gate_once(office: ModelOffice) -> None:
    office.begin_execution()
    policy_artefact(office.store, "duck")
    office.told("model", "promote", "duck", "--to", "shadow", *WHY)
    proposed = office.told("model", "promote", "duck", "--to", "canary", "--override", *WHY)
    assert (proposed["needs"], stages(office)) == (2, [("duck", "SHADOW")])
    change = str(proposed["change_id"])
    approve = ("change", "approve", change, "--key")
    assert office.say(*approve, str(office.folder / "ann.key")).exit_code == 0
    alone = office.say("change", "apply", change)
    assert (alone.exit_code, alone.stderr[:25]) == (1, "Refused: NEEDS_TWO_PEOPLE")
    assert office.say(*approve, str(office.folder / "bob.key")).exit_code == 0
    both = office.say("change", "apply", change)
    assert (both.exit_code, both.stdout) == (0, f"Applied {change[:12]}.\n")
    assert stages(office)[-1] == ("duck", "CANARY")
    assert [row["outcome"] for row in office.told("change", "ls")] == ["APPLIED"]
    office.told("model", "rollback", "duck", *WHY)
    replayed = office.say("change", "apply", change)
    assert replayed.exit_code == 1
    assert stages(office)[-1] == ("duck", "RETIRED")


def test_a_signed_release_is_of_that_model_and_from_that_stage_alone(office: ModelOffice) -> None:
    office.begin_execution()
    policy_artefact(office.store, "duck")
    other = policy_artefact(office.store, "drake", seed=2)
    for name in ("duck", "drake"):
        office.told("model", "promote", name, "--to", "shadow", *WHY)
    proposed = office.told("model", "promote", "duck", "--to", "canary", "--override", *WHY)
    change = str(proposed["change_id"])
    for name in ("ann", "bob"):
        office.say("change", "approve", change, "--key", str(office.folder / f"{name}.key"))
    (text,) = office.rows("SELECT content FROM change_proposals")[0]
    with psycopg.connect(office.dsn) as connection:
        rows = connection.execute("SELECT author, signature FROM change_approvals").fetchall()
        approvals = json.dumps([{"person": name, "signature": signature} for name, signature in rows])
        connection.execute(
            "INSERT INTO commands (command_id, author, reason, action, scope, target, change, approvals, model,"
            " release_stage) VALUES ('forged', %s, 'drill', 'RELEASE_MODEL', 'GLOBAL', %s, %s, %s, 'drake', 'CANARY')",
            (json.loads(text)["owner"], other, text, approvals),
        )
    wait_until(office, "SELECT 1 FROM command_events WHERE command_id = 'forged'")
    assert office.rows("SELECT refusal FROM command_events WHERE command_id = 'forged'") == [("MALFORMED",)]
    office.told("model", "rollback", "duck", *WHY)
    stale = office.say("change", "apply", change)
    assert (stale.exit_code, stages(office)[-1]) == (1, ("duck", "RETIRED"))


@pytest.mark.parametrize("how", ["pickle", "oversized", "wrong signature", "wrong shape"])
def test_an_evil_artefact_is_refused_with_an_alert_and_never_released(how: str, office: ModelOffice) -> None:
    sha256 = evil(office.store, how)
    verified = office.say("model", "verify", sha256[:12])
    reason = {
        "pickle": "PICKLE",
        "oversized": "TOO_LARGE",
        "wrong signature": "BAD_SIGNATURE",
        "wrong shape": "WRONG_SHAPE",
    }
    assert verified.exit_code == 2
    assert f"Refused: {reason[how]}, " in verified.stdout
    promoted = office.say("model", "promote", sha256[:12], "--to", "shadow", *WHY)
    assert (promoted.exit_code, promoted.stderr.startswith(f"Refused: {reason[how]}, ")) == (2, True)
    insert_command(
        office.dsn,
        Command(
            "eve", "let me", ControlAction.RELEASE_MODEL, target=sha256, model="x", release_stage=ReleaseStage.SHADOW
        ),
    )
    wait_until(office, "SELECT 1 FROM command_events")
    assert office.rows("SELECT refusal FROM command_events") == [("ARTEFACT_REFUSED",)]
    assert stages(office) == []
    found = office.told("model", "refused")
    assert {(row["author"], row["sha256"], row["reason"]) for row in found} == {
        (author, sha256, reason[how]) for author in ("model verify", "model promote", "control")
    }
    told_again(office)
    assert office.told("model", "refused") == found, "a control worker that starts anew reads every row again"
    states = {row["sha256"]: row["artefact"] for row in office.told("model", "ls")}
    assert (states[sha256], states[office.champion]) == (reason[how], "good")


def told_again(office: ModelOffice) -> None:
    """Let a control worker read all rows as at its start."""

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(office.dsn) as connection:
            for row in await read_commands(connection):
                await office.desk.examined(examine(office.people, row.event))

    asyncio.run(run())


def evil(store: Path, how: str) -> str:
    """Write an artefact as somebody evil would, and return its address."""
    forged = forged_from(store)
    if how == "pickle":
        return Forged(pickle.dumps({"weights": [1.0]}), forged.spec).write(store)
    if how == "oversized":
        return Forged(forged.weights + b"\0" * (9 << 20), forged.spec).write(store)
    if how == "wrong shape":
        return Forged(forged.weights, forged.spec.replace(b'"head.bias":[5]', b'"head.bias":[6]')).write(store)
    signed = small_artefact(store)
    manifest = store / signed / "manifest.json"
    content = manifest.read_bytes()
    place = content.index(b'"signature":"') + 13
    manifest.write_bytes(
        content[:place] + (b"0" if content[place : place + 1] != b"0" else b"1") + content[place + 1 :]
    )
    return signed


def test_a_model_of_other_features_is_not_released(office: ModelOffice) -> None:
    small_artefact(office.store)
    refused = office.say("model", "promote", "small", "--to", "shadow", *WHY)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Refused: WRONG_SCHEMA, ")
    assert [row["reason"] for row in office.told("model", "refused")] == ["WRONG_SCHEMA"]
    assert stages(office) == []


def test_verify_of_all_of_one_and_of_a_directory(office: ModelOffice, tmp_path: Path) -> None:
    sha256 = policy_artefact(office.store, "swan")
    assert office.say("model", "verify", "swan").exit_code == 0
    shutil.copytree(office.store / sha256, tmp_path / "elsewhere")
    assert office.say("model", "verify", str(tmp_path / "elsewhere")).exit_code == 0
    (tmp_path / "elsewhere" / WEIGHTS_NAME).write_bytes(b"x")
    spoilt = office.say("model", "verify", str(tmp_path / "elsewhere"))
    assert (spoilt.exit_code, "TRUNCATED" in spoilt.stdout) == (2, True)
    (office.store / sha256 / WEIGHTS_NAME).write_bytes(b"x")
    assert office.say("model", "verify").exit_code == 2


def test_what_is_not_there_or_not_one_is_said(office: ModelOffice) -> None:
    for seed in (1, 2):
        policy_artefact(office.store, "twin", seed)
    missing = office.say("model", "show", "nobody")
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    two = office.say("model", "promote", "twin", "--to", "shadow", *WHY)
    assert (two.exit_code, "more than one model" in two.stderr) == (1, True)


def test_people_read_tables(office: ModelOffice) -> None:
    policy_artefact(office.store, "swan")
    assert "swan" in office.say("model", "ls").stdout
    text = office.say("model", "show", "swan").stdout
    assert "good, signed by development" in text
    assert "net_sharpe" in text
    assert "trained on SIM:BTCUSD, SIM:ETHUSD; elsewhere the fallback acts" in text
    assert "No artefact was refused." in office.say("model", "refused").stdout


def test_a_store_can_be_looked_at_where_no_run_ever_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("tradermind.toml", tmp_path)
    sha256 = policy_artefact(tmp_path / ".tradermind" / "models", "swan")
    monkeypatch.chdir(tmp_path)
    (found,) = [
        row for row in json.loads(RUNNER.invoke(app, ["model", "ls", "--json"]).stdout) if row["model"] == "swan"
    ]
    assert (found["sha256"], found["stage"], found["artefact"]) == (sha256, None, "good")
    assert RUNNER.invoke(app, ["model", "verify", "swan"]).exit_code == 0
    unreachable = RUNNER.invoke(app, ["model", "promote", "swan", "--to", "shadow", *WHY])
    assert (unreachable.exit_code, unreachable.stderr.count("\n")) == (2, 1)


def test_a_stage_in_which_nothing_would_decide_is_refused(database: str, tmp_path: Path) -> None:
    with ModelOffice(database, tmp_path, **{"strategies.committee.policy": "baseline"}) as made:
        sha256 = policy_artefact(made.store, "swan")
        said = made.say("model", "promote", "swan", "--to", "shadow", *WHY)
        assert said.exit_code == 1
        assert said.stderr == (
            "No strategy of the settings has the policy 'champion', so that nothing would come of SHADOW.\n"
        )
        shadow = ReleaseStage.SHADOW
        insert_command(
            made.dsn,
            Command("eve", "x", ControlAction.RELEASE_MODEL, target=sha256, model="swan", release_stage=shadow),
        )
        wait_until(made, "SELECT 1 FROM command_events")
        assert made.rows("SELECT refusal FROM command_events") == [("CHANGES_NOTHING",)]


@pytest.mark.slow
def test_the_service_is_a_process_that_answers_until_it_is_told_to_end(office: ModelOffice) -> None:
    sha256 = policy_artefact(office.store, "swan")
    command = [
        sys.executable,
        "-m",
        "streams.cli",
        "model",
        "serve",
        "swan",
        "--port",
        "0",
        "--run",
        str(office.folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told.startswith(f"swan {sha256[:12]} on http://127.0.0.1:"), told
        request = urllib.request.Request(f"{told.split()[-1]}/predict", data=b'{"observation": {"target": 0.5}}')
        with urllib.request.urlopen(request, timeout=10) as response:
            assert json.load(response)["sha256"] == sha256
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    spoilt = office.store / sha256 / WEIGHTS_NAME
    spoilt.write_bytes(b"x")
    refused = office.say("model", "serve", sha256[:12], "--port", "0")
    assert (refused.exit_code, refused.stderr.startswith("Refused: TRUNCATED, ")) == (2, True)
