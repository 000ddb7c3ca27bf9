"""The load of the order benchmark: decisions at a rate, written as the decider writes them, and what became of each.

Each line, a strategy of its own on one instrument, turns its position round with every decision, so each decision is
one order, if the one before has its outcome by then: as long as it has none, risk waits for it and orders nothing. So
there are many lines; what was decided in vain is counted apart, and is no order.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final

import psycopg
from confluent_kafka import Producer

from infra.kafka import client_settings
from schemas.codec import Codec
from schemas.decisions import Decision, DecisionOutcome
from schemas.event import derive_id
from schemas.schema_table import SchemaTable
from schemas.topics import TOPICS
from schemas.values import NS_PER_S, units

DECISIONS: Final = TOPICS["tradermind.decision.target.v1"].name
_TARGET: Final = 0.5
_POLL_S: Final = 0.25
_MIDS: Final = "SELECT DISTINCT ON (instrument) instrument, mid FROM market_marks ORDER BY 1, available_at_ns DESC"
_STILL: Final = 4
_PROGRESS: Final = """
    SELECT (SELECT count(*) FROM decisions WHERE decision_id = %(last)s),
        (SELECT count(*) FROM order_verdicts WHERE verdict = 'APPROVED'),
        (SELECT count(*) FROM orders), (SELECT count(*) FROM orders WHERE NOT final)
"""


@dataclass(slots=True)
class Stretch:
    """One rate: decision id -> when it was written (ns), how long the writing took, and until all was in the record."""

    asked_per_s: float
    written_ns: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0
    drained_s: float | None = None

    @property
    def reached_per_s(self) -> float:
        """Decisions written a second."""
        return len(self.written_ns) / self.took_s if self.took_s else 0.0


class OrderLoad:
    """Writes decisions to a running platform. ``lines``: (account, strategy, instrument); each lives ``life_ns``."""

    def __init__(self, bootstrap: str, dsn: str, lines: Sequence[tuple[str, str, str]], life_ns: int) -> None:
        self._life_ns = life_ns
        self._producer = Producer(client_settings(bootstrap) | {"linger.ms": 1, "acks": "all"})
        self._codec = Codec(SchemaTable.committed())
        self._dsn = dsn
        self._lines = cycle(lines)
        self._targets = dict.fromkeys(lines, 0.0)
        self._mids: dict[str, int] = {}
        self._generation = time.time_ns()
        self._written = 0

    def run(self, per_s: float, seconds: float, drain_s: float) -> Stretch:
        """Write at a rate for so long, then wait until every decision has its outcome in the record, or give up."""
        stretch = Stretch(per_s)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            self._look(connection)
            began, looked = time.monotonic(), time.monotonic()
            for number in range(round(per_s * seconds)):
                wait_s = began + number / per_s - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                self._write(stretch)
                if time.monotonic() - looked > 1:
                    self._look(connection)
                    looked = time.monotonic()
            assert self._producer.flush(30) == 0, "Kafka does not take the load"
            stretch.took_s = time.monotonic() - began
            stretch.drained_s = _drained(connection, list(stretch.written_ns)[-1], drain_s)
        return stretch

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        self._mids |= {str(name): units(mid) for name, mid in connection.execute(_MIDS.encode()).fetchall() if mid}

    def _write(self, stretch: Stretch) -> None:
        line = next(self._lines)
        account, strategy, instrument = line
        self._written += 1
        name = derive_id(f"{self._generation}/{self._written}", "benchmark", 0)
        before = self._targets[line]
        self._targets[line] = target = -_TARGET if before > 0 else _TARGET
        now_ns = time.time_ns()
        decision = Decision(
            key=account,
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id=name,
            source="decider/of-the-benchmark",
            generation=self._generation,
            seq=self._written,
            decision_id=name,
            account=account,
            strategy=strategy,
            instrument=instrument,
            ballot_id=f"ballot-{name}",
            tally_id=f"tally-{name}",
            outcome=DecisionOutcome.TARGET,
            reason=None,
            target=target,
            previous_target=before,
            mid=self._mids.get(instrument),
            horizon_ns=NS_PER_S,
            policy="benchmark",
            policy_stage="champion",
            edge=None,
            cost=None,
            observation={},
            expires_at_ns=now_ns + self._life_ns,
        )
        stretch.written_ns[name] = now_ns
        self._producer.produce(DECISIONS, self._codec.encode(DECISIONS, decision), account.encode(), 0)
        self._producer.poll(0)


def _drained(connection: psycopg.Connection[Any], last: str, limit_s: float) -> float | None:
    """Return how long it took until the record had everything: no order open, and nothing new for a second after.

    None when it never had.
    """
    began = reached = time.monotonic()
    before, still = None, 0
    while time.monotonic() - began < limit_s:
        row = connection.execute(_PROGRESS.encode(), {"last": last}).fetchone()
        assert row is not None
        decided, approved, ordered, still_open = row
        done = decided == 1 and approved == ordered and still_open == 0
        if not done or row != before:
            before, still, reached = row, 0, time.monotonic()
        else:
            still += 1
            if still >= _STILL:
                return reached - began
        time.sleep(_POLL_S)
    return None
