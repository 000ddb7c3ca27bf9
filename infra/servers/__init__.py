"""The servers that a run or a test starts for itself: broker, Kafka, Postgres, registry, Prometheus, InfluxDB.

Each is a child process on a loopback port, with its files in a directory of the caller's. It is stopped by pid and
never outlives its parent. What cannot be started raises ServerFailed: one clear sentence, meant for a person.
"""

from infra.servers.apicurio import RealRegistry, RegistryMissing, start_registry
from infra.servers.broker import EmbeddedBroker, start_embedded_broker
from infra.servers.influx import InfluxMissing, RealInflux, start_influx
from infra.servers.kafka_real import KafkaMissing, RealKafka, start_kafka
from infra.servers.ports import free_port, port_is_open
from infra.servers.postgres import EmbeddedPostgres, start_postgres
from infra.servers.process import ChildProcess, Launch, ServerFailed, run_to_end, start_process, wait_until_ready
from infra.servers.prometheus import (
    PrometheusMissing,
    RealAlertmanager,
    RealPrometheus,
    start_alertmanager,
    start_prometheus,
)

__all__ = [
    "ChildProcess",
    "EmbeddedBroker",
    "EmbeddedPostgres",
    "InfluxMissing",
    "KafkaMissing",
    "Launch",
    "PrometheusMissing",
    "RealAlertmanager",
    "RealInflux",
    "RealKafka",
    "RealPrometheus",
    "RealRegistry",
    "RegistryMissing",
    "ServerFailed",
    "free_port",
    "port_is_open",
    "run_to_end",
    "start_alertmanager",
    "start_embedded_broker",
    "start_influx",
    "start_kafka",
    "start_postgres",
    "start_process",
    "start_prometheus",
    "start_registry",
    "wait_until_ready",
]
