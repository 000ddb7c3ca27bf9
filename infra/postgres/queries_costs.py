"""Finished orders with the mids about them: what a post-trade analysis is made of, straight from the record."""

from dataclasses import dataclass
from typing import Any, Final

from infra.postgres.queries import Connection, Row

_STALE_NS: Final = 5_000_000_000
"""A mid further away than this from the moment it stands for is none."""
_BEFORE: Final = """
    LEFT JOIN LATERAL (
        SELECT mid FROM market_marks m WHERE m.instrument = {of}.instrument AND m.mid IS NOT NULL
            AND m.available_at_ns <= {at} AND m.available_at_ns > {at} - %(stale_ns)s
        ORDER BY m.available_at_ns DESC LIMIT 1
    ) {name} ON true
"""
_AFTER: Final = """
    LEFT JOIN LATERAL (
        SELECT mid FROM market_marks m WHERE m.instrument = {of}.instrument AND m.mid IS NOT NULL
            AND m.available_at_ns >= {at} AND m.available_at_ns < {at} + %(stale_ns)s
        ORDER BY m.available_at_ns LIMIT 1
    ) {name} ON true
"""
_CHOSEN: Final = """
    o.final AND o.status NOT IN ('DENIED', 'NOT_SENT') AND o.leg IS NULL
        AND (%(account)s::text IS NULL OR o.account = %(account)s)
        AND (%(strategy)s::text IS NULL OR o.strategy = %(strategy)s)
        AND (%(instrument)s::text IS NULL OR o.instrument = %(instrument)s)
"""
_ORDERS_TEXT: Final = """
    SELECT o.order_id, o.account, o.strategy, o.instrument, o.side, o.quantity, o.status, v.decision_mid,
        i.multiplier, i.quote_currency, i.base_currency, i.taker_fee_rate, a.mid AS arrival_mid, e.mid AS mid_after,
        (d.observation ->> 'spread_relative')::double precision / 2 AS half_spread, o.available_at_ns, o.time
    FROM orders o
    JOIN instruments i ON i.instrument = o.instrument
    JOIN LATERAL (
        SELECT decision_mid FROM order_verdicts v WHERE v.decision_id = o.decision_id AND v.order_id = o.order_id
            AND v.verdict = 'APPROVED' LIMIT 1
    ) v ON true
    LEFT JOIN decisions d ON d.event_id = o.decision_id
    LEFT JOIN LATERAL (
        SELECT available_at_ns AS at_ns FROM order_events s WHERE s.order_id = o.order_id
            AND s.exec_type = 'PENDING_NEW' ORDER BY generation, seq LIMIT 1
    ) sent ON true
    {arrival}
    {after}
    WHERE {chosen} ORDER BY o.available_at_ns, o.order_id
"""
_FILLS_TEXT: Final = """
    SELECT f.order_id, f.price, f.quantity, f.fee, f.fee_currency, f.liquidity, f.event_time_ns,
        at_fill.mid AS mid, later.mid AS mid_after
    FROM orders o JOIN fills f ON f.order_id = o.order_id
    {before}
    {after}
    WHERE {chosen} AND f.reverses IS NULL AND NOT EXISTS (SELECT 1 FROM fills b WHERE b.reverses = f.fill_id)
    ORDER BY f.generation, f.seq
"""
_ORDERS: Final = _ORDERS_TEXT.format(
    arrival=_BEFORE.format(of="o", at="sent.at_ns", name="a"),
    after=_AFTER.format(of="o", at="o.available_at_ns + %(horizon_ns)s", name="e"),
    chosen=_CHOSEN,
)
_FILLS: Final = _FILLS_TEXT.format(
    before=_BEFORE.format(of="f", at="f.event_time_ns", name="at_fill"),
    after=_AFTER.format(of="f", at="f.event_time_ns + %(horizon_ns)s", name="later"),
    chosen=_CHOSEN,
)


@dataclass(frozen=True, slots=True)
class CostsAsked:
    """Which orders, and how long after a fill or an order's end the mid is looked at (ns)."""

    horizon_ns: int
    account: str | None = None
    strategy: str | None = None
    instrument: str | None = None

    def values(self) -> dict[str, Any]:
        """Return the query parameters by name."""
        return {name: getattr(self, name) for name in self.__slots__} | {"stale_ns": _STALE_NS}


def finished_orders(connection: Connection, asked: CostsAsked) -> list[tuple[Row, list[Row]]]:
    """Return (order, its fills), oldest first; a mid is None where the record has none near enough in time.

    ``half_spread`` is the quoted one that the decision saw, as a fraction of the mid. Exact numbers as Decimal, in the
    units people use. What never reached the venue is not among them.
    """
    fills: dict[str, list[Row]] = {}
    for row in connection.execute(_FILLS, asked.values()).fetchall():
        fills.setdefault(row["order_id"], []).append(row)
    return [(row, fills.get(row["order_id"], [])) for row in connection.execute(_ORDERS, asked.values()).fetchall()]
