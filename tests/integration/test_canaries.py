"""No secret is anywhere but in its file: not in what is printed, logged, stored, sent, scraped or seen of a process."""

import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaign import SETTINGS, SIMULATED, Platform, platform_on_fresh_topics
from canaries import Canaries, files_below, records_of, seen_of_processes, tables_of, without_secrets
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its manual, not by its stubs
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from registry_server import registry_server
from secured_kafka import PASSWORD, SCRAM_USER, SecuredKafka

from infra.kafka import client_settings
from infra.servers.ports import free_port
from schemas.schema_table import SchemaTable
from schemas.topics import TOPICS
from streams.launch import WORKERS

ROOT = Path(__file__).resolve().parents[2]
APP_USER = "tradermind_canary"
READ_BACK = ("config", "config --json", "positions", "orders --json", "audit verify", "doctor --json", "reconcile")
"""Commands whose output must show no secret, whatever else they say."""


class _Echo(http.server.BaseHTTPRequestHandler):
    """A server that refuses everybody, and says aloud what it was sent: as bad as a proxy's error page can be."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = f"unauthorized: {self.headers.get('Authorization')}".encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _echo() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _planted(folder: Path, secured: SecuredKafka) -> tuple[Canaries, dict[str, Any]]:
    """Plant a secret wherever there is room for one; return them, and the settings that name their files."""
    canaries = Canaries(folder)
    sasl = secured.sasl
    binance = {"api_key_file": canaries.plant_key("binance_key"), "secret_file": canaries.plant_key("binance_secret")}
    files = {
        "kafka.sasl_password_file": canaries.plant("kafka_password", PASSWORD),
        "postgres.password_file": canaries.plant("postgres_password"),
        "registry.password_file": canaries.plant("registry_password"),
        "influx.token_file": canaries.plant("influx_token"),
        "audit.key_file": canaries.plant_key("audit_key", content="canary {}\n"),
        "venue.api_key_file": canaries.plant_key("exchange_key"),
        "venue.secret_file": canaries.plant_key("exchange_secret"),
        "trainer.key_file": canaries.plant_key("trainer_key", content="ed25519 trainer {}\n"),
    }
    canaries.plant_key("person_key", content="ed25519 ann {}\n")
    settings = {name: str(path) for name, path in files.items()} | {
        "kafka.bootstrap": sasl.bootstrap,
        "kafka.security_protocol": "SASL_SSL",
        "kafka.ca_file": str(sasl.ca_file),
        "kafka.sasl_username": sasl.sasl_username,
        "registry.username": "tradermind",
    }
    return canaries, settings | {"planted.binance": {name: str(path) for name, path in binance.items()}}


@pytest.fixture
def app_user(database: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A user who is only what workers are, and whose password is planted: the DSN without it, and the owner's DSN."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(f"DROP ROLE IF EXISTS {APP_USER}".encode())
        owner.execute(f"CREATE ROLE {APP_USER} LOGIN IN ROLE tradermind_app".encode())
    parts = conninfo_to_dict(database)
    parts.pop("passfile", None)
    yield make_conninfo(**{**parts, "user": APP_USER}), database
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(f"DROP ROLE {APP_USER}".encode())


@pytest.mark.kafka
@pytest.mark.slow(seconds=60)
def test_no_secret_is_anywhere_but_in_its_file(
    secured: SecuredKafka, app_user: tuple[str, str], tmp_path: Path
) -> None:
    dsn, owner = app_user
    canaries, settings = _planted(tmp_path / "secrets", secured)
    binance = settings.pop("planted.binance")
    with psycopg.connect(owner, autocommit=True) as connection:
        password = canaries.planted["postgres_password"]
        connection.execute(f"ALTER ROLE {APP_USER} PASSWORD '{password}'".encode())
    with _granted(secured), _echo() as echo, registry_server(SchemaTable.committed()) as registry:
        changes = {
            **SIMULATED,
            **settings,
            "postgres.dsn": dsn,
            "influx.url": echo,
            "influx.queue_events": 100,
            "registry.url": registry.url,
        }
        directory = tmp_path / "run"
        with platform_on_fresh_topics(directory, secured.server.bootstrap, owner, changes) as run:
            ports = {name: free_port() for name in WORKERS}
            described = json.loads(run.run_file.read_text()) | {"metrics": ports, "settings": str(SETTINGS)}
            run.run_file.write_text(json.dumps(described))
            run.start_all()
            filled = "orders WHERE status = 'FILLED'"  # Of the exchange we may ask nothing without its key.
            run.until("orders, signed, by users of few rights", lambda: run.count(filled) >= 2, 120)
            heard = [canaries.found_in(said.encode()) for said in registry.credentials]
            assert {"registry_password"} in heard, "what is looked for is found where it must be"
            pids = [worker.pid for worker in run.workers.values()]
            leaks = canaries.leaks(seen_of_processes([*pids, run.exchange.pid]))
            leaks += canaries.leaks(_scraped(ports))
            _settings_file(tmp_path, run, binance)
            signing = f"change approve {'0' * 32} --key {canaries.folder / 'person_key'}"
            leaks += canaries.leaks(_printed((*READ_BACK, signing), run, tmp_path))
            run.stop(*run.workers)
            leaks += canaries.leaks(_refused(run, canaries))
            leaks += canaries.leaks(tables_of(owner))
            topics = (*TOPICS, *(topic.dead_letters for topic in TOPICS.values()))
            leaks += canaries.leaks(records_of(secured.server.bootstrap, topics, {}))
            leaks += canaries.leaks(files_below(directory))
            said = "".join(path.read_text(errors="replace") for path in (directory / "logs").glob("*.log"))
    assert leaks == []
    assert "401" in said, "the echo has been heard of, without what it echoed"


@contextmanager
def _granted(secured: SecuredKafka) -> Iterator[None]:
    """Let the user do on our topics and groups what workers do, and nothing else; others test rights after us."""
    bindings = [
        AclBinding(
            kind, "tradermind.", ResourcePatternType.PREFIXED, SCRAM_USER, "*", operation, AclPermissionType.ALLOW
        )
        for kind, operations in (
            (ResourceType.TOPIC, (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS)),
            (ResourceType.GROUP, (AclOperation.READ,)),
        )
        for operation in operations
    ]
    admin = AdminClient(client_settings(secured.server.bootstrap))  # Its answers die with it.
    for future in admin.create_acls(bindings).values():
        future.result(10)
    try:
        yield
    finally:
        secured.revoke(SCRAM_USER)


def _scraped(ports: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    for name, port in ports.items():
        for path in ("metrics", "livez", "readyz"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                    yield f"/{path} of {name}", answer.read()
            except urllib.error.HTTPError as error:
                yield f"/{path} of {name}", error.read()


def _printed(commands: tuple[str, ...], run: Platform, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Run commands as a person would, with the settings of the run; yield what they print."""
    for command in commands:
        yield f"`{command}`", _said(command.split(), folder, run)


