"""A run tells every metric of the table and nothing beyond; probes tell an outage from a death."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from demo_process import ROOT, running_demo
from patience import PATIENCE
from scraping import ours, probe, scrape, targets_of

from infra.kafka import client_settings
from infra.metrics.table import SERIES
from infra.postgres.migrate import migrate
from infra.servers import ChildProcess, EmbeddedBroker, Launch, free_port, start_postgres, start_process
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.topics import INGEST_TRADE

CLOSED_LABELS = {"outcome", "reason", "kind", "state", "side", "sign", "stage", "scope", "limit", "dependency"}
FROM_SETTINGS = {"instrument", "strategy", "venue", "currency", "horizon", "expert", "policy", "topic", "partition"}
OF_THE_PROCESS = {"worker", "version", "code_version", "settings_hash", "source", "le"}


@pytest.mark.embedded
@pytest.mark.slow(seconds=60)
def test_a_run_tells_every_metric_of_the_table_and_nothing_beyond(tmp_path: Path) -> None:
    with running_demo(tmp_path, changes=[("step_ms", "step_ms = 500")]) as demo:
        ports = targets_of(demo.run)
        given = json.loads((demo.run / "run.json").read_text())["metrics"]
        assert {name: port for name, port in ports.items() if name != "exchange"} == given
        producer = Producer(client_settings(demo.bootstrap))
        producer.produce(INGEST_TRADE.name, b"no record of anybody", key=b"SIM:BTCUSD")
        assert producer.flush(10) == 0
        told: set[str] = set()

        def all_told() -> bool:
            told.update(name for name, _, _ in ours(ports))
            return told >= SERIES

        try:
            demo.until(all_told, 120)
        except AssertionError as error:
            raise AssertionError(f"nobody tells {sorted(SERIES - told)}") from error
        assert told == SERIES, f"not in the table: {sorted(told - SERIES)}"
        samples = list(ours(ports))
        labels = {label for _, given, _ in samples for label in given}
        assert labels <= CLOSED_LABELS | FROM_SETTINGS | OF_THE_PROCESS, labels
        orders = {str(row[0]) for row in demo.rows("SELECT order_id FROM orders UNION SELECT account FROM orders")}
        assert orders
        assert not orders & {value for _, given, _ in samples for value in given.values()}
        assert {given["worker"] for name, given, _ in samples if name == "tradermind_build_info"} == set(ports)
        letters = {given["reason"]: value for name, given, value in samples if name == "tradermind_dlq_records_total"}
        assert letters == {"MALFORMED": 1.0}
        for name, port in given.items():
            for path in ("/livez", "/readyz", "/startupz"):
                assert probe(port, path)[0] == 200, (name, path, probe(port, path))


@contextmanager
def _worker(directory: Path, *stages: str, run_file: Path, port: int) -> Iterator[ChildProcess]:
    command = [sys.executable, "-m", "streams.cli", "worker", *stages, "--run-file", str(run_file)]
    command += ["--metrics-port", str(port)]
    process = start_process(Launch("worker", command, directory / "worker.log", {"PYTHONPATH": str(ROOT)}))
    try:
        yield process
    finally:
        process.terminate(10)


def _refused_where_the_port_is_taken(directory: Path, run_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _worker(directory, "voting", run_file=run_file, port=port) as process:
            assert process.popen.wait(60) == 2
    said = (directory / "worker.log").read_text().strip().splitlines()
    assert len(said) == 1 and said[0].startswith(f"The metrics cannot be served on 127.0.0.1:{port}"), said


def _await(port: int, path: str, status: int, process: ChildProcess, limit_s: float = 40.0) -> list[str]:
    """Ask a probe until it gives this status; return its reasons. Liveness must be green all the while."""
    limit = time.monotonic() + limit_s * PATIENCE
    while True:
        answer, body = probe(port, path)
        if answer == status:
            return list(body["reasons"])
        assert process.alive(), process.last_lines(10)
        assert probe(port, "/livez")[0] in (0, 200), probe(port, "/livez")
        assert time.monotonic() < limit, (answer, body)
        time.sleep(0.2)


@pytest.mark.embedded
@pytest.mark.slow(seconds=40)
def test_an_outage_makes_a_worker_unready_and_never_dead_and_a_port_that_is_taken_ends_it(
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker], tmp_path: Path
) -> None:
    topics = {spec.name: spec.partitions for spec in topic_specs(load_settings(ROOT / "tradermind.toml"))}
    broker = embedded_broker(topics)
    postgres = start_postgres(tmp_path / "postgres")
    try:
        migrate(postgres.dsn)
        overrides = {"kafka.bootstrap": broker.bootstrap, "postgres.dsn": postgres.dsn, "run.directory": str(tmp_path)}
        run_file = tmp_path / "run.json"
        settings = str(ROOT / "tradermind.toml")
        run_file.write_text(json.dumps({"overrides": overrides, "embedded": True, "settings": settings}))
        _refused_where_the_port_is_taken(tmp_path, run_file)
        port = free_port()
        with _worker(tmp_path, "risk", "voting", run_file=run_file, port=port) as process:
            _await(port, "/readyz", 200, process)
            assert probe(port, "/startupz")[0] == 200
            postgres.stop()
            assert "the database does not answer" in _await(port, "/readyz", 503, process)
            assert probe(port, "/livez")[0] == 200
            assert ("tradermind_database_up", {"worker": "risk-voting"}, 0.0) in scrape(port)
            postgres.restart()
            _await(port, "/readyz", 200, process)
            broker.stop()
            assert "the broker does not answer" in _await(port, "/readyz", 503, process)
            until = time.monotonic() + 5
            while time.monotonic() < until:
                assert probe(port, "/livez")[0] == 200
                time.sleep(0.5)
            process.kill()  # It would wait for the broker, and has said what it had to.
    finally:
        postgres.stop()
