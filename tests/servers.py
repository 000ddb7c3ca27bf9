"""Fixtures for the real servers, and the closing lines that say which of them the suite met.

A server is started once per test process, when a test first asks for it, and stopped by pid at the end.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asyncapi_parser import VERSION as PARSER_VERSION
from asyncapi_parser import parser_folder
from compose_schema import CHECKER, ComposeMissing, checked_schema
from grafana_schema import VERSION as SCHEMA_VERSION
from grafana_schema import schema_folder
from kube_rendered import KubectlMissing, kubectl
from npm_packages import NpmMissing
from other_clients import OtherSystemMissing, java_libraries, kcat
from secured_kafka import SecuredKafka, secured_kafka

from infra.kafka import TopicSpec, apply_topics
from infra.kafka_remake import delete_topics
from infra.postgres.migrate import migrate
from infra.servers import (
    EmbeddedBroker,
    EmbeddedPostgres,
    InfluxMissing,
    KafkaMissing,
    PrometheusMissing,
    RealInflux,
    RealKafka,
    RealRegistry,
    RegistryMissing,
    start_embedded_broker,
    start_influx,
    start_kafka,
    start_postgres,
    start_registry,
)
from infra.servers.apicurio import VERSION as REGISTRY_VERSION
from infra.servers.influx import VERSION as INFLUX_VERSION
from infra.servers.kafka_real import VERSION
from infra.servers.kubernetes import VERSION as KUBERNETES_VERSION
from infra.servers.kubernetes import KubernetesMissing, RealKubernetes, start_kubernetes
from infra.servers.kubernetes_programs import KUBECONFORM, built_programs
from infra.servers.prometheus import amtool, prometheus_version, promtool

_MET: dict[str, str] = {}
_NOT_MET: dict[str, str] = {}


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the test process; tests make their own databases with ``database``."""
    server = start_postgres(tmp_path_factory.mktemp("pg"))
    with psycopg.connect(server.dsn) as connection:
        _MET["PostgreSQL"] = f"{connection.info.server_version // 10_000}.{connection.info.server_version % 10_000}"
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database at the newest schema, of which the tests get copies: migrating each would take minutes."""
    name = f"migrated_{os.getpid()}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    migrate(postgres_server.dsn_of(name))
    return name


@pytest.fixture
def database(postgres_server: EmbeddedPostgres, migrated: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of a database of the test's own, without a row and at the newest schema."""
    yield from _database(postgres_server, request, f'TEMPLATE "{migrated}"')


@pytest.fixture
def empty_database(postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of a database of the test's own in which there is nothing at all."""
    yield from _database(postgres_server, request, "")


def _database(server: EmbeddedPostgres, request: pytest.FixtureRequest, made_like: str) -> Iterator[str]:
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}_{os.getpid()}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {made_like}')
    yield server.dsn_of(name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def embedded_broker(tmp_path: Path) -> Iterator[Callable[[Mapping[str, int]], EmbeddedBroker]]:
    """A function that starts an embedded broker with the topics given."""
    started: list[EmbeddedBroker] = []

    def start(topics: Mapping[str, int]) -> EmbeddedBroker:
        started.append(start_embedded_broker(tmp_path / f"broker{len(started)}", topics))
        _MET["embedded broker"] = "librdkafka mock cluster (not Kafka)"
        return started[-1]

    yield start
    for broker in started:
        broker.stop()


@dataclass(frozen=True, slots=True)
class AnyBroker:
    """A broker of either column: ``make_topics`` takes name -> partitions. On real Kafka other tests share it."""

    bootstrap: str
    make_topics: Callable[[Mapping[str, int]], object]


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def any_broker(request: pytest.FixtureRequest) -> AnyBroker:
    """The test runs twice: on an embedded broker of its own, and on real Kafka."""
    if request.param == "embedded":
        embedded = request.getfixturevalue("embedded_broker")({})
        return AnyBroker(embedded.bootstrap, embedded.create_topics)
    bootstrap = request.getfixturevalue("real_kafka").bootstrap

    def make(topics: Mapping[str, int]) -> object:
        delete_topics(
            bootstrap, topics.keys()
        )  # Tests share this broker, and may have left them with other partitions.
        return apply_topics(bootstrap, [TopicSpec(name, partitions) for name, partitions in topics.items()])

    return AnyBroker(bootstrap, make)


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """One Apache Kafka for the test process. Without java or mvn the test is skipped, and the closing lines say so."""
    try:
        server = start_kafka(tmp_path_factory.mktemp("kafka"))
    except KafkaMissing as error:
        _NOT_MET["Apache Kafka"] = str(error)
        pytest.skip(str(error))
    _MET["Apache Kafka"] = VERSION
    yield server
    server.stop()


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One Apache Kafka that asks who its clients are. Without java or mvn the test is skipped, and we say so."""
    try:
        with secured_kafka(tmp_path_factory.mktemp("secured") / "broker") as broker:
            _MET["Apache Kafka with SASL_SSL, mTLS and ACLs"] = VERSION
            yield broker
    except KafkaMissing as error:
        _NOT_MET["Apache Kafka with SASL_SSL, mTLS and ACLs"] = str(error)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kubectl_here() -> str:
    """The program that renders deploy/k8s. Without it the test is skipped, and the closing lines say so."""
    try:
        return kubectl()
    except KubectlMissing as error:
        _NOT_MET["kubectl"] = str(error)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kubeconform_here() -> Path:
    """The checker of Kubernetes objects against schemas. Where it is not built the test is skipped, and loudly."""
    found = shutil.which("kubeconform") or built_programs().get("kubeconform")
    if found is None:
        _NOT_MET["kubeconform"] = "It is not on this machine: make setup-kube builds it."
        pytest.skip(_NOT_MET["kubeconform"])
    _MET["kubeconform"] = KUBECONFORM
    return Path(found)


@pytest.fixture(scope="session")
def real_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKubernetes]:
    """One control plane for the test process, with the operators' definitions and three played nodes."""
    try:
        missing = {"kube-apiserver", "kwok", "etcd"} - built_programs().keys()
        if missing:  # Built by `make setup-kube`: minutes that no test should take.
            raise KubernetesMissing(f"A real Kubernetes is not built yet ({', '.join(missing)}): make setup-kube.")
        server = start_kubernetes(tmp_path_factory.mktemp("kubernetes"))
    except KubernetesMissing as error:
        _NOT_MET["Kubernetes"] = str(error)
        pytest.skip(str(error))
    try:
        server.define()
        server.add_nodes()
        _MET["Kubernetes"] = f"{KUBERNETES_VERSION} (API server, controllers, scheduler; nodes by kwok)"
        yield server
    finally:
        server.stop()


@pytest.fixture
def real_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """An Apicurio Registry of the test's own, empty. Without java or mvn the test is skipped, and loudly."""
    try:
        server = start_registry(tmp_path_factory.mktemp("registry"))
    except RegistryMissing as error:
        _NOT_MET["Apicurio Registry"] = str(error)
        pytest.skip(str(error))
    _MET["Apicurio Registry"] = REGISTRY_VERSION
    yield server
    server.stop()


@pytest.fixture(scope="session")
def prometheus_programs() -> None:
    """Prometheus, Alertmanager and their tools, for ``start_prometheus`` and its like. Without: skipped, loudly."""
    try:
        promtool(), amtool()
        _MET["Prometheus"] = prometheus_version()
    except PrometheusMissing as error:
        _NOT_MET["Prometheus"] = str(error)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def real_influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealInflux]:
    """One InfluxDB for the test process. Where it is not built and cannot be, the test is skipped, and loudly.

    Tests write into buckets of their own: ``influx_bucket``.
    """
    try:
        server = start_influx(tmp_path_factory.mktemp("influxdb"))
    except InfluxMissing as error:
        _NOT_MET["InfluxDB"] = str(error)
        pytest.skip(str(error))
    _MET["InfluxDB"] = INFLUX_VERSION
    yield server
    server.stop()