def _said(words: list[str], folder: Path, run: Platform) -> bytes:
    environment = without_secrets() | {"PYTHONPATH": str(ROOT)}
    place = ["--settings", str(_settings_file(folder, run))] if words[0] in ("config", "worker", "doctor") else []
    if words[0] in ("positions", "orders", "audit", "reconcile", "change"):
        place = ["--run", str(run.directory)]
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *words, *place],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.stdout or done.stderr
    return done.stdout + done.stderr


def _settings_file(folder: Path, run: Platform, binance: dict[str, str] | None = None) -> Path:
    """Return a settings file that says what the run's overrides say: it names files, and holds no secret either."""
    file = folder / "canary.toml"
    if binance is not None:
        overrides = json.loads(run.run_file.read_text())["overrides"]
        flat = [f"{name} = {json.dumps(value)}" for name, value in overrides.items() if isinstance(value, str)]
        flat += [f"venues.binance.{name} = {json.dumps(path)}" for name, path in binance.items()]
        kept = (ROOT / "tradermind.toml").read_text()
        file.write_text("\n".join(flat) + "\n" + "\n".join(_without(kept, {line.split(".")[0] for line in flat})))
    return file


def _without(text: str, sections: set[str]) -> list[str]:
    """Leave out the tables that dotted keys before them have opened already."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.strip().split("]")[0].lstrip("[") in sections
        if not inside:
            lines.append(line)
    return lines


def _refused(run: Platform, canaries: Canaries) -> Iterator[tuple[str, bytes]]:
    """Start workers whom somebody refuses: each ends with a sentence. Yield what they print."""
    for name, stage in (("kafka_password", "decider"), ("postgres_password", "risk"), ("exchange_secret", "execution")):
        file = canaries.folder / name
        right = file.read_text()
        file.write_text(f"wrong.{right}")
        run.start(stage)
        worker = run.workers.pop(stage)
        if name == "exchange_secret":
            time.sleep(8)  # It asks the exchange, and is refused, for as long as it lives.
            worker.terminate(20)
        else:
            assert worker.popen.wait(90) == 2, worker.last_lines(5)
        yield f"the log of {stage} with a wrong {name}", worker.log_file.read_bytes()
        file.write_text(right)


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("TRADERMIND__KAFKA__SASL_PASSWORD", "kafka.sasl_password is not a setting"),
        ("TRADERMIND__POSTGRES__PASSWORD", "postgres.password is not a setting"),
        ("TRADERMIND__POSTGRES__DSN=postgresql://u:{}@h/d", "must not hold a password"),
        ("TRADERMIND__REGISTRY__URL=http://u:{}@h:1", "must not hold credentials"),
        ("TRADERMIND__INFLUX__URL=http://u:{}@h:1", "must not hold credentials"),
        ("TRADERMIND__VENUE__URL=http://u:{}@h:1", "must not hold credentials"),
        ("TRADERMIND__INFLUX__TOKEN", "influx.token is not a setting"),
        ("TRADERMIND__VENUE__SECRET", "venue.secret is not a setting"),
        ("TRADERMIND__AUDIT__KEY", "audit.key is not a setting"),
        ("TRADERMIND__VENUES__BINANCE__SECRET", "venues.binance."),
        ("PGPASSWORD", "PGPASSWORD"),
    ],
)
def test_a_secret_in_the_environment_is_refused_and_not_repeated(variable: str, told: str) -> None:
    from infra.settings import SettingsError, load_settings

    canary = "canary-of-the-environment-91ac"
    name, _, value = variable.partition("=")
    environment = {name: value.format(canary) if value else canary}
    with pytest.raises(SettingsError) as refused:
        load_settings(SETTINGS, {}, {**environment})
    assert told in str(refused.value) and canary not in str(refused.value), refused.value


@pytest.mark.parametrize("key", ["kafka.sasl_password", "influx.token", "registry.password"])
def test_a_secret_in_the_settings_file_is_refused_and_not_repeated(key: str, tmp_path: Path) -> None:
    from infra.settings import SettingsError, load_settings

    section, name = key.split(".")
    text = (ROOT / "tradermind.toml").read_text().replace(f"[{section}]", f'[{section}]\n{name} = "canary-7d"', 1)
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_settings(file, {}, {})
    assert f"{key} is not a setting" in str(refused.value) and "canary-7d" not in str(refused.value)
