"""What the signed audit says of a stretch of time, added up for whoever must assess the controls once a year.

Everything is counted from ``audit_rows`` alone, whose chain ``tradermind audit verify`` holds: no other table, which
could be changed without a trace, is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.postgres.queries import Connection, Row, json_ready

_STRETCH: Final = "created_at_ns >= %(from_ns)s AND created_at_ns < %(to_ns)s"
_TOLD: Final = """
    WITH told AS (
        SELECT kind, created_at, convert_from(content, 'UTF8')::jsonb AS content FROM audit_rows WHERE {stretch}
    )
"""
_STREAMS: Final = """
    SELECT stream, count(*) AS rows, min(ordinal) AS first, max(ordinal) AS last, min(created_at) AS since,
        max(created_at) AS until
    FROM audit_rows WHERE {stretch} GROUP BY stream ORDER BY stream
"""
_ORDERS: Final = """
    {told}
    SELECT
        count(*) FILTER (WHERE kind = 'OrderApproved' AND (content ->> 'quantity')::numeric > 0) AS approved,
        count(*) FILTER (WHERE kind = 'OrderDenied') AS denied_by_risk,
        count(*) FILTER (WHERE kind = 'OrderEvent' AND content ->> 'exec_type' = 'DENIED') AS denied_by_execution,
        count(*) FILTER (WHERE kind = 'OrderEvent' AND content ->> 'exec_type' = 'PENDING_NEW') AS sent,
        count(DISTINCT content ->> 'order_id')
            FILTER (WHERE kind = 'OrderEvent' AND content ->> 'status' = 'REJECTED') AS rejected_by_venue,
        count(DISTINCT content ->> 'order_id')
            FILTER (WHERE kind = 'OrderEvent' AND content ->> 'status' = 'UNKNOWN') AS once_unknown,
        count(*) FILTER (WHERE kind = 'Fill') AS fills
    FROM told
"""
_REASONS: Final = """
    {told}, refused AS (
        SELECT 'risk' AS by, jsonb_array_elements_text(content -> 'reasons') AS reason
        FROM told WHERE kind = 'OrderDenied'
        UNION ALL
        SELECT 'execution', jsonb_array_elements_text(content -> 'deny_reasons')
        FROM told WHERE kind = 'OrderEvent' AND jsonb_array_length(content -> 'deny_reasons') > 0
    )
    SELECT reason, count(*) FILTER (WHERE by = 'risk') AS by_risk,
        count(*) FILTER (WHERE by = 'execution') AS by_execution
    FROM refused GROUP BY reason ORDER BY reason
"""
_PEOPLE: Final = """
    {told}
    SELECT created_at AS time, kind, content ->> 'author' AS author, content ->> 'action' AS action,
        concat_ws(' ', content ->> 'scope', nullif(content ->> 'target', '')) AS target, content ->> 'level' AS level,
        content ->> 'outcome' AS outcome, content ->> 'refusal' AS refusal,
        (SELECT string_agg(name, ', ') FROM jsonb_array_elements_text(
            CASE WHEN jsonb_typeof(content -> 'approved_by') = 'array' THEN content -> 'approved_by' END) AS name
        ) AS approved_by, content ->> 'reason' AS reason
    FROM told WHERE kind IN ('ControlCommand', 'ControlOutcome') ORDER BY created_at, kind
"""
_LIMITS: Final = """
    {told}
    SELECT content ->> 'limits_version' AS version, count(*) AS orders, min(created_at) AS since,
        max(created_at) AS until
    FROM told WHERE kind IN ('OrderApproved', 'OrderDenied') AND content ->> 'limits_version' <> ''
    GROUP BY 1 ORDER BY 3, 1
"""
_OTHERS: Final = """
    SELECT kind, count(*) AS rows FROM audit_rows WHERE {stretch} GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The audit of a stretch of time, added up. Each row is ready for JSON.

    ``streams``: what is there; ``orders``: one row of counts; ``reasons``: refusals by reason, and by who refused;
    ``people``: each command and what came of it; ``limits``: by which versions orders were judged; ``kinds``: all rows.
    """

    streams: list[Row]
    orders: Row
    reasons: list[Row]
    people: list[Row]
    limits: list[Row]
    kinds: list[Row]


def assessment(connection: Connection, from_ns: int, to_ns: int) -> Assessment:
    """Return what was audited from ``from_ns`` up to, and without, ``to_ns`` (the sinks' clock)."""
    stretch = {"from_ns": from_ns, "to_ns": to_ns}
    (orders,) = _rows(connection, _ORDERS, stretch)
    return Assessment(
        streams=_rows(connection, _STREAMS, stretch),
        orders=orders,
        reasons=_rows(connection, _REASONS, stretch),
        people=_rows(connection, _PEOPLE, stretch),
        limits=_rows(connection, _LIMITS, stretch),
        kinds=_rows(connection, _OTHERS, stretch),
    )


def _rows(connection: Connection, query: str, values: Mapping[str, Any]) -> list[Row]:
    told = _TOLD.format(stretch=_STRETCH)
    return [
        json_ready(row)
        for row in connection.execute(query.format(told=told, stretch=_STRETCH).encode(), values).fetchall()
    ]
