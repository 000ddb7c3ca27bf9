"""``tradermind up``: what it knows stays over a stop and over ``kill -9`` of everything; nothing is lost or doubled."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_process import changed_settings, children_of
from patience import PATIENCE
from up_process import UpProcess

from infra.servers import KafkaMissing
from infra.servers.kafka_real import kafka_libraries

ALONE = ("--without", "influx", "--without", "prometheus")
FILLED = "SELECT count(*) FROM fills"
ENDED = "SELECT order_id, status, filled_quantity FROM orders WHERE final"
PULSE = "parameters = { every = 2, size = 0.5 }"


@pytest.fixture
def platform(tmp_path: Path, real_kafka_programs: None) -> Iterator[list[UpProcess]]:
    """The starts of one platform, in order; whatever is left of the last one is killed."""
    started: list[UpProcess] = []
    yield started
    for one in started:
        one.kill_all()


@pytest.fixture
def real_kafka_programs(request: pytest.FixtureRequest) -> None:
    """Skip where Kafka cannot be had, as the shared fixture does, and as loudly."""
    try:
        kafka_libraries()
    except KafkaMissing:
        request.getfixturevalue("real_kafka")


def started(folder: Path, platform: list[UpProcess]) -> UpProcess:
    """Start the platform of a folder, for the first time or again."""
    platform.append(UpProcess(folder, ALONE))
    platform[-1].wait_until_ready()
    return platform[-1]


@pytest.mark.kafka
@pytest.mark.slow(seconds=35)
def test_it_goes_on_where_it_was_killed_and_ends_when_it_is_told(tmp_path: Path, platform: list[UpProcess]) -> None:
    (tmp_path / "tradermind.toml").write_text(changed_settings([("parameters = { every = 5", PULSE)]))
    first = started(tmp_path, platform)
    first.until(FILLED, 4)
    pid = next(pid for pid in children_of(first.process.pid) if b"voting" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "The worker voting was started again." in first.told(), first)
    fills = set(first.rows("SELECT fill_id FROM fills"))
    ended = set(first.rows(ENDED))
    first.kill_all()

    second = started(tmp_path, platform)
    assert all(second.addresses[name] == first.addresses[name] for name in ("Kafka", "Postgres", "exchange"))
    assert fills <= set(second.rows("SELECT fill_id FROM fills"))
    assert ended <= set(second.rows(ENDED))
    second.until(FILLED, len(fills) + 2)
    assert_books_are_whole(second)
    down = [sys.executable, "-m", "streams.entry", "down", "--directory", str(second.data)]
    done = subprocess.run(down, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert second.process.wait(10) == 0, second.told()
    assert not (second.data / "up.json").exists()
    assert subprocess.run(down, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode == 1


@pytest.mark.campaign
@pytest.mark.kafka
def test_life_after_life_nothing_is_lost_and_nothing_doubled(tmp_path: Path, platform: list[UpProcess]) -> None:
    (tmp_path / "tradermind.toml").write_text(changed_settings([("parameters = { every = 5", PULSE)]))
    fills: set[tuple[str]] = set()
    ended: set[tuple[str, str, Any]] = set()
    for life, is_killed in enumerate((False, True, False, True, False)):
        one = started(tmp_path, platform)
        assert fills <= set(one.rows("SELECT fill_id FROM fills")), f"life {life}"
        assert ended <= set(one.rows(ENDED)), f"life {life}"
        one.until(FILLED, len(fills) + 2)
        assert_books_are_whole(one)
        fills, ended = set(one.rows("SELECT fill_id FROM fills")), set(one.rows(ENDED))
        if is_killed:
            one.kill_all()
        else:
            assert one.end() == 0, one.told()


def wait_for(holds: Callable[[], bool], up: UpProcess) -> None:
    """Wait until something holds of a platform that must live that long."""
    limit = time.monotonic() + 30 * PATIENCE
    while not holds():
        assert up.process.poll() is None and time.monotonic() < limit, up.told()
        time.sleep(0.1)


def assert_books_are_whole(up: UpProcess) -> None:
    """Our books are the exchange's, every fill is there once, and every entry balances."""
    answer = up.ask("reconcile", "--settle-s", "20")
    assert answer["difference"] == 0, answer
    assert up.rows("SELECT count(*) - count(DISTINCT fill_id) FROM fills") == [(0,)]
    assert up.rows("SELECT count(*) FROM ledger_imbalance") == [(0,)]
    assert up.rows("SELECT count(*) FROM dead_letters") == [(0,)]
