"""Every worker as a process of its own, each under its own certificate, on a Kafka that denies what is not granted.

The settings are those of deploy/k8s/base; the broker's own log of its decisions says which rights were used.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psycopg
from confluent_kafka import Producer
from secured_kafka import SecuredKafka, secured_kafka

from infra.audit_keys import add_key
from infra.kafka import apply_topics, client_settings
from infra.kafka_rights import KafkaPrincipal, principals
from infra.kafka_security import security_of
from infra.kubernetes import DEPLOY
from infra.postgres.commands import Command, insert_command
from infra.servers import ChildProcess, Launch, start_process
from infra.settings import load_settings
from infra.settings_sections import KafkaSettings
from infra.topic_specs import topic_specs
from schemas.codec import Codec
from schemas.control import ControlAction, ScopeKind
from schemas.kit import accepted_examples
from schemas.schema_table import SchemaTable
from schemas.topics import TOPICS
from schemas.values import NS_PER_S, Level

ROOT = Path(__file__).resolve().parents[1]
WORKERS = ("sinks", "control", "feedback", "execution", "risk", "decider", "voting", "experts", "ingress", "feed")
_AUDITED = "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"
_SAID = re.compile(
    r"Principal = User:(\S+) is (Allowed|Denied) operation = (\w+) .*? on resource = (\w+):LITERAL:(\S+) for"
)
_PULSE = (
    '{ account = "main", policy = "probe", horizon_s = 1, instruments = ["*"], share = 0.3, risk_budget = 0.01,'
    " parameters = { every = 2, size = 0.5 } }"
)

_PARTITIONS = 1
_EXTERNAL = "EXT:DEMO"
_INSTRUMENT = f"""
[instruments."{_EXTERNAL}"]
tick_size = 0.01
lot_size = 0.001
quantity_min = 0.001
quantity_max = 1000
base_currency = "DEMO"
quote_currency = "USD"
maker_fee_rate = 0.0005
taker_fee_rate = 0.0005
"""
_CODEC = Codec(SchemaTable.committed())

Used = tuple[str, str, str, str]
"""A principal, an operation, a kind of resource, and its name."""


@dataclass(slots=True)
class Platform:
    """Ten workers and the simulated exchange, as they are deployed but for the trainer."""

    broker: SecuredKafka
    dsn: str
    directory: Path
    workers: dict[str, ChildProcess] = field(default_factory=dict)
    known: dict[str, KafkaSettings] = field(default_factory=dict)

    def decisions(self, said: str) -> set[Used]:
        """Return what the broker has ``Allowed`` or ``Denied`` so far, as it wrote it down."""
        log = (self.broker.server.directory / "kafka.log").read_text(errors="replace")
        return {
            (name, operation, kind, resource)
            for name, word, operation, kind, resource in _SAID.findall(log)
            if word == said and name != "ANONYMOUS"
        }

    def rows(self, query: str) -> int:
        """Return the one number that Postgres answers."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        return int(row[0])

    def look_after(self) -> None:
        """Raise AssertionError where a worker has ended."""
        for name, worker in self.workers.items():
            assert worker.alive(), f"{name} ended with {worker.exit_code()}: {worker.last_lines(4)}"

    def may_write(self, principal: str, topic: str) -> bool:
        """Tell whether the broker takes a record from a principal, by its certificate."""
        refused: list[object] = []
        known = self.known[principal.removeprefix("tradermind-")]
        told = {"bootstrap.servers": str(known.bootstrap), "message.timeout.ms": 10_000, "log_level": 0}
        producer = Producer({**told, **security_of(known)})
        producer.produce(topic, b"spoilt", key=b"NOBODY", on_delivery=lambda error, _: refused.append(error))
        assert producer.flush(20) == 0
        return refused[0] is None

    def order_reducing(self) -> None:
        """Let a person say something, so that the control worker has something to pass on."""
        order = Command("ann", "a test", ControlAction.SET_LEVEL, ScopeKind.STRATEGY, "committee", Level.REDUCING)
        insert_command(self.dsn, order)

    def write_from_outside(self) -> None:
        """Write a good record to each public topic, as other systems would."""
        producer, now_ns = Producer(client_settings(self.broker.server.bootstrap)), time.time_ns()
        theirs = {"event_time_ns": now_ns, "expires_at_ns": now_ns + 60 * NS_PER_S, "horizon_ns": NS_PER_S}
        theirs |= {"event_id": f"outsider/{now_ns}", "instrument": _EXTERNAL, "expert": "others.expert"}
        for example in accepted_examples():
            topic = TOPICS[example.topic]
            if topic.public:
                fields = {name: theirs.get(name, value) for name, value in example.fields.items()}
                producer.produce(topic.name, _CODEC.encode(topic.name, msgspec.convert(fields, topic.records[0])))
        assert producer.flush(30) == 0

    def spoil(self) -> None:
        """Write to every topic what nobody can read, under a key that nobody uses."""
        producer = Producer(client_settings(self.broker.server.bootstrap))
        for name in TOPICS:
            producer.produce(name, b"spoilt", key=b"NOBODY", partition=0)
        assert producer.flush(30) == 0


