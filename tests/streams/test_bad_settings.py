"""What a user can set wrongly ends before anything has begun: one sentence on stderr, exit code 2, no traceback."""

import gzip
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from captures import USDM_20240808
from patience import PATIENCE

from infra.kafka import TopicSpec, apply_topics
from infra.kafka_remake import delete_topics
from infra.postgres.migrate import migrate
from infra.servers import EmbeddedBroker, RealKafka
from schemas.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0
pytestmark = pytest.mark.slow  # each test starts the command line anew


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it took."""

    code: int
    out: str
    err: str
    seconds: float


def tradermind(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> Said:
    """Run a command of ours in a folder that holds the project's settings, as a user does."""
    shutil.copy(ROOT / "tradermind.toml", folder)
    command = [sys.executable, "-m", "streams.entry", *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRADERMIND__")}
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=env | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def is_one_sentence(said: Said, *parts: str) -> None:
    """Assert exit code 2 and one line on stderr that names what is wrong."""
    lines = said.err.strip().splitlines()
    assert said.code == 2, said
    assert len(lines) == 1, said.err
    assert lines[0].endswith((".", ").")), lines[0]
    assert "Traceback" not in said.err + said.out
    for part in parts:
        assert part in lines[0], lines[0]


WRONG = {
    "an unknown key": ("RUN__SEEED", "1", ("run.seeed is not a setting", "did you mean seed?")),
    "an unknown section": ("NOSUCH__KEY", "1", ("nosuch",)),
    "an unknown limit": ("LIMITS__GLOBAL__ORDER_VALUE_MAXX", "1", ("order_value_maxx", "is not a limit")),
    "a limit below zero": ("LIMITS__GLOBAL__ORDER_VALUE_MAX", "-1", ("limits.global.order_value_max", "-1")),
    "a limit that is no number": ("LIMITS__GLOBAL__LEVERAGE_MAX", "nan", ("limits.global.leverage_max",)),
    "a limit of nothing": ("LIMITS__GLOBAL__DAILY_LOSS_MAX", "0", ("limits.global.daily_loss_max",)),
    "a drawdown above all": ("LIMITS__GLOBAL__DRAWDOWN_MAX", "7", ("drawdown_max", "between 0 and 1")),
    "a grid that cannot be kept": ("GRID__STEP_MS", "150", ("grid", "150")),
    "a password among settings": ("POSTGRES__DSN", "host=h password=p", ("password_file",)),
    "a request that outlives the wait": (
        "VENUE__RECEIVE_WINDOW_MS",
        "4000",
        ("venue: a request might arrive for 5000 ms", "less than venue.takeover_wait_ms (5000)"),
    ),
    "an account that is not there": ("STRATEGIES__PULSE__ACCOUNT", "nobody", ("nobody",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting(tmp_path: Path, case: str) -> None:
    name, value, parts = WRONG[case]
    is_one_sentence(tradermind(tmp_path, "config", environment={f"TRADERMIND__{name}": value}), *parts)


def _demo(tmp_path: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Said:
    return tradermind(tmp_path, "demo", "--duration", "1", "--directory", "run", *flags, environment=environment)


DEMO_FLAGS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "a capture that is not there": (("--feed", "nosuch.gz"), ("nosuch.gz does not exist",)),
    "a capture that is none": (("--feed", "tradermind.toml"), ("tradermind.toml",)),
    "a speed that is none": (("--speed", "abc"), ("SPEED is a number or max, not 'abc'",)),
    "a policy that is none": (("--policy", "abc"), ("'abc'",)),
    "no address": (("--broker", "nonsense"), ("'nonsense' is no address of a Kafka broker",)),
    "a broker that nobody runs": (("--broker", "127.0.0.1:9"), ("No Kafka broker answers at 127.0.0.1:9",)),
    "settings that are not there": (("--settings", "nosuch.toml"), ("nosuch.toml cannot be read",)),
}


@pytest.mark.parametrize("case", DEMO_FLAGS)
def test_a_wrong_flag_of_the_demo(tmp_path: Path, case: str) -> None:
    flags, parts = DEMO_FLAGS[case]
    is_one_sentence(_demo(tmp_path, *flags), *parts)


def test_a_broker_that_is_out_of_reach_is_given_up_in_seconds(tmp_path: Path) -> None:
    said = _demo(tmp_path, "--broker", "192.0.2.1:9")
    is_one_sentence(said, "No Kafka broker answers at 192.0.2.1:9")
    assert said.seconds < 30 * PATIENCE


def test_real_kafka_without_java_says_what_is_missing(tmp_path: Path) -> None:
    said = _demo(tmp_path, "--broker", "kafka", environment={"PATH": ""})
    is_one_sentence(said, "BROKER=kafka needs java", "BROKER=host:port")


@contextmanager
def _port_of(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that something other than Kafka has taken."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets = [listener]

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(accepted)
            answer(accepted)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for each in open_sockets:
            each.close()
        thread.join(10)


def _speaks_http(accepted: socket.socket) -> None:
    accepted.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    accepted.close()


@pytest.mark.parametrize("answer", [_speaks_http, lambda accepted: None], ids=["speaks HTTP", "says nothing"])
def test_a_port_that_another_server_has_taken(tmp_path: Path, answer: Callable[[socket.socket], None]) -> None:
    with _port_of(answer) as port:
        said = _demo(tmp_path, "--broker", f"127.0.0.1:{port}")
    is_one_sentence(said, f"No Kafka broker answers at 127.0.0.1:{port}")
    assert said.seconds < 30 * PATIENCE


def test_a_capture_that_is_cut_short_in_its_head(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b'{"stream":"btcusdt@trade"}\n' * 100)[:30])
    is_one_sentence(_demo(tmp_path, "--feed", "cut.gz"), "cut.gz")


@pytest.mark.embedded
@pytest.mark.skipif(not USDM_20240808.is_file(), reason="the captures are not on this machine")
def test_a_capture_that_is_cut_short_later(tmp_path: Path) -> None:
    whole = USDM_20240808.read_bytes()
    (tmp_path / "usdm-btcusdt-20240808.gz").write_bytes(whole[:400_000])
    said = tradermind(tmp_path, "demo", "--feed", "usdm-btcusdt-20240808.gz", "--speed", "max", "--directory", "run")
    is_one_sentence(said, "usdm-btcusdt-20240808.gz", "cannot be read to its end")


def test_a_worker_needs_addresses_and_a_name(tmp_path: Path) -> None:
    is_one_sentence(tradermind(tmp_path, "worker", "voting"), "kafka.bootstrap", "postgres.dsn")


def _worker(tmp_path: Path, bootstrap: str, dsn: str, *stages: str) -> Said:
    environment = {"TRADERMIND__KAFKA__BOOTSTRAP": bootstrap, "TRADERMIND__POSTGRES__DSN": dsn}
    return tradermind(tmp_path, "worker", *stages, environment=environment)


def test_a_worker_of_an_unknown_name(tmp_path: Path) -> None:
    is_one_sentence(_worker(tmp_path, "127.0.0.1:9", "host=127.0.0.1 port=9", "nosuch"), "'nosuch' is not a worker")


@pytest.mark.embedded
def test_a_worker_without_a_broker(tmp_path: Path, database: str) -> None:
    migrate(database)
    is_one_sentence(_worker(tmp_path, "127.0.0.1:9", database, "voting"), "127.0.0.1:9")


@pytest.mark.embedded
def test_a_worker_without_a_database(
    tmp_path: Path, embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker]
) -> None:
    broker = embedded_broker(_topics())
    said = _worker(tmp_path, broker.bootstrap, "host=127.0.0.1 port=9 dbname=none", "voting")
    is_one_sentence(said, "127.0.0.1", "9")


def _topics() -> dict[str, int]:
    specs = {topic.name: topic.partitions(4) for topic in TOPICS.values()}
    return specs | {f"{name}.dlq": partitions for name, partitions in specs.items()}


def _runs_for_a_while(tmp_path: Path, bootstrap: str, dsn: str) -> None:
    """Run a deciding worker until it has a checkpoint, then end it."""
    shutil.copy(ROOT / "tradermind.toml", tmp_path)
    environment = {**os.environ, "TRADERMIND__KAFKA__BOOTSTRAP": bootstrap, "TRADERMIND__POSTGRES__DSN": dsn}
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.entry", "worker", "decider"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        limit = time.monotonic() + LIMIT_S
        while not _has_checkpoints(dsn):
            assert process.poll() is None, (tmp_path / "worker.log").read_text()
            assert time.monotonic() < limit, (tmp_path / "worker.log").read_text()
            time.sleep(0.1)
    finally:
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "worker.log").read_text()


def _has_checkpoints(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM shard WHERE stage = 'decider' AND batch > 0").fetchone()
    return row is not None and row[0] == 1


@pytest.mark.embedded
def test_a_checkpoint_of_another_broker(
    tmp_path: Path, database: str, embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker]
) -> None:
    migrate(database)
    first, second = embedded_broker(_topics()), embedded_broker(_topics())
    _runs_for_a_while(tmp_path, first.bootstrap, database)
    said = _worker(tmp_path, second.bootstrap, database, "decider")
    is_one_sentence(said, first.cluster_id, second.cluster_id)


@pytest.mark.kafka
def test_a_checkpoint_of_the_embedded_broker_on_real_kafka(
    tmp_path: Path,
    database: str,
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker],
    real_kafka: RealKafka,
) -> None:
    migrate(database)
    first = embedded_broker(_topics())
    _runs_for_a_while(tmp_path, first.bootstrap, database)
    delete_topics(real_kafka.bootstrap, _topics().keys())  # Other tests share this broker.
    apply_topics(real_kafka.bootstrap, [TopicSpec(name, partitions) for name, partitions in _topics().items()])
    said = _worker(tmp_path, real_kafka.bootstrap, database, "decider")
    # A Kafka that has just been started answers the first questions for a coordinator with "not yet", which is logged.
    is_one_sentence(replace(said, err=said.err.strip().splitlines()[-1]), first.cluster_id, "begin anew")
