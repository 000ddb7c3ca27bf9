"""What a demo prints: the live table and the closing report, from figures alone."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from streams.demo.plan import DemoPlan
from streams.demo.report import report
from streams.demo.status import Snapshot
from streams.demo.table import live_table


def snapshot(**stages: dict[str, int]) -> Snapshot:
    return Snapshot(
        stages=stages,
        votes=1_830,
        tallies=366,
        decisions=242,
        targets=21,
        approved=10,
        denied=6,
        fills=18,
        dead_letters=2,
        equity={"main": ("99986.94", "USD")},
    )


def summary(**changes: Any) -> dict[str, Any]:
    empty = {"books": 0, "compared": 0, "equal": 0, "crossed": 0}
    full = {"books": 1_149, "compared": 894, "equal": 894, "crossed": 0}
    plain: dict[str, Any] = {
        "feed": {"messages": 1_239, "unreadable": 0, "published": {"TRADE": 3_391}, "quality": {}},
        "votes": 1_860,
        "ballots": 372,
        "decisions": {"TARGET": 22, "NO_TRADE EDGE_BELOW_COST": 37},
        "denials": {"SHORT_NOT_ALLOWED": 5},
        "orders": {"FILLED": 9},
        "fills": {"fills": 18, "partly_filled_orders": 7, "fees": "7.99", "slippage": "0.49"},
        "tick_to_order": {"p50_ms": 21.5, "p99_ms": 40.25, "orders": 9},
        "dead_letters": {},
        "duplicates_dropped": 3,
        "ledger_imbalances": 0,
        "accounts": [{"account": "main", "equity": "99983.2", "currency": "USD", "day_pnl": "-16.8"}],
        "book_against_venue": {"SIM:BTCUSD": full, "EXT:DEMO": empty},
    }
    return plain | changes


def printed(what: dict[str, Any]) -> str:
    stream = io.StringIO()
    report(what, Console(file=stream, width=160), DemoPlan(directory=Path("run")))
    return stream.getvalue()


def test_a_report_gives_the_figures_and_says_where_to_look() -> None:
    text = printed(summary())
    for words in (
        "1,239 (0 unreadable)",
        "TARGET 22, NO_TRADE EDGE_BELOW_COST 37",
        "SHORT_NOT_ALLOWED 5",
        "18, 7 orders partly filled",
        "p50 21.5 ms, p99 40.25 ms over 9 orders",
        "894 of 894 tops equal the venue's; 0 of 1,149 books crossed",
        "tradermind why DECISION_ID",
    ):
        assert words in text
    assert "EXT:DEMO" not in text, "there is nothing to say of an instrument without a book"
    assert "No decision cleared" not in text


def test_a_run_without_a_target_says_why_nothing_was_traded() -> None:
    text = printed(summary(decisions={"NO_TRADE EDGE_BELOW_COST": 3}, orders={}, denials={}))
    assert "No decision cleared its costs" in text
    assert "POLICY=probe" in text


def _shown(of: Snapshot | None) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(live_table(of, "a headline"))
    return stream.getvalue()


def test_the_live_table_counts_each_worker_and_the_feeds_messages() -> None:
    text = _shown(
        snapshot(
            risk={"records": 1_623, "events_out": 16, "duplicates": 5, "dead_letters": 0, "batches": 1_025},
            ingestion={"records": 1, "feed_records": 1_217, "events_out": 9_368},
        )
    )
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["risk"] == ["1,623", "16", "5", "0", "1,025"]
    assert rows["ingestion"] == ["1,217", "9,368", "0", "0", "0"]
    assert "orders 10 approved, 6 denied" in text
    assert "main: 99986.94 USD" in text


def test_before_the_workers_report_the_headline_stands_alone() -> None:
    assert _shown(None).split() == ["a", "headline"]


def test_a_snapshot_tells_the_end_of_a_capture_and_what_the_stages_have_handled() -> None:
    running = snapshot(ingestion={"records": 9, "feed_finished": 0}, risk={"records": 3}, voting={"records": 4})
    assert not running.feed_finished
    assert running.records == 7
    assert snapshot(ingestion={"feed_finished": 1}).feed_finished
    assert not snapshot().feed_finished
