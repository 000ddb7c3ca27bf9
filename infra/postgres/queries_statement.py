"""Our books in the shape of a venue's statement, and whether they agree with themselves. Read from the record alone.

Cash comes from the ledger, not from the fills that are compared beside it: so one changed row of either is found.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from infra.postgres.queries import Connection, Row
from infra.venues.account import AccountStatement, StatedFill, StatedOrder
from infra.venues.account_compare import Difference
from schemas.orders import OrderStatus
from schemas.values import ZERO, Side, notional, units

_AT_VENUE: Final = """
    (%(only)s::text[] IS NULL OR split_part(instrument, ':', 1) = ANY(%(only)s))
    AND NOT split_part(instrument, ':', 1) = ANY(%(without)s::text[])
"""
_ORDERS_OF: Final = """
    SELECT order_id, account, instrument, side, quantity, filled_quantity, status, limit_price
    FROM orders WHERE {at_venue} ORDER BY 1
"""
_FILLS_OF: Final = """
    SELECT fill_id, order_id, account, instrument, side, price, quantity, fee, fee_currency, realised_pnl,
        reverses
    FROM fills WHERE {at_venue} ORDER BY fill_id
"""
_POSITIONS_OF: Final = """
    SELECT account, instrument, sum(quantity) AS quantity FROM positions WHERE {at_venue} GROUP BY 1, 2
"""
_LEDGER_OF: Final = """
    SELECT account, split_part(ledger_account, '/', 1) AS name, split_part(ledger_account, '/', 2) AS part, asset,
        sum(amount) AS amount
    FROM ledger WHERE {at_venue} GROUP BY 1, 2, 3, 4
