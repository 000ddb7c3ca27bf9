"""What experts have said and what came of it: the scored ballots of each (instrument, horizon), as the record has them.

Scores say how a ballot ended, tallies what was said on it; both are read by the ballot, so that nothing is kept twice.
"""

from dataclasses import dataclass
from typing import Any, Final

from infra.postgres.queries import Connection

_POOLS: Final = """
    SELECT w.instrument, w.horizon_ns, i.taker_fee_rate, json_agg(json_build_object('expert', w.expert,
        'weight', w.weight, 'skill', w.skill) ORDER BY w.weight DESC, w.expert) AS standings
    FROM weights w LEFT JOIN instruments i USING (instrument)
    WHERE %(instrument)s::text IS NULL OR w.instrument = %(instrument)s
    GROUP BY 1, 2, 3 ORDER BY 1, 2
"""
_BALLOTS: Final = """
    SELECT t.grid_time_ns, t.mid, t.spread, t.volatility, t.p_down, t.p_flat, t.p_up, t.entries,
        s.outcome, s.base_loss, s.pool_loss
    FROM tallies t CROSS JOIN LATERAL (
        SELECT outcome, base_loss, pool_loss FROM scores WHERE scores.ballot_id = t.ballot_id LIMIT 1) s
    WHERE t.instrument = %(instrument)s AND t.horizon_ns = %(horizon_ns)s AND t.advice_for IS NULL
    ORDER BY t.grid_time_ns DESC, t.ballot_id LIMIT %(ballots)s
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """One (instrument, horizon): who weighs what by the newest tally, and its newest scored ballots, oldest first.

    ``taker_fee_rate`` is None while the instrument is not in the record.
    """

    instrument: str
    horizon_ns: int
    taker_fee_rate: float | None
    standings: list[dict[str, Any]]
    ballots: list[dict[str, Any]]


def pools(connection: Connection, instrument: str | None, ballots: int) -> list[Pool]:
    """Return every pool that has tallied, each with at most its so many newest scored ballots."""
    found = []
    for row in connection.execute(_POOLS, {"instrument": instrument}).fetchall():
        asked = {"instrument": row["instrument"], "horizon_ns": row["horizon_ns"], "ballots": ballots}
        fee = row["taker_fee_rate"]
        newest = connection.execute(_BALLOTS, asked).fetchall()
        fee_rate = None if fee is None else float(fee)
        found.append(Pool(row["instrument"], row["horizon_ns"], fee_rate, row["standings"], newest[::-1]))
    return found
