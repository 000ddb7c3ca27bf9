"""What a run has done so far, read from Postgres: for the live table, for knowing when it has come to rest."""

from dataclasses import dataclass
from typing import Any

import psycopg

_COUNTS = """
SELECT (SELECT count(*) FROM votes), (SELECT count(*) FROM tallies),
       (SELECT count(*) FROM decisions WHERE policy_stage <> 'SHADOW'),
       (SELECT count(*) FROM decisions WHERE outcome = 'TARGET' AND policy_stage <> 'SHADOW'),
       (SELECT count(*) FROM order_verdicts WHERE verdict = 'APPROVED'),
       (SELECT count(*) FROM order_verdicts WHERE verdict = 'DENIED'),
       (SELECT count(*) FROM fills), (SELECT count(*) FROM dead_letters)
"""
_EQUITY = (
    "SELECT DISTINCT ON (account) account, equity, currency FROM account_marks ORDER BY account, available_at_ns DESC"
)
_SHARDS = "SELECT stage, counters FROM worker_status"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of one moment."""

    stages: dict[str, dict[str, int]]
    votes: int
    tallies: int
    decisions: int
    targets: int
    approved: int
    denied: int
    fills: int
    dead_letters: int
    equity: dict[str, tuple[str, str]]

    @property
    def feed_finished(self) -> bool:
        """Whether a capture has come to its end."""
        return self.stages.get("ingestion", {}).get("feed_finished", 0) > 0

    @property
    def records(self) -> int:
        """How many records all stages have handled; when it stands still, the run is at rest."""
        return sum(stage.get("records", 0) for name, stage in self.stages.items() if name != "ingestion")


def read_snapshot(connection: psycopg.Connection[Any]) -> Snapshot:
    """Return the figures of now. Raises psycopg.Error."""
    stages: dict[str, dict[str, int]] = {}
    for stage, counters in connection.execute(_SHARDS).fetchall():
        total = stages.setdefault(str(stage), {})
        for name, value in counters.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + int(value)
    row = connection.execute(_COUNTS).fetchone()
    assert row is not None
    equity = {str(a): (format(value, ".2f"), str(c)) for a, value, c in connection.execute(_EQUITY).fetchall()}
    votes, tallies, decisions, targets, approved, denied, fills, dead_letters = (int(value) for value in row)
    return Snapshot(stages, votes, tallies, decisions, targets, approved, denied, fills, dead_letters, equity)
