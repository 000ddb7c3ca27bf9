"""The drill: a backup of the whole platform while it trades, the database lost, all put back, and trading goes on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from backups import drop_and_make_empty
from campaign import SETTINGS, SIMULATED, Platform, platform_on_fresh_topics
from engine_runs import ROOT
from platform_books import (
    assert_a_reader_hears_of_every_fill,
    assert_a_reader_takes_each_event_once,
    assert_books_equal_the_exchange,
    assert_one_order_per_intent,
    more_orders,
    positions,
    positions_there,
)

from infra.servers import EmbeddedPostgres, RealKafka
from schemas.topics import DECISION, ORDER_APPROVED


@pytest.fixture
def platform(tmp_path: Path, real_kafka: RealKafka, database: str) -> Iterator[Platform]:
    """The exchange and the topics of a run; its workers are started by the test."""
    with platform_on_fresh_topics(tmp_path / "run", real_kafka.bootstrap, database, SIMULATED) as made:
        yield made


@pytest.mark.kafka
@pytest.mark.slow(seconds=60)
def test_the_platform_goes_on_from_a_backup_that_was_made_while_it_traded(
    platform: Platform, postgres_server: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    run, kept = platform, platform.directory / "backups"
    run.start_all()
    run.until("the first orders", more_orders(run, 8))
    made = _cli(run, "backup", "create", "--directory", str(kept), "--json")
    assert made.returncode == 0, made.stderr
    at_backup = len(run.venue_orders())
    run.until("orders after the backup", more_orders(run, 8))
    # Killed, so that some are under way: sent and not heard of, approved and not sent.
    run.kill(*run.workers)
    lost = time.monotonic()
    checked = _cli(run, "backup", "check", "--directory", str(kept), "--json")
    assert checked.returncode == 0, checked.stderr
    assert len(run.venue_orders()) - at_backup >= 8, "the database of the backup has not heard of these"
    with _nobody_connected(run):
        drop_and_make_empty(postgres_server.dsn, run.dsn)
        told = _refused_start(run, "execution")
        assert "tradermind migrate" in told, told
        restored = _cli(run, "backup", "restore", "--directory", str(kept), "--json")
        assert restored.returncode == 0, restored.stderr

    told = _refused_start(run, "execution")
    assert "Postgres was set back" in told and "tradermind restore" in told, told
    mended = _cli(run, "restore", "--reason", "the disk broke", "--quiet-s", "0.2")
    assert mended.returncode == 0, mended.stderr
    assert "REDUCING: main" in mended.stdout, mended.stdout

    run.start_all()
    run.until("our books to be the exchange's", lambda: positions(run) == positions_there(run), 150)
    back_s = time.monotonic() - lost
    denied = "order_verdicts WHERE 'REDUCE_ONLY' = ANY(reasons)"
    run.until("a denial of what would not reduce", lambda: run.count(denied) > 0, 60)
    _lift(run)
    run.until("orders after the person lifted it", more_orders(run, 4))

    run.stop("ingestion")
    run.come_to_rest()
    run.cancel_everything()
    run.until("an outcome of every order", lambda: run.count("orders WHERE NOT final") == 0)
    run.come_to_rest()
    run.stop(*run.workers)
    assert_one_order_per_intent(run)
    assert_books_equal_the_exchange(run)
    for topic in (DECISION, ORDER_APPROVED):
        assert_a_reader_takes_each_event_once(run, topic)
    assert_a_reader_hears_of_every_fill(run)
    point = json.loads(restored.stdout)
    with capsys.disabled():
        sys.stdout.write(
            f"\ndrill: RPO {point['rpo_s']:.0f} s of the database, none of orders; RTO {back_s:.0f} s from the kill to"
            f" books equal to the exchange's, {point['rto_s']:.1f} s of it for pg_restore\n"
        )


class _nobody_connected:  # noqa: N801 - used as a statement
    """Let go of the test's own session, so that the database can be copied or replaced; take it up again."""

    def __init__(self, run: Platform) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._run._database.close()

    def __exit__(self, *_: object) -> None:
        self._run._database = psycopg.connect(self._run.dsn, autocommit=True)


def _refused_start(run: Platform, name: str) -> str:
    run.start(name)
    worker = run.workers.pop(name)
    assert worker.popen.wait(60) == 2, worker.last_lines(20)
    return str(worker.last_lines(5))


def _cli(run: Platform, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "streams.cli", command, *arguments]
    if command in ("restore", "backup"):
        program += ["--run-file", str(run.run_file), "--settings", str(SETTINGS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _lift(run: Platform) -> None:
    """Let two people set the account free, as the docs say."""
    where = ("--run", str(run.directory))
    asked = _cli(run, "risk", "ACTIVE", "--account", "main", "--reason", "looked at", "--json", *where)
    assert asked.returncode == 0, asked.stderr
    change = json.loads(asked.stdout)["change_id"]
    for name in ("ann", "bob"):
        signed = _cli(run, "change", "approve", change, "--key", str(run.directory / f"{name}.key"), *where)
        assert signed.returncode == 0, signed.stderr
    applied = _cli(run, "change", "apply", change, "--wait", "30", *where)
    assert applied.returncode == 0, applied.stderr