def rights_of(principal: KafkaPrincipal) -> set[Used]:
    """Return a principal's rights in the broker's words."""
    return {
        (principal.name, operation.upper(), right.resource.capitalize(), right.name)
        for right in principal.rights
        for operation in right.operations
    }


@contextmanager
def running_platform(directory: Path, dsn: str) -> Iterator[Platform]:
    """Start broker, topics, exchange and workers; what is spoilt lies in every log before anybody looks."""
    with ExitStack() as stack:
        with _environment({"JAVA_TOOL_OPTIONS": _AUDITED}):
            broker = stack.enter_context(secured_kafka(directory / "broker"))
        settings = load_settings(DEPLOY / "base" / "tradermind.toml", environment={})
        one = settings.kafka.model_copy(update={"replication": 1, "instrument_partitions": _PARTITIONS})
        apply_topics(broker.server.bootstrap, topic_specs(settings.model_copy(update={"kafka": one})))
        platform = Platform(broker, dsn, directory)
        platform.spoil()
        changes = _changes(directory, dsn)
        changes["TRADERMIND__VENUE__URL"] = _start_exchange(stack, directory, changes)
        stack.callback(_stop_all, platform.workers)
        for name in WORKERS:
            platform.known[name] = broker.introduce(principals()[name], directory)
            platform.workers[name] = _start_worker(directory, name, changes | _kafka(platform.known[name]))
        yield platform


def _changes(directory: Path, dsn: str) -> dict[str, str]:
    """Return where these settings differ from a cluster's: paths, the database, and a market that is simulated."""
    paths = {
        "RUN__DIRECTORY": directory / "run",
        "MODELS__DIRECTORY": directory / "models",
        "TRAINER__DIRECTORY": directory / "trainer",
        "AUDIT__KEY_FILE": directory / "audit.keys",
    }
    for made in ("run", "models", "trainer"):
        (directory / made).mkdir()
    add_key(directory / "audit.keys", "first")
    return {
        "POSTGRES__DSN": dsn,
        "KAFKA__INSTRUMENT_PARTITIONS": str(_PARTITIONS),
        "FEED__KIND": "simulated",
        "GRID__HORIZONS_S": "[1]",
        "GRID__STEP_MS": "500",
        "STRATEGIES__COMMITTEE__HORIZON_S": "1",
        "STRATEGIES__PULSE": _PULSE,
        "MODELS__ALLOW_DEVELOPMENT_KEY": "true",
        "METRICS__PORT": "0",
        **{name: str(path) for name, path in paths.items()},
    }


def _kafka(known: KafkaSettings) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP": str(known.bootstrap),
        "KAFKA__CA_FILE": str(known.ca_file),
        "KAFKA__CERTIFICATE_FILE": str(known.certificate_file),
        "KAFKA__KEY_FILE": str(known.key_file),
    }


def _named(changes: dict[str, str]) -> dict[str, str]:
    return {key if key.startswith("TRADERMIND__") else f"TRADERMIND__{key}": value for key, value in changes.items()}


def _start_exchange(stack: ExitStack, directory: Path, changes: dict[str, str]) -> str:
    config, port = directory / "exchange.json", directory / "exchange.port"
    settings = _settings_file(directory)
    write = [sys.executable, "-m", "streams.exchange_settings", "--settings", str(settings), "--port", "0"]
    maker = start_process(
        Launch(
            "settings", [*write, "--write", str(config)], directory / "settings.log", _named(changes), directory=ROOT
        )
    )
    assert maker.popen.wait(60) == 0, maker.last_lines()
    command = [sys.executable, "-m", "streams.exchange", "--config", str(config), "--port-file", str(port)]
    child = start_process(Launch("exchange", command, directory / "exchange.log", directory=ROOT))
    stack.callback(child.terminate, 5)
    limit = time.monotonic() + 60
    while not port.exists():
        assert child.alive() and time.monotonic() < limit, child.last_lines()
        time.sleep(0.05)
    return f"http://127.0.0.1:{port.read_text().strip()}"


def _settings_file(directory: Path) -> Path:
    """Write the base's settings without the secrets of a cluster that this run has no use for."""
    text = (DEPLOY / "base" / "tradermind.toml").read_text()
    without = {"[influx]", "[audit]", "[people]"}
    lines, kept = [], True
    for line in text.splitlines():
        if line.startswith("["):
            kept = line.strip() not in without
        if kept and not line.startswith(("password_file", "allowed_keys_file")):
            lines.append(line)
    path = directory / "tradermind.toml"
    path.write_text("\n".join(lines) + "\n" + _INSTRUMENT)
    return path


def _start_worker(directory: Path, name: str, changes: dict[str, str]) -> ChildProcess:
    command = [sys.executable, "-m", "streams.cli", "worker", name, "--settings", str(_settings_file(directory))]
    return start_process(Launch(name, command, directory / f"{name}.log", _named(changes), directory=ROOT))


def _stop_all(workers: dict[str, ChildProcess]) -> None:
    for worker in workers.values():
        worker.send(15)
    for worker in workers.values():
        worker.terminate(20)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Give what is started meanwhile these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def summary(unused: set[Used]) -> str:
    """Return rights as lines for people."""
    return json.dumps(sorted(map(list, unused)), indent=1)
