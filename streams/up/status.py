"""What a platform that stays shows of itself: cheap questions only, since its tables grow for months."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from rich.console import Group
from rich.table import Table
from rich.text import Text

from streams.up.parts import Part

_FRESH: Final = (
    "SELECT stage, counters FROM worker_status"
    " WHERE updated_at >= %s::timestamptz AND updated_at > now() - interval '15 s'"
)
_ANSWER_S: Final = 3
_COLUMNS: Final = ("records", "events_out", "duplicates", "dead_letters", "behind_records")


@dataclass(frozen=True, slots=True)
class Standing:
    """The counters of each stage that reported since the start and just now, its shards summed."""

    stages: dict[str, dict[str, int]]


def read_standing(dsn: str, since: str) -> Standing | None:
    """Return what the workers have reported since a time of the database's; None while it does not answer."""
    try:
        with psycopg.connect(dsn, connect_timeout=_ANSWER_S, autocommit=True) as connection:
            rows = connection.execute(_FRESH, (since,)).fetchall()
    except psycopg.OperationalError:
        return None
    stages: dict[str, dict[str, int]] = {}
    for stage, counters in rows:
        total = stages.setdefault(str(stage), {})
        for name, value in counters.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return Standing(stages)


def standing_table(standing: Standing | None, parts: Sequence[Part], headline: str) -> Group:
    """Return what to show now."""
    processes = Text("   ".join(f"{part.name}: {part.state}" for part in parts))
    if standing is None:
        return Group(Text(headline, style="bold"), processes, Text("The database does not answer.", style="red"))
    workers = Table(box=None, pad_edge=False)
    workers.add_column("stage")
    for column in ("in", "out", "duplicates", "dead letters", "behind"):
        workers.add_column(column, justify="right")
    for stage, counters in sorted(standing.stages.items()):
        shown = dict(counters)
        if stage == "ingestion":
            shown["records"] = shown.get("feed_records", 0)
        workers.add_row(stage, *(f"{shown.get(name, 0):,}" for name in _COLUMNS))
    return Group(Text(headline, style="bold"), workers, processes)
