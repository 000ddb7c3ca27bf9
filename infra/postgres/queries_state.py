"""How things stand: positions, profit and loss, orders and decisions, as the record has them.

Every function returns rows that JSON can hold, exact numbers as text.
"""

from dataclasses import dataclass
from typing import Any, Final

from infra.postgres.queries import Connection, Row, json_ready

_POSITIONS: Final = """
    SELECT p.account, p.strategy, p.instrument, p.quantity, p.average_price, m.mid, m.working, m.unrealised_pnl,
        p.realised_pnl, p.fees, p.currency, p.time
    FROM positions p LEFT JOIN newest_account_marks m USING (account, strategy, instrument)
    WHERE %(flat)s OR p.quantity <> 0 ORDER BY 1, 2, 3
"""
_PNL: Final = """
    SELECT m.account, m.strategy, m.instrument, m.realised_pnl, m.unrealised_pnl, m.fees,
        coalesce(f.funding, 0) AS funding,
        m.realised_pnl + m.unrealised_pnl - m.fees - coalesce(f.funding, 0) AS net_pnl,
        coalesce(t.fills, 0) AS fills, coalesce(t.slippage, 0) AS slippage, m.currency, m.time
    FROM newest_account_marks m
    LEFT JOIN (SELECT account, strategy, instrument, sum(funding) AS funding FROM account_marks GROUP BY 1, 2, 3) f
        USING (account, strategy, instrument)
    LEFT JOIN (SELECT account, strategy, instrument, count(*) - 2 * count(reverses) AS fills, sum(slippage) AS slippage
        FROM fills GROUP BY 1, 2, 3) t USING (account, strategy, instrument)
    ORDER BY 1, 2, 3
"""
_GROUPS: Final = {"account": "account", "strategy": "strategy", "instrument": "instrument"}
_PNL_BY: Final = """
    SELECT {group}, sum(realised_pnl) AS realised_pnl, sum(unrealised_pnl) AS unrealised_pnl, sum(fees) AS fees,
        sum(funding) AS funding, sum(net_pnl) AS net_pnl, sum(fills)::bigint AS fills, sum(slippage) AS slippage,
        currency, max(time) AS time
    FROM ({lines}) AS line GROUP BY {group}, currency ORDER BY 1, currency
"""
_POSITIONS_BY: Final = """
    SELECT {group}, sum(quantity) AS quantity, sum(working) AS working, sum(unrealised_pnl) AS unrealised_pnl,
        sum(realised_pnl) AS realised_pnl, sum(fees) AS fees, currency, max(time) AS time
    FROM ({lines}) AS line GROUP BY {group}, currency HAVING %(flat)s OR sum(quantity) <> 0 ORDER BY {group}
"""
_ACCOUNTS: Final = """
    SELECT DISTINCT ON (account) account, equity, equity_peak, day_pnl,
        CASE WHEN equity_peak > 0 THEN 1 - equity / equity_peak END AS drawdown, currency, time
    FROM account_marks ORDER BY account, generation DESC, seq DESC
"""
_ORDERS: Final = """
    SELECT order_id, time, account, strategy, instrument, side, order_type, time_in_force, limit_price, stop_price,
        leg, parent_order_id, quantity, filled_quantity, average_price, status, final, reason, deny_reasons, decision_id
    FROM orders WHERE (%(account)s::text IS NULL OR account = %(account)s)
        AND (%(strategy)s::text IS NULL OR strategy = %(strategy)s)
        AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s)
        AND (NOT %(open)s OR NOT final)
    ORDER BY available_at_ns DESC, order_id LIMIT %(limit)s
"""
_DECISIONS: Final = """
    SELECT event_id AS decision_id, time, account, strategy, instrument, outcome, reason, target, previous_target,
        mid, edge, cost, policy, policy_stage, withheld, withheld_for
    FROM decisions WHERE (%(account)s::text IS NULL OR account = %(account)s)
        AND (%(strategy)s::text IS NULL OR strategy = %(strategy)s)
        AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s)
        AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
        AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    ORDER BY available_at_ns DESC, event_id LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are asked for; what is None is not asked about."""

    account: str | None = None
    strategy: str | None = None
    instrument: str | None = None
    outcome: str | None = None
    reason: str | None = None
    open: bool = False
    limit: int = 20

    def values(self) -> dict[str, Any]:
        """Return the query parameters by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def positions(connection: Connection, *, flat: bool = False, by: str | None = None) -> list[Row]:
    """Return every open position at its newest mark; with ``flat`` also those that are closed.

    ``by`` account or strategy: the net of each instrument there; by instrument: the net of all. KeyError for another.
    """
    if by is None:
        return _rows(connection, _POSITIONS, {"flat": flat})
    group = ", ".join(dict.fromkeys((_GROUPS[by], "instrument")))
    every = _POSITIONS.replace("%(flat)s", "true")
    return _rows(connection, _POSITIONS_BY.format(group=group, lines=every), {"flat": flat})


def pnl(connection: Connection, by: str | None = None) -> dict[str, list[Row]]:
    """Return ``accounts`` (equity and drawdown) and ``lines``, per (account, strategy, instrument) or summed ``by``
    one.

    ``net_pnl`` = realised + unrealised - fees - funding paid; slippage is already in the first two. Sums are per
    currency: that of the account. KeyError for a ``by`` that is none of the three.
    """
    query = _PNL if by is None else _PNL_BY.format(group=_GROUPS[by], lines=_PNL)
    return {"accounts": _rows(connection, _ACCOUNTS, {}), "lines": _rows(connection, query, {})}


def orders(connection: Connection, selection: Selection) -> list[Row]:
    """Return orders as their newest event left them, newest first."""
    return _rows(connection, _ORDERS, selection.values())


def decisions(connection: Connection, selection: Selection) -> list[Row]:
    """Return decisions, newest first."""
    return _rows(connection, _DECISIONS, selection.values())


def _rows(connection: Connection, query: str, values: dict[str, Any]) -> list[Row]:
    return [json_ready(row) for row in connection.execute(query, values).fetchall()]