"""
_SENT_OF: Final = "SELECT order_id, account, decided_at_ns FROM orders WHERE {at_venue}"
_ORDERS, _FILLS, _POSITIONS, _LEDGER, _SENT = (
    query.format(at_venue=_AT_VENUE) for query in (_ORDERS_OF, _FILLS_OF, _POSITIONS_OF, _LEDGER_OF, _SENT_OF)
)
_MARGINED: Final = "SELECT instrument, multiplier, quote_currency FROM instruments WHERE funding_interval_ns > 0"
_FAULTS: Final = {
    "ledger entry": """
        SELECT event_id || ' ' || asset AS name, amount AS ours, 0::numeric AS theirs FROM ledger_imbalance
    """,
    "trial balance": """
        SELECT account || '|' || asset AS name, sum(amount) AS ours, 0::numeric AS theirs
        FROM ledger GROUP BY account, asset HAVING sum(amount) <> 0
    """,
    "position and ledger": """
        SELECT account || '|' || strategy || '|' || instrument AS name, coalesce(p.quantity, 0) AS ours,
            coalesce(l.quantity, 0) AS theirs
        FROM positions p FULL JOIN (
            SELECT account, strategy, instrument, sum(amount) AS quantity FROM ledger
            WHERE ledger_account LIKE 'contracts/%' OR ledger_account LIKE 'inventory/%' GROUP BY 1, 2, 3
        ) l USING (account, strategy, instrument)
        WHERE coalesce(p.quantity, 0) <> coalesce(l.quantity, 0)
    """,
    "fills and ledger": """
        SELECT account || '|' || strategy || '|' || instrument AS name, coalesce(f.pnl, 0) AS ours,
            coalesce(l.pnl, 0) AS theirs
        FROM (SELECT account, strategy, instrument, sum(realised_pnl) AS pnl FROM fills GROUP BY 1, 2, 3) f
        FULL JOIN (
            SELECT account, strategy, instrument, -sum(amount) AS pnl FROM ledger
            WHERE ledger_account LIKE 'income/realised/%' GROUP BY 1, 2, 3
        ) l USING (account, strategy, instrument)
        WHERE coalesce(f.pnl, 0) <> coalesce(l.pnl, 0)
    """,
}


@dataclass(frozen=True, slots=True)
class AtVenue:
    """Which instruments are meant, by what stands before their colon: ``only`` these (None: all), ``without`` those."""

    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """Return the query parameters by name."""
        return {"only": None if self.only is None else list(self.only), "without": list(self.without)}


EVERYWHERE: Final = AtVenue()


def our_statement(connection: Connection, at_venue: AtVenue = EVERYWHERE) -> AccountStatement:
    """Return what our record says of all accounts at a venue."""
    where = at_venue.values()
    fills = connection.execute(_FILLS, where).fetchall()
    ledger = connection.execute(_LEDGER, where).fetchall()
    fees, funding = _sums(ledger, ("expense", "fees")), _sums(ledger, ("expense", "funding"))
    cash = _sums(ledger, ("cash", ""))
    for name, amount in funding.items():
        cash[name] = cash.get(name, ZERO) + amount
    for name, amount in _margined(connection, fills).items():
        cash[name] = cash.get(name, ZERO) - amount
    return AccountStatement(
        orders=tuple(_order(row) for row in connection.execute(_ORDERS, where).fetchall()),
        fills=tuple(_fill(row) for row in _kept(fills)),
        positions={
            f"{row['account']}|{row['instrument']}": units(row["quantity"])
            for row in connection.execute(_POSITIONS, where).fetchall()
        },
        cash=cash,
        fees=fees,
        funding=funding,
    )


def sent_orders(connection: Connection, at_venue: AtVenue) -> tuple[dict[str, str], int | None]:
    """Return order id -> account of all orders at a venue, and when the first was decided (ns); None without any."""
    rows = connection.execute(_SENT, at_venue.values()).fetchall()
    return {row["order_id"]: row["account"] for row in rows}, min((row["decided_at_ns"] for row in rows), default=None)


def book_faults(connection: Connection) -> list[Difference]:
    """Return where our own tables disagree with each other: none in books that are whole."""
    return [
        Difference(what=what, name=str(row["name"]), field="", ours=_plain(row["ours"]), theirs=_plain(row["theirs"]))
        for what, query in _FAULTS.items()
        for row in connection.execute(f"{query} ORDER BY 1").fetchall()
    ]


def trial_balance(connection: Connection) -> list[Row]:
    """Return account, ledger account (first two parts), asset and amount; each asset sums to 0 per account."""
    return [
        {
            "account": row["account"],
            "ledger_account": "/".join(part for part in (row["name"], row["part"]) if part),
            "asset": row["asset"],
            "amount": _plain(row["amount"]),
        }
        for row in sorted(
            connection.execute(_LEDGER, EVERYWHERE.values()).fetchall(),
            key=lambda row: [str(row[name]) for name in row],
        )
    ]


def _kept(fills: Iterable[Row]) -> list[Row]:
    """Return the fills without those that were taken back, and without what took them back: a venue lists neither."""
    listed = list(fills)
    gone = {row["reverses"] for row in listed if row["reverses"] is not None}
    return [row for row in listed if row["reverses"] is None and row["fill_id"] not in gone]


def _margined(connection: Connection, fills: Iterable[Row]) -> dict[str, Decimal]:
    """Return ``account|currency`` -> the cost of open perpetuals: our ledger moves no money for it, a venue does.

    Over all fills of a line, notional + realised result is what the open position cost.
    """
    terms = {row["instrument"]: row for row in connection.execute(_MARGINED).fetchall()}
    costs: dict[str, Decimal] = {}
    for row in fills:
        if (term := terms.get(row["instrument"])) is not None:
            signed = Side(row["side"]).sign * units(row["quantity"])
            name = f"{row['account']}|{term['quote_currency']}"
            spent = notional(units(row["price"]), signed, term["multiplier"]) + row["realised_pnl"]
            costs[name] = costs.get(name, ZERO) + spent
    return costs


def _sums(ledger: Iterable[Row], wanted: tuple[str, str]) -> dict[str, Decimal]:
    return {f"{row['account']}|{row['asset']}": row["amount"] for row in ledger if (row["name"], row["part"]) == wanted}


def _order(row: Row) -> StatedOrder:
    limit = row["limit_price"]
    return StatedOrder(
        **_common(row),
        order_id=row["order_id"],
        filled_quantity=units(row["filled_quantity"]),
        status=OrderStatus(row["status"]),
        limit_price=None if limit is None else units(limit),
    )


def _fill(row: Row) -> StatedFill:
    return StatedFill(
        **_common(row),
        fill_id=row["fill_id"],
        order_id=row["order_id"],
        price=units(row["price"]),
        fee=row["fee"],
        fee_currency=row["fee_currency"],
    )


def _common(row: Row) -> dict[str, Any]:
    return {
        "account": row["account"],
        "instrument": row["instrument"],
        "side": Side(row["side"]),
        "quantity": units(row["quantity"]),
    }


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")
