"""``tradermind doctor`` with each fault put in: found, in one sentence, with one more that mends it, and in time."""

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from full_disk import NotHere, fill, small_disk
from patience import PATIENCE
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from infra.audit_keys import add_key
from infra.models.store import SHIPPED
from infra.postgres.migrate import HEAD, migrate
from infra.settings import Settings, load_settings
from infra.venues.binance.clock import Reading
from streams.cli import app
from streams.doctor import clocks, configuration, machine, stores
from streams.doctor.checks import Patient, checks_of
from streams.doctor.examination import Check, Finding, State, examine, exit_code, failed, ok, warning

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"
MS = 1_000_000


def settings_with(**values: Any) -> Settings:
    """Return the project's settings, changed: ``a__b`` is ``a.b``."""
    return load_settings(SETTINGS, {key.replace("__", "."): value for key, value in values.items()}, environment={})


def only(findings: Iterator[Finding] | Sequence[Finding], check: str) -> Finding:
    """Return the one finding of a check; whatever is not well says how it is mended, in sentences."""
    there = list(findings)
    for one in there:
        assert "\n" not in one.said and "Traceback" not in one.said and "Error(" not in one.said
        assert (one.mend is None) == (one.state is State.OK)
        assert one.state is State.OK or one.said.rstrip().endswith(".")
    (found,) = [one for one in there if one.check == check]
    return found


def test_all_checks_answer_though_one_breaks_and_one_hangs() -> None:
    never = threading.Event()

    def hang() -> list[Finding]:
        never.wait()
        return []

    def breaks() -> list[Finding]:
        raise LookupError("no such thing")

    checks = [
        Check("hangs", hang),
        Check("breaks", breaks),
        Check("well", lambda: [ok("well", "So it is.")]),
        Check("two", lambda: [ok("two", "One."), warning("two", "Two.", "Mend it.")]),
    ]
    began = time.monotonic()
    found = examine(checks, limit_s=0.3)
    assert time.monotonic() - began < 2 * PATIENCE
    assert [(one.check, one.state.value) for one in found] == [
        ("hangs", "failed"),
        ("breaks", "failed"),
        ("well", "ok"),
        ("two", "ok"),
        ("two", "warning"),
    ]
    assert found[0].said == "Nothing was found out within 0.3 s."
    assert found[1].said == "The check itself broke off: LookupError: no such thing."
    never.set()


def test_the_exit_code_is_that_of_the_worst() -> None:
    fine, odd, bad = ok("a", "A."), warning("b", "B.", "M."), failed("c", "C.", "M.")
    assert [exit_code(found) for found in ([], [fine], [fine, odd], [odd, bad, fine])] == [0, 0, 1, 2]


