"""The whole platform with the real exchange, set back to a backup: after a restore it holds what the exchange holds."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from backups import Backup
from campaign import SETTINGS, SIMULATED, Platform, platform_on_fresh_topics
from engine_runs import ROOT

from infra.servers import EmbeddedPostgres, RealKafka


@pytest.fixture
def platform(tmp_path: Path, real_kafka: RealKafka, database: str) -> Iterator[Platform]:
    """The exchange and the topics of a run; its workers are started by the test."""
    with platform_on_fresh_topics(tmp_path / "run", real_kafka.bootstrap, database, SIMULATED) as made:
        yield made


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.campaign
def test_after_a_restore_positions_are_the_exchanges_and_no_order_was_doubled(
    platform: Platform, postgres_server: EmbeddedPostgres
) -> None:
    run = platform
    run.start_all()
    run.until("the first orders", _more_orders(run, 8))
    run.stop(*run.workers)
    with _nobody_connected(run):
        backup = Backup(postgres_server.dsn, run.dsn)
    known = {str(row[0]) for row in run.rows("SELECT order_id FROM orders")}
    run.start_all()
    run.until("orders after the backup", _more_orders(run, 8))
    # Killed, so that some are under way: sent and not heard of, approved and not sent.
    run.kill(*run.workers)
    with _nobody_connected(run):
        backup.put_back()
    forgotten = {order.order_id for order in run.venue_orders()} - known
    assert len(forgotten) >= 8

    told = _refused_start(run, "execution")
    assert "Postgres was set back" in told and "tradermind restore" in told, told
    restored = _cli(run, "restore", "--reason", "the disk broke", "--quiet-s", "0.2")
    assert restored.returncode == 0, restored.stderr
    assert "REDUCING: main" in restored.stdout, restored.stdout

    run.start_all()
    run.until("our books to be the exchange's", lambda: _positions(run) == _positions_there(run), 60)
    denied = "order_verdicts WHERE 'REDUCE_ONLY' = ANY(reasons)"
    run.until("a denial of what would not reduce", lambda: run.count(denied) > 0, 60)
    _lift(run)
    run.until("orders after the person lifted it", _more_orders(run, 4))

    run.stop("ingestion")
    run.come_to_rest()
    run.cancel_everything()
    run.until("an outcome of every order", lambda: run.count("orders WHERE NOT final") == 0)
    run.come_to_rest()
    run.stop(*run.workers)
    _assert_one_order_per_intent(run)
    _assert_books_equal_the_exchange(run)


def _more_orders(run: Platform, count: int) -> Callable[[], bool]:
    at_venue, recorded = len(run.venue_orders()) + count, run.count("orders") + count
    return lambda: len(run.venue_orders()) >= at_venue and run.count("orders") >= recorded


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
    if command == "restore":
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


def _positions(run: Platform) -> Mapping[str, int]:
    rows = run.rows("SELECT instrument, sum(quantity) FROM positions GROUP BY instrument")
    return {str(name): int(quantity * 10**8) for name, quantity in rows}


def _positions_there(run: Platform) -> Mapping[str, int]:
    return run.venue_accounts()["main"].positions


def _assert_one_order_per_intent(run: Platform) -> None:
    """Whatever is at the exchange is an intent of ours with one outcome, and none is there twice."""
    at_venue = run.venue_orders()
    sent = Counter(order.order_id for order in at_venue)
    status = dict(run.rows("SELECT order_id, status FROM orders"))
    assert sent.keys() <= status.keys(), "the exchange has an order that is no intent of ours"
    assert set(sent.values()) == {1}
    assert {order.order_id: order.status.value for order in at_venue} == {name: status[name] for name in sent}
    final = Counter(str(row[0]) for row in run.rows("SELECT order_id FROM order_events WHERE final"))
    assert set(final.values()) == {1}, "more than one final outcome"


def _assert_books_equal_the_exchange(run: Platform) -> None:
    theirs = {
        fill.fill_id: (order.order_id, fill.price, fill.quantity, fill.fee)
        for order in run.venue_orders()
        for fill in order.fills
    }
    ours = run.rows("SELECT fill_id, order_id, price, quantity, fee FROM fills")
    assert len(ours) == len(theirs) > 0, "a fill was booked twice, or never"
    assert {str(name): (str(order), int(p * 10**8), int(q * 10**8), fee) for name, order, p, q, fee in ours} == theirs
    assert _positions(run) == _positions_there(run)
    assert run.rows("SELECT * FROM ledger_imbalance") == []
    (fees,) = run.rows("SELECT sum(amount) FROM ledger WHERE ledger_account LIKE 'expense/fees/%'")[0]
    assert fees == sum(run.venue_accounts()["main"].fees.values())