@pytest.fixture
def influx_bucket(real_influx: RealInflux, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty bucket of the test's own in the session's InfluxDB."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    real_influx.make_bucket(name)
    yield name
    real_influx.drop_bucket(name)


@pytest.fixture(scope="session")
def asyncapi_parser() -> Path:
    """A folder with AsyncAPI's own parser, kept between runs. Without node or npm the test is skipped, and loudly."""
    try:
        folder = parser_folder()
    except NpmMissing as error:
        _NOT_MET["AsyncAPI parser"] = str(error)
        pytest.skip(str(error))
    _MET["AsyncAPI parser"] = PARSER_VERSION
    return folder


@pytest.fixture(scope="session")
def grafana_schema() -> Path:
    """A folder with Grafana's schema types and a compiler. Without node or npm the test is skipped, and loudly."""
    try:
        folder = schema_folder()
    except NpmMissing as error:
        _NOT_MET["Grafana's schema types"] = str(error)
        pytest.skip(str(error))
    _MET["Grafana's schema types (no Grafana)"] = SCHEMA_VERSION
    return folder


@pytest.fixture(scope="session")
def compose_schema() -> Path:
    """The compose specification's schema, and what holds a file to it. Without go or uv: skipped, loudly."""
    try:
        schema = checked_schema()
    except ComposeMissing as error:
        _NOT_MET["Compose specification"] = str(error)
        pytest.skip(str(error))
    _MET["Compose specification"] = f"as in {schema.stem}, by {CHECKER}"
    return schema


@pytest.fixture(scope="session")
def other_clients() -> None:
    """kcat from Debian and a Java client by Maven. Where one cannot be had the test is skipped, and loudly."""
    try:
        kcat()
        java_libraries()
    except OtherSystemMissing as error:
        _NOT_MET["clients of others"] = str(error)
        pytest.skip(str(error))
    _MET["clients of others"] = f"kcat, and kafka-clients {VERSION} for Java"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a parallel test process has met to the process that prints."""
    output: Any = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["met"], output["not_met"] = dict(_MET), dict(_NOT_MET)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Collect what a parallel test process has met."""
    output = getattr(node, "workeroutput", {})
    _MET.update(output.get("met", {}))
    _NOT_MET.update(output.get("not_met", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say at the end which real servers the suite met, and loudly which not."""
    if _MET:
        met = ", ".join(f"{name} {version}" for name, version in sorted(_MET.items()))
        terminalreporter.write_line(f"real servers met: {met}")
    for name, reason in sorted(_NOT_MET.items()):
        terminalreporter.write_line(f"NOT MET: {name}. {reason}", red=True, bold=True)