def test_packages_are_held_against_the_lock_file(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    there = "psycopg"
    version = __import__("importlib.metadata").metadata.version(there)
    lock.write_text(f"{there}=={version} \\\n    --hash=sha256:00\nnowhere==1.0 ; sys_platform == 'win32' \\\n")
    assert only(machine.packages(lock), "packages").state is State.OK
    lock.write_text(f"{there}==0.1 \\\n    --hash=sha256:00\nnowhere==1.0 \\\n")
    wrong = only(machine.packages(lock), "packages")
    assert wrong.state is State.FAILED
    assert wrong.said == f"Not as in requirements.lock: psycopg {version} instead of 0.1, nowhere is missing."
    assert only(machine.packages(None), "packages").state is State.WARNING


def test_this_installation_is_as_its_lock_file_says() -> None:
    assert only(machine.packages(machine.lock_file()), "packages").state is State.OK
    assert only(machine.python(), "python").state is State.OK


def test_a_directory_that_cannot_be_written_and_a_full_disk_are_found(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert only(machine.directory(in_the_way / "run"), "run directory").state is State.FAILED
    try:
        with small_disk(tmp_path / "disk", "4m") as disk:
            assert only(machine.directory(disk), "run directory").state is State.OK
            assert only(machine.directory(disk), "disk").state is State.FAILED
            fill(disk)
            assert "No space left" in only(machine.directory(disk), "run directory").said
    except NotHere as error:
        pytest.skip(str(error))


def test_a_port_that_somebody_has_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        assert only(machine.port("metrics port", "127.0.0.1", number), "metrics port").state is State.WARNING
    assert only(machine.port("metrics port", "127.0.0.1", number), "metrics port").state is State.OK


@pytest.mark.parametrize(("told", "state"), [("17.0.9", "ok"), ("11.0.2", "warning"), (None, "warning")])
def test_a_java_that_is_missing_or_too_old_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, state: str
) -> None:
    if told is not None:
        program = tmp_path / "java"
        program.write_text(f"#!{sys.executable}\nimport sys\nsys.stderr.write('openjdk version \"{told}\"\\n')\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only([one for one in machine.java() if one.check == "java"], "java").state.value == state


def test_secrets_that_are_missing_open_or_empty_are_found(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    settings = settings_with(influx__url="http://127.0.0.1:1", influx__token_file=str(secret))
    assert "cannot be read" in only(configuration.secrets(settings), "secrets").said
    secret.touch(0o600)
    assert "is empty" in only(configuration.secrets(settings), "secrets").said
    secret.write_text("token\n")
    secret.chmod(0o644)
    opened = only(configuration.secrets(settings), "secrets")
    assert (opened.state, opened.mend) == (State.FAILED, f"chmod 600 {secret}")
    assert "0644" in opened.said and "token\n" not in opened.said
    secret.chmod(0o600)
    assert only(configuration.secrets(settings), "secrets").state is State.OK


def test_development_keys_are_a_warning_until_money_is_real(tmp_path: Path) -> None:
    keys = tmp_path / "audit.keys"
    add_key(keys, "development-1")
    found = list(configuration.production(settings_with(audit__key_file=str(keys))))
    assert [one.state for one in found] == [State.WARNING, State.WARNING]
    key = tmp_path / "key"
    key.touch(0o600)
    real = settings_with(
        audit__key_file=str(keys),
        venues__binance={
            "profile": "production",
            "production_confirmation": "these orders are real",
            "api_key_file": str(key),
            "secret_file": str(key),
        },
    )
    assert [one.state for one in configuration.production(real)] == [State.FAILED, State.FAILED]
    assert only(configuration.models(real), "models").state is State.FAILED
    add_key(keys, "own-1")
    ours = settings_with(audit__key_file=str(keys), models__allow_development_key=False)
    assert only(configuration.production(ours), "development keys").state is State.OK


def test_an_audit_that_cannot_be_signed_and_people_who_cannot_sign_are_found(tmp_path: Path) -> None:
    assert only(configuration.audit(settings_with()), "audit").state is State.WARNING
    missing = settings_with(audit__key_file=str(tmp_path / "none"), people__allow_list_file=str(tmp_path / "none"))
    assert only(configuration.audit(missing), "audit").state is State.FAILED
    assert only(configuration.people(missing), "people").state is State.FAILED
    (tmp_path / "none").write_text("# nobody\n")
    assert only(configuration.people(settings_with()), "people").state is State.WARNING


def test_a_champion_with_one_byte_changed_is_found(tmp_path: Path) -> None:
    well = only(configuration.models(settings_with()), "models")
    assert well.state is State.OK
    address = configuration.store_of(settings_with(), lambda *_: None).champion("shipped")
    place = tmp_path / address
    shutil.copytree(SHIPPED, place)
    weights = bytearray((place / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (place / "weights.safetensors").write_bytes(weights)
    found = list(configuration.models(settings_with(models__directory=str(tmp_path))))
    assert found[0].state is State.FAILED and "model verify" in str(found[0].mend)


def test_without_settings_what_needs_none_is_examined_all_the_same(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SETTINGS.read_text() + "\n[kafkaa]\nx = 1\n")
    done = CliRunner().invoke(app, ["doctor", "--settings", str(wrong), "--json"])
    assert done.exit_code == 2
    rows = {row["check"]: row for row in json.loads(done.output)}
    assert rows["settings"]["state"] == "failed" and "kafkaa" in rows["settings"]["said"]
    assert rows["python"]["state"] == "ok" and rows["postgres"]["state"] == "warning"


def test_people_read_a_table_and_programs_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--settings", str(SETTINGS), "--run", str(tmp_path)])
    assert done.exit_code == 2 and "does not describe a run" in " ".join(done.output.split())
    plain = CliRunner().invoke(app, ["doctor", "--settings", str(SETTINGS)])
    assert plain.exit_code == 1 and "development keys" in plain.output and "->" in plain.output


def away() -> str:
    """Return an address of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_servers_that_are_away_are_found_at_once_and_all_of_them(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("t")
    nobody = away()
    settings = settings_with(
        kafka__bootstrap=nobody,
        postgres__dsn=f"postgresql://trader@{nobody}/x",
        influx__url=f"http://{nobody}",
        influx__token_file=str(token),
        registry__url=f"http://{nobody}",
        venue__url=f"http://{nobody}",
        run__directory=str(tmp_path),
    )
    began = time.monotonic()
    found = examine(checks_of(Patient(settings, "", tmp_path)))
    assert time.monotonic() - began < 13 * PATIENCE
    states = {one.check: one.state for one in found}
    for name in ("kafka", "postgres", "influx", "schemas", "clock of the exchange"):
        assert states[name] is State.FAILED, name
        only([one for one in found if one.check == name], name)
    assert exit_code(found) == 2


def of_postgres(dsn: str, **changed: Any) -> dict[str, Finding]:
    """Return check -> finding for a database."""
    return {one.check: one for one in stores.postgres(settings_with(postgres__dsn=dsn, **changed))}


def test_a_database_behind_this_version_is_found(empty_database: str) -> None:
    assert of_postgres(empty_database)["migrations"].state is State.FAILED
    migrate(empty_database, "0012")
    behind = of_postgres(empty_database)["migrations"]
    assert behind.said == f"At 0012, and this version needs {HEAD}."
    assert "tradermind migrate" in str(behind.mend)


def test_a_database_without_a_connection_for_each_shard_is_found(database: str) -> None:
    assert of_postgres(database)["postgres connections"].state is State.OK
    few = of_postgres(database, kafka__instrument_partitions=32)["postgres connections"]
    assert few.state is State.FAILED and few.mend == "Raise it."


def test_a_role_that_lacks_rights_or_has_too_many_is_found(database: str, tmp_path: Path) -> None:
    well = of_postgres(database)
    assert well["migrations"].state is State.OK and well["postgres"].state is State.OK
    assert well["postgres privileges"].state is State.WARNING  # The suite is a superuser.
    role, password = f"doctor_{os.getpid()}", tmp_path / "password"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
        try:
            password.write_text(f"*:*:*:{role}:p\n")
            password.chmod(0o600)
            as_role = make_conninfo(database, user=role, passfile=str(password))
            lacking = of_postgres(as_role)["postgres privileges"]
            assert lacking.state is State.FAILED and lacking.mend == f"GRANT tradermind_app TO {role};"
            connection.execute(f"GRANT tradermind_app TO {role}")
            assert of_postgres(as_role)["postgres privileges"].state is State.OK
            password.write_text(f"*:*:*:{role}:wrong\n")
            assert "password authentication failed" in of_postgres(as_role)["postgres"].said
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_clock_that_is_off_is_found(database: str) -> None:
    settings = settings_with(postgres__dsn=database)

    def off_by(ms: int) -> Finding:
        return only(clocks.of_the_database(settings, lambda: time.time_ns() + ms * MS), "clock of postgres")

    assert off_by(0).state is State.OK
    assert off_by(700).state is State.WARNING
    behind = off_by(3_000)
    assert behind.state is State.FAILED and "behind" in behind.said and "1000 are allowed" in behind.said
    assert off_by(-3_000).state is State.FAILED and "ahead" in off_by(-3_000).said


def test_a_slow_answer_is_no_wrong_clock() -> None:
    slow = [Reading(0, 5_000 * MS, 9_900 * MS)]
    assert clocks.judged("clock", "It", slow, 1_000).state is State.OK


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything alike, and once a request has come, the next one, too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    connection.sendall(head.encode() + body)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        done.set()


@pytest.mark.parametrize("ask", [stores.registry, clocks.of_the_venues], ids=["registry", "venue"])
def test_an_answer_that_means_nothing_is_a_finding_too(ask: Callable[[Settings], Iterator[Finding]]) -> None:
    with answering(200, b"<html>") as url:
        settings = settings_with(registry__url=url, venue__url=url)
        (found,) = ask(settings)
    assert found.state is State.FAILED and found.mend is not None
