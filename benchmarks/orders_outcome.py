"""What became of the decisions of the order benchmark: by our record, by the log, and by the exchange's own record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.sim.venue_record import Line, Queued
from benchmarks.orders_load import Stretch
from benchmarks.results import quantile
from schemas.codec import Codec
from schemas.decisions import OrderApproved
from schemas.orders import OrderStatus
from schemas.schema_table import SchemaTable
from schemas.topics import ORDER_APPROVED
from streams.offline.log_reader import LogReader

_CAUGHT_UP_S: Final = 5.0
"""So soon after the last decision everything must be in the record for a rate to count as sustained."""


def judge(stretch: Stretch, rows: Sequence[dict[str, Any]], sent_ns: dict[str, list[int]]) -> dict[str, Any]:
    """Return what became of the decisions of one rate; ``sent_ns``: by order, when each request for it was made."""
    named = {row["decision_id"]: row for row in rows}
    sent = [row for row in rows if row["order_id"] in sent_ns and row["final"]]
    refused: dict[str, int] = {}
    for row in rows:
        reasons = row["reasons"] if row["verdict"] == "DENIED" else row["deny_reasons"]
        for reason in reasons or ():
            refused[reason] = refused.get(reason, 0) + 1
    waits_ms = [(sent_ns[row["order_id"]][0] - stretch.written_ns[row["decision_id"]]) / 1e6 for row in sent]
    orders = len(sent)
    twice = sum(1 for row in sent if len(sent_ns[row["order_id"]]) > 1)
    whole = len(named) == len(rows) == orders and not twice
    caught_up = stretch.drained_s is not None and stretch.drained_s <= _CAUGHT_UP_S
    return {
        "asked_per_s": stretch.asked_per_s,
        "reached_per_s": stretch.reached_per_s,
        "orders_per_s": orders / stretch.took_s,
        "decisions": len(stretch.written_ns),
        "orders": orders,
        "in_vain": len(stretch.written_ns) - len(named),
        "two_outcomes": len(rows) - len(named),
        "sent_twice": twice,
        "refused": refused,
        "not_sent": sum(1 for row in rows if row["status"] == OrderStatus.NOT_SENT),
        "drained_s": stretch.drained_s,
        "sustained": whole and caught_up,
        "decision_to_request": figures(waits_ms),
    }


def requests_of(record: Path) -> dict[str, list[int]]:
    """Return order id -> when the requests for it were made, by the sender's clock, from the exchange's own record."""
    decoder = msgspec.json.Decoder(Line)
    found: dict[str, list[int]] = {}
    with record.open("rb") as lines:
        for raw in lines:
            line = decoder.decode(raw)
            if isinstance(line, Queued) and line.action.submit is not None:
                found.setdefault(line.action.submit.order_id, []).append(line.action.sent_ns)
    return found


def approvals_of(bootstrap: str) -> dict[str, float]:
    """Return order id -> when its approval was handed to Kafka, in ms: Kafka keeps whole ones."""
    codec, found = Codec(SchemaTable.committed()), dict[str, float]()
    reader = LogReader(bootstrap, (ORDER_APPROVED.name, 0))
    try:
        while (record := reader.next()) is not None:
            event = codec.decode(record.topic, record.value, record.headers)
            if isinstance(event, OrderApproved):
                found.setdefault(event.order_id, record.timestamp_ms + 0.5)
    finally:
        reader.close()
    return found


def figures(values_ms: Sequence[float]) -> dict[str, float | int | None]:
    """Return the quantiles of latencies."""
    p50, p99 = (quantile(values_ms, share) for share in (0.5, 0.99))
    return {"n": len(values_ms), "p50_ms": p50, "p99_ms": p99, "max_ms": max(values_ms, default=None)}
