"""The live table of a demo: each worker's counters, what was decided, what it came to."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from streams.demo.status import Snapshot

_COLUMNS = ("records", "events_out", "duplicates", "dead_letters", "batches")


def live_table(snapshot: Snapshot | None, headline: str) -> Group:
    """Return what to show now; before the workers have reported, the headline alone."""
    title = Text(headline, style="bold")
    if snapshot is None:
        return Group(title)
    workers = Table(title=None, box=None, pad_edge=False)
    workers.add_column("worker")
    for column in ("in", "out", "duplicates", "dead letters", "batches"):
        workers.add_column(column, justify="right")
    for stage in sorted(snapshot.stages):
        counters = dict(snapshot.stages[stage])
        if stage == "ingestion":
            counters["records"] = counters.get("feed_records", 0)
        workers.add_row(stage, *(f"{counters.get(name, 0):,}" for name in _COLUMNS))
    figures = Text(
        f"votes {snapshot.votes:,}   ballots {snapshot.tallies:,}   decisions {snapshot.decisions:,}"
        f" ({snapshot.targets:,} targets)   orders {snapshot.approved:,} approved, {snapshot.denied:,} denied"
        f"   fills {snapshot.fills:,}   dead letters {snapshot.dead_letters:,}"
    )
    equity = Text("   ".join(f"{name}: {value} {currency}" for name, (value, currency) in snapshot.equity.items()))
    return Group(title, workers, figures, equity)
