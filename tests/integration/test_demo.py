"""The demo as a newcomer runs it: every worker, on both columns, on the simulated market and on a real capture."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from audit_stories import assert_it_holds_the_record
from captures import USDM_20240808

from infra.servers.kafka_real import KafkaMissing, kafka_libraries
from infra.servers.postgres import start_postgres

ROOT = Path(__file__).resolve().parents[2]
USDM_MESSAGES = 93_954
USDM_COMPARABLE_TOPS = 629


def _demo(directory: Path, *flags: str, timeout_s: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "streams.cli", "demo", "--directory", str(directory / "run"), "--json", *flags]
    settings = ["--settings", str(ROOT / "tradermind.toml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *settings], cwd=directory, capture_output=True, text=True, timeout=timeout_s, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    assert json.loads(done.stdout) == summary
    assert _left_over(directory) == []
    return summary


def _left_over(directory: Path) -> list[str]:
    """Return the command lines of processes that a run below ``directory`` has left behind."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(directory) in command:
                found.append(command)
    return found


def _accounted(feed: dict[str, Any]) -> int:
    """Return how many messages of a capture were published or refused with a reason.

    A snapshot that synchronised a book is published as BOOK; the other books are our own, one a minute.
    """
    published = sum(count for kind, count in feed["published"].items() if kind != "BOOK")
    return published + feed["quality"].get("SYNCHRONISED", 0) + feed["quality"].get("REFUSED", 0)


def _tables_hold_what_the_topics_hold(summary: dict[str, Any]) -> None:
    """With no duplicate sent, each event is one row: two events with one id would be one row too few."""
    topics, rows = summary["events_per_topic"], summary["rows_per_table"]
    assert rows["market_marks"] == topics["tradermind.market.mark.v1"]
    assert rows["tallies"] == topics["tradermind.vote.tally.v1"]
    assert rows["decisions"] == topics["tradermind.decision.target.v1"]
    assert rows["scores"] + rows["ballots_voided"] == topics["tradermind.feedback.score.v1"]


def _reconciled(run: Path, *, code: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "streams.cli", "reconcile", "--run", str(run), "--json"]
    settings = ["--settings", str(ROOT / "tradermind.toml")]
    done = subprocess.run([*command, *settings], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _reconciles_and_names_a_changed_row(run: Path, fills: int) -> None:
    """The exchange's own record and our books differ in nothing, until somebody changes a row; the audit is sound."""
    clean = _reconciled(run, code=0)
    assert (clean["difference"], clean["compared"]["fills"]) == (0, fills)
    server = start_postgres(run)
    try:
        assert_it_holds_the_record(server.dsn, run)
        with psycopg.connect(server.dsn) as connection:
            changed = (
                "UPDATE fills SET quantity = quantity + 0.00000001 WHERE fill_id = (SELECT min(fill_id) FROM fills)"
            )
            row = connection.execute(f"{changed} RETURNING fill_id").fetchone()
    finally:
        server.stop()
    assert row is not None
    named = {(item["what"], item["name"], item["field"]) for item in _reconciled(run, code=1)["differences"]}
    assert ("fill", row[0], "quantity") in named


@pytest.mark.embedded
def test_a_minute_of_the_simulated_market_shows_every_outcome(tmp_path: Path) -> None:
    summary = _demo(tmp_path, "--duration", "60", timeout_s=200)
    assert summary["fills"]["fills"] > 0
    assert summary["fills"]["partly_filled_orders"] > 0
    assert summary["denials"]
    assert any(name.startswith("NO_TRADE ") for name in summary["decisions"])
    assert summary["decisions"]["TARGET"] > 0
    assert summary["tick_to_order"]["orders"] > 0
    assert summary["ledger_imbalances"] == 0
    assert summary["dead_letters"] == {}
    assert all(check["crossed"] == 0 for check in summary["book_against_venue"].values())
    assert all(check["equal"] == check["compared"] for check in summary["book_against_venue"].values())
    assert summary["rows_per_table"]["ledger"] > 0
    _tables_hold_what_the_topics_hold(summary)
    _reconciles_and_names_a_changed_row(tmp_path / "run", summary["fills"]["fills"])


@pytest.mark.kafka
def test_a_real_capture_at_full_speed_on_real_kafka_is_accounted_for(tmp_path: Path) -> None:
    try:
        kafka_libraries()
    except KafkaMissing as error:
        pytest.skip(str(error))
    flags = ("--broker", "kafka", "--feed", str(USDM_20240808), "--speed", "max", "--policy", "probe")
    summary = _demo(tmp_path, *flags, timeout_s=500)
    feed = summary["feed"]
    assert feed["messages"] == USDM_MESSAGES
    assert feed["unreadable"] == 0
    assert _accounted(feed) == USDM_MESSAGES
    check = summary["book_against_venue"]["BINANCE_USDM:BTCUSDT"]
    assert (check["compared"], check["equal"], check["crossed"]) == (USDM_COMPARABLE_TOPS, USDM_COMPARABLE_TOPS, 0)
    assert summary["fills"]["fills"] > 0
    assert summary["ledger_imbalances"] == 0
    # What the sinks keep is what the topics hold: no market event is lost on the way to Postgres.
    assert sum(feed["published"].values()) == summary["rows_per_table"]["market_data"]
