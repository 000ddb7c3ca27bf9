"""deploy/compose: against the compose specification, and against what it names: paths, commands, settings, secrets."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from compose_schema import schema_faults
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from infra.audit_keys import load_keys
from infra.people import load_people
from infra.postgres.migrate import migrate
from infra.servers.postgres import EmbeddedPostgres, binaries
from infra.settings import Settings, load_settings
from streams.cli import app
from streams.cli_secrets import PASSWORDS, make_all
from streams.launch import WORKERS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "compose"
OURS = "tradermind:${TRADERMIND_VERSION:-0.1.0}"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as compose reads it."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the services that run our image."""
    return {name: service for name, service in compose["services"].items() if service["image"] == OURS}


def settings_of(service: dict[str, Any], tmp_path: Path) -> Settings:
    """Return the settings as the service sees them, its secrets lying in a folder of the test's."""
    environment = {
        name: str(value).replace("/run/secrets", str(tmp_path)) for name, value in service["environment"].items()
    }
    return load_settings(ROOT / "tradermind.toml", environment=environment)


@pytest.mark.slow(seconds=4)
def test_it_is_what_the_compose_specification_says(compose_schema: Path, tmp_path: Path) -> None:
    assert schema_faults(compose_schema, FOLDER / "compose.yaml") is None
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((FOLDER / "compose.yaml").read_text().replace("read_only: true", "readonly: true"))
    noticed = schema_faults(compose_schema, wrong)
    assert noticed is not None and "readonly" in noticed


def test_every_service_is_restricted_pinned_and_listens_on_this_machine_alone(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] != "0" or service.get("profiles") == ["setup"], name
        assert re.fullmatch(r"[a-z/-]+:(v?\d+(\.\d+)+(-\w+)?|\$\{TRADERMIND_VERSION:-0\.1\.0\})", service["image"]), (
            name
        )
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        once = service.get("restart") == "no" or service.get("profiles") == ["setup"]
        assert once or "healthcheck" in service, name
        assert not {"privileged", "network", "pid", "ipc"} & service.keys(), name


def test_every_path_is_there_and_every_volume_and_secret_is_declared_and_used(compose: dict[str, Any]) -> None:
    mounted, wanted = set(), set()
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert source == "./secrets" or (FOLDER / source).exists(), f"{name}: {source}"
            else:
                mounted.add(source)
        given = set(service.get("secrets", ()))
        text = str([service.get("environment"), service.get("command"), service.get("entrypoint")])
        named = set(re.findall(r"/run/secrets/([\w-]+)", text))
        # Ours read the token and the keys where they need them: each worker has the settings of all.
        assert named == given or (service["image"] == OURS and given <= named), f"{name}: {named ^ given}"
        wanted |= given
        for other in service.get("depends_on", {}):
            assert other in compose["services"], f"{name}: {other}"
    assert mounted == set(compose["volumes"])
    assert wanted == set(compose["secrets"])
    made = {name for secret in PASSWORDS for name in secret.files} | {"tradermind-audit-keys", "tradermind-people"}
    assert made == {Path(secret["file"]).name for secret in compose["secrets"].values()} == wanted


def test_every_command_of_ours_is_one_and_every_stage_runs_once(compose: dict[str, Any]) -> None:
    stages: list[str] = []
    for service in ours(compose).values():
        if "entrypoint" in service:
            continue
        words = service["command"]
        names = words[: next((at for at, word in enumerate(words) if word.startswith("-") or "/" in word), len(words))]
        group = [name for name in names if name not in WORKERS]
        assert CliRunner().invoke(app, [*group, "--help"]).exit_code == 0, words
        text = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "200"}).output
        assert all(word in text for word in words if word.startswith("--")), words
        stages += [name for name in names if name in WORKERS]
    assert sorted(stages) == sorted(WORKERS)


