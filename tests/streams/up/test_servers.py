"""What a platform that stays does with parts that it is given, and with those that cannot be had here."""

import asyncio
import io
import json
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console

from infra.postgres.migrate import HEAD, SchemaRefused, current_revision
from infra.servers import KafkaMissing
from infra.servers.kafka_real import KafkaNode
from infra.servers.ports import free_port
from infra.settings import load_settings
from streams.cli_record import located_database
from streams.composition import compose
from streams.up.plan import UpPlan, planned
from streams.up.run import Up
from streams.up.servers import open_broker, open_database, open_exchange

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"


def up_in(directory: Path) -> tuple[Up, io.StringIO]:
    """Return a platform that was not started, and what it prints."""
    told = io.StringIO()
    return Up(planned(SETTINGS, directory, ()), Console(file=told, width=400)), told


def test_without_what_builds_influxdb_it_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADERMIND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    up, told = up_in(tmp_path / "up")
    with ExitStack() as stack:
        found = asyncio.run(up._open_more(stack, compose(load_settings(SETTINGS))))
    assert found == {} and up.parts == []
    assert "Without InfluxDB: " in told.getvalue() and "files below" in told.getvalue()


def test_an_influxdb_of_the_settings_is_used_and_not_started(tmp_path: Path) -> None:
    up, told = up_in(tmp_path)
    settings = load_settings(SETTINGS, {"influx.url": "http://theirs:8086", "influx.token_file": str(tmp_path / "t")})
    with ExitStack() as stack:
        assert asyncio.run(up._open_more(stack, compose(settings))) == {}
    assert up.addresses == {"InfluxDB": "http://theirs:8086"} and told.getvalue() == ""


def test_without_java_it_does_not_begin_and_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with ExitStack() as stack, pytest.raises(KafkaMissing, match=r"that address is kafka\.bootstrap in the settings"):
        open_broker(stack, "kafka", load_settings(SETTINGS), tmp_path, lambda _: None)


def test_a_database_of_the_settings_is_migrated_and_its_password_written_nowhere(
    empty_database: str, tmp_path: Path
) -> None:
    given = conninfo_to_dict(empty_database)
    words = Path(str(given.pop("passfile"))).read_text().strip().split(":")
    password = tmp_path / "password"
    password.write_text(words[-1] + "\n")
    overrides = {"postgres.dsn": make_conninfo("", **given), "postgres.password_file": str(password)}
    settings = load_settings(SETTINGS, overrides)
    with ExitStack() as stack:
        dsn, parts = open_database(stack, settings, tmp_path, lambda _: None)
    assert parts == [] and current_revision(dsn) == HEAD
    up = Up(UpPlan(directory=tmp_path, settings_file=SETTINGS, broker="b:1", groups=()), Console(file=io.StringIO()))
    with ExitStack() as stack:
        found = asyncio.run(up._open_database(stack, compose(settings)))
    assert found == overrides and words[-1] not in str(found)
    (tmp_path / "run.json").write_text(json.dumps({"overrides": found}))
    psycopg.connect(located_database(tmp_path)[0]).close()


def test_who_may_not_migrate_is_told_whose_business_it_is(empty_database: str, tmp_path: Path) -> None:
    role = f"mere_{abs(hash(empty_database)) % 10**8}"
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p'; REVOKE CREATE ON SCHEMA public FROM public")
    try:
        password = tmp_path / "password"
        password.write_text("p\n")
        dsn = make_conninfo(empty_database, user=role, passfile="")
        overrides = {"postgres.dsn": dsn, "postgres.password_file": str(password)}
        with ExitStack() as stack, pytest.raises(SchemaRefused, match="run `tradermind migrate` as its owner"):
            open_database(stack, load_settings(SETTINGS, overrides), tmp_path, lambda _: None)
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.slow
def test_an_exchange_that_is_started_again_is_where_it_was_and_knows_what_it_knew(tmp_path: Path) -> None:
    run = compose(load_settings(SETTINGS))
    said: list[str] = []
    with ExitStack() as stack:
        url, (part,) = open_exchange(stack, run, tmp_path, said.append)
        part.child().kill()
        part.notice()
        assert part.state == "down"
        part.start()
        assert part.state == "up"
    with ExitStack() as stack:
        again, _ = open_exchange(stack, run, tmp_path, said.append)
        assert again == url
    assert said[-1] == "The exchange was started again."


def test_a_broker_goes_on_on_its_data_and_only_where_there_is_any(tmp_path: Path) -> None:
    assert KafkaNode.found(tmp_path) is None
    ports = (free_port(), free_port())
    KafkaNode(tmp_path, *ports).describe("")
    assert KafkaNode.found(tmp_path) is None  # Its storage was never made to its end.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").touch()
    found = KafkaNode.found(tmp_path)
    assert found is not None and (found.port, found.controller) == ports
