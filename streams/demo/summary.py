"""The summary of a run: every figure is read back from Kafka's log ends and from Postgres, none is kept on the side."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from infra.kafka import Security, log_ranges, topic_partitions
from infra.postgres.migrate import row_counts
from schemas.topics import TOPICS
from streams.demo.status import read_snapshot

_GROUPED = {
    "decisions": "SELECT outcome || coalesce(' ' || reason, '') AS name, count(*) AS n FROM decisions"
    " WHERE policy_stage <> 'SHADOW' GROUP BY 1",
    "orders": "SELECT status AS name, count(*) AS n FROM orders GROUP BY 1",
    "denials": "SELECT unnest(reasons) AS name, count(*) AS n FROM order_verdicts WHERE verdict = 'DENIED' GROUP BY 1",
    "dead_letters": "SELECT reason AS name, count(*) AS n FROM dead_letters GROUP BY 1",
    "quality": "SELECT kind AS name, sum(count)::bigint AS n FROM quality_events GROUP BY 1",
    "market_events": "SELECT kind AS name, count(*) AS n FROM market_data GROUP BY 1",
}
_FILLS = """
SELECT count(*) AS fills, coalesce(sum(fee), 0) AS fees, coalesce(sum(slippage), 0) AS slippage,
       coalesce(sum(realised_pnl), 0) AS realised_pnl,
       (SELECT count(DISTINCT order_id) FROM order_events WHERE status = 'PARTIALLY_FILLED') AS partly_filled_orders
FROM fills
"""
_PNL = """
SELECT DISTINCT ON (account) account, equity, equity_peak, day_pnl, currency
FROM account_marks ORDER BY account, available_at_ns DESC
"""
_LATENCY = """
SELECT count(*) AS orders, percentile_cont(0.5) WITHIN GROUP (ORDER BY tick_to_order_ns) / 1e6 AS p50_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY tick_to_order_ns) / 1e6 AS p99_ms FROM order_latencies
"""


def summarise(dsn: str, bootstrap: str, security: Security | None = None) -> dict[str, Any]:
    """Return the summary. Raises psycopg.Error and BrokerUnreachable."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        snapshot = read_snapshot(connection)
        with connection.cursor(row_factory=dict_row) as cursor:
            grouped = {name: _grouped(cursor, query) for name, query in _GROUPED.items()}
            fills = _plain(cursor.execute(_FILLS).fetchone())
            accounts = [_plain(row) for row in cursor.execute(_PNL).fetchall()]
            latency = _plain(cursor.execute(_LATENCY).fetchone())
            imbalances = cursor.execute("SELECT count(*) AS n FROM ledger_imbalance").fetchone()
    feed = snapshot.stages.get("ingestion", {})
    return {
        "feed": {
            "messages": feed.get("feed_records", 0),
            "unreadable": feed.get("feed_refused", 0),
            "finished": bool(feed.get("feed_finished", 0)),
            "published": grouped.pop("market_events"),
            "quality": grouped.pop("quality"),
        },
        "events_per_topic": events_per_topic(bootstrap, security),
        "votes": snapshot.votes,
        "ballots": snapshot.tallies,
        "decisions": grouped.pop("decisions"),
        "orders": grouped.pop("orders"),
        "denials": grouped.pop("denials"),
        "fills": fills,
        "accounts": accounts,
        "tick_to_order": latency,
        "ledger_imbalances": imbalances["n"] if imbalances else None,
        "dead_letters": grouped.pop("dead_letters"),
        "duplicates_dropped": sum(stage.get("duplicates", 0) for stage in snapshot.stages.values()),
        "rows_per_table": row_counts(dsn),
    }


def records_to_store(bootstrap: str, security: Security | None = None) -> int:
    """Return how many records the sinks have read when they have read all that was ever written."""
    counts = events_per_topic(bootstrap, security)
    stored = {topic.name for topic in TOPICS.values() if "sinks" in topic.consumers}
    letters = {topic.dead_letters for topic in TOPICS.values()}
    return sum(count for name, count in counts.items() if name in stored | letters)


def events_per_topic(bootstrap: str, security: Security | None = None) -> dict[str, int]:
    """Return topic -> how many records were ever written to it, from the ends of its log."""
    there = topic_partitions(bootstrap, security)
    names = [
        (name, partition)
        for topic in TOPICS.values()
        for name in (topic.name, topic.dead_letters)
        for partition in range(there.get(name, 0))
    ]
    counts: dict[str, int] = {}
    for (name, _), (_, end) in log_ranges(bootstrap, names, security).items():
        counts[name] = counts.get(name, 0) + end
    return {name: count for name, count in counts.items() if count}


def _grouped(cursor: Any, query: str) -> dict[str, int]:
    return {str(row["name"]): int(row["n"]) for row in sorted(cursor.execute(query).fetchall(), key=lambda r: -r["n"])}


def _plain(row: Any) -> dict[str, Any]:
    """Make numbers of Postgres into numbers of JSON; money stays exact, as text."""
    result: dict[str, Any] = {}
    for name, value in (row or {}).items():
        if isinstance(value, float):
            result[name] = round(value, 3)
        elif value is None or isinstance(value, int | str):
            result[name] = value
        else:
            result[name] = format(value.normalize(), "f")
    return result