def test_every_variable_of_ours_is_a_setting_and_leads_to_the_services_beside(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    make_all(tmp_path)
    for name, service in ours(compose).items():
        if "environment" not in service:
            continue
        settings = settings_of(service, tmp_path)
        addresses = [settings.kafka.bootstrap, settings.influx.url, settings.venue.url]
        hosts = {re.sub(r"^http://", "", str(address)).split(":")[0] for address in addresses}
        assert hosts <= set(compose["services"]), name
        if settings.postgres.dsn is not None:
            assert "@postgres:5432/" in settings.postgres.dsn and "password=" in str(settings.postgres.conninfo()), name
        assert settings.metrics.host == "0.0.0.0"


def test_prometheus_watches_every_worker_and_grafana_gets_all_that_its_provisioning_names(
    compose: dict[str, Any],
) -> None:
    watched = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"]
    targets = {entry["targets"][0].split(":")[0]: entry["labels"]["worker"] for entry in watched}
    workers = {
        name: "-".join(word for word in service["command"][1:-2] if word in WORKERS)
        for name, service in ours(compose).items()
        if service.get("command", [""])[0] == "worker"
    }
    assert targets == workers
    named: set[str] = set()
    for file in (ROOT / "deploy" / "grafana" / "provisioning").rglob("*.yaml"):
        named |= set(re.findall(r"\$(TRADERMIND_\w+)", file.read_text()))
    grafana = compose["services"]["grafana"]
    exported = set(re.findall(r"(TRADERMIND_\w+)=", grafana["command"][0]))
    assert named == exported | {name for name in grafana["environment"] if name.startswith("TRADERMIND_")}


def test_secrets_are_made_once_each_for_one_reader_and_nothing_is_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "secrets"
    done = CliRunner().invoke(app, ["secrets", "new", str(place)])
    assert done.exit_code == 0, done.output
    files = {path.name: path.read_text() for path in place.iterdir()}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in place.iterdir())
    for secret in PASSWORDS:
        texts = {files[name] for name in secret.files}
        assert len(texts) == 1 and len(texts.pop().strip()) == 32
        for name, owner in secret.files.items():
            assert os.geteuid() != 0 or (place / name).stat().st_uid == owner
    assert len({files[next(iter(secret.files))] for secret in PASSWORDS}) == len(PASSWORDS)
    assert load_people(place / "tradermind-people") == {}
    if os.geteuid() != 0:
        assert load_keys(place / "tradermind-audit-keys").signing == "compose-1"
    assert not any(text.strip() in done.output for text in files.values())
    again = CliRunner().invoke(app, ["secrets", "new", str(place)])
    assert again.exit_code == 0 and {path.name: path.read_text() for path in place.iterdir()} == files
    (place / "grafana-database-password").unlink()
    torn = CliRunner().invoke(app, ["secrets", "new", str(place)])
    assert torn.exit_code == 2 and "grafana-database-password" in torn.output


def test_the_roles_that_the_database_begins_with_may_do_their_work_and_no_more(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """The script runs in a server of its own cluster's roles, so they are taken away again."""
    name = f"compose_{os.getpid()}"
    for who in ("worker", "grafana"):
        (tmp_path / who).write_text(f"it's {who}\n")
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        there = {str(row[0]) for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        connection.execute(f'CREATE DATABASE "{name}"')
    script = (FOLDER / "postgres" / "roles.sh").read_text()
    for role in {"tradermind_app", "tradermind_grafana"} & there:
        script = script.replace(f"CREATE ROLE {role} NOLOGIN;\n", "")  # The suite's server has migrated before.
    parts = psycopg.conninfo.conninfo_to_dict(postgres_server.dsn)
    environment = {
        "PATH": f"{binaries()}:/usr/bin:/bin",
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts["port"]),
        "PGPASSFILE": str(parts["passfile"]),
        "POSTGRES_DB": name,
        "WORKER_PASSWORD_FILE": str(tmp_path / "worker"),
        "GRAFANA_PASSWORD_FILE": str(tmp_path / "grafana"),
    }
    try:
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        dsn = postgres_server.dsn_of(name)
        migrate(dsn)
        as_worker = make_conninfo(dsn, user="trader_worker", password="it's worker", passfile="/dev/null")
        as_grafana = make_conninfo(dsn, user="grafana", password="it's grafana", passfile="/dev/null")
        with psycopg.connect(as_worker, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO worker_status (stage, shard, worker, counters) VALUES ('a', 'b', 'c', '{}')"
            )
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM audit_rows")
        with psycopg.connect(as_grafana, autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM orders")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM orders")
    finally:
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            connection.execute("DROP ROLE IF EXISTS trader_worker, grafana")
