"""The summary for people: what happened, what it came to, and what to look at next."""

from typing import Any

from rich.console import Console
from rich.table import Table

from streams.demo.plan import DemoPlan


def report(summary: dict[str, Any], console: Console, plan: DemoPlan) -> None:
    """Print the summary and the next steps."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("what", style="bold")
    table.add_column("figures")
    for name, value in _lines(summary):
        table.add_row(name, value)
    console.print(table)
    targets = summary["decisions"].get("TARGET", 0)
    if not targets:
        console.print(
            "No decision cleared its costs on this market, so nothing was traded; POLICY=probe shows the order path."
        )
    console.print(
        f"\nThe whole summary is in summary.json; logs are in {plan.directory / 'logs'}.\nLook next at:\n"
        "  tradermind decisions --outcome TARGET   then  tradermind why DECISION_ID\n"
        "  tradermind experts | positions | pnl | orders\n"
        "  docs/architecture.md, the life of one tick",
        highlight=False,
    )


def _lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    feed, fills, latency = summary["feed"], summary["fills"], summary["tick_to_order"]
    lines = [
        ("feed messages", f"{feed['messages']:,} ({feed['unreadable']} unreadable)"),
        ("market events", _pairs(feed["published"])),
        ("data quality", _pairs(feed["quality"])),
        ("votes, ballots", f"{summary['votes']:,}, {summary['ballots']:,}"),
        ("decisions", _pairs(summary["decisions"])),
        ("denied orders", _pairs(summary["denials"])),
        ("orders by state", _pairs(summary["orders"])),
        ("fills", f"{fills['fills']:,}, {fills['partly_filled_orders']} orders partly filled on their way"),
        ("costs", f"fees {fills['fees']}, slippage {fills['slippage']}"),
        ("tick to order", f"p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms over {latency['orders']} orders"),
        ("dead letters", _pairs(summary["dead_letters"])),
        ("duplicates", f"{summary['duplicates_dropped']:,} dropped"),
        ("ledger", f"{summary['ledger_imbalances']} entries out of balance"),
    ]
    for account in summary["accounts"]:
        equity = f"equity {account['equity']} {account['currency']}, day {account['day_pnl']}"
        lines.append((f"account {account['account']}", equity))
    for name, check in summary["book_against_venue"].items():
        if check["books"]:
            equal = f"{check['equal']} of {check['compared']} tops equal the venue's"
            lines.append((name, f"{equal}; {check['crossed']} of {check['books']:,} books crossed"))
    return lines


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
