"""Rows of the record as measured orders, grouped; and the estimates that they lead to."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from agents.costs.estimate import CostEstimate, CostPrior, FillCost, fitted
from agents.costs.shortfall import PARTS, MeasuredFill, MeasuredOrder, Shortfall, shortfall, total_of
from infra.postgres.queries import Row, json_ready
from schemas.values import Side, units

_BASIS_POINTS: Final = 10_000


class Measured(NamedTuple):
    """One order's row, its fills' rows, and its shortfall; or the reason why it has none."""

    row: Row
    fills: Sequence[Row]
    cost: Shortfall | None
    why_not: str | None


def measure(row: Row, fills: Sequence[Row]) -> Measured:
    """Return an order's shortfall, or why it cannot be measured: a mid that is not there is never made up."""
    fees = [_fee_in_quote(row, fill) for fill in fills]
    filled = sum((fill["quantity"] for fill in fills), Decimal(0))
    why_not = None
    if row["arrival_mid"] is None:
        why_not = "no mid when it was sent"
    elif any(fill["mid"] is None for fill in fills):
        why_not = "no mid at a fill"
    elif any(fill["mid_after"] is None for fill in fills) or (filled != row["quantity"] and row["mid_after"] is None):
        why_not = "no mid at the horizon yet"
    elif any(fee is None for fee in fees):
        why_not = "a fee in a third currency"
    if why_not is not None:
        return Measured(row, fills, None, why_not)
    order = MeasuredOrder(
        side=Side(row["side"]),
        quantity=units(row["quantity"]),
        multiplier=row["multiplier"],
        decision_mid=units(row["decision_mid"]),
        arrival_mid=units(row["arrival_mid"]),
        mid_after=units(row["mid_after"] if row["mid_after"] is not None else row["decision_mid"]),
        fills=tuple(
            MeasuredFill(
                price=units(fill["price"]),
                quantity=units(fill["quantity"]),
                fee=fee or Decimal(0),
                mid=units(fill["mid"]),
                mid_after=units(fill["mid_after"]),
            )
            for fill, fee in zip(fills, fees, strict=True)
        ),
    )
    return Measured(row, fills, shortfall(order), None)


def grouped(measured: Iterable[Measured], by: str) -> list[dict[str, Any]]:
    """Return rows as JSON holds them: ``by`` instrument or strategy one for each (and currency), by order one each."""
    groups: dict[tuple[str, str], list[Shortfall]] = {}
    names = ("order_id" if by == "order" else by, "quote_currency")
    counts: dict[tuple[str, str], int] = {}
    for item in measured:
        key = (str(item.row[names[0]]), str(item.row[names[1]]))
        counts[key] = counts.get(key, 0) + 1
        groups.setdefault(key, [])
        if item.cost is not None:
            groups[key].append(item.cost)
    return [
        {names[0]: key[0], "orders": counts[key], "measured": len(costs), **_told(costs), "currency": key[1]}
        for key, costs in groups.items()
    ]


def estimates(measured: Iterable[Measured]) -> dict[str, CostEstimate]:
    """Return each instrument's estimate from its measured fills, oldest first: the very one that a decider keeps."""
    by_instrument: dict[str, list[Measured]] = {}
    for item in measured:
        if item.cost is not None and item.fills:
            by_instrument.setdefault(item.row["instrument"], []).append(item)
    return {name: _fitted(items) for name, items in sorted(by_instrument.items())}


def _fitted(items: Sequence[Measured]) -> CostEstimate:
    seen: list[FillCost] = []
    moves: list[tuple[float, float]] = []
    for item in items:
        sign, decided, half_spread = Side(item.row["side"]).sign, item.row["decision_mid"], item.row["half_spread"]
        for fill in item.fills:
            notional = decided * fill["quantity"] * item.row["multiplier"]
            root = math.sqrt(notional)
            slip = float(sign * (fill["price"] - decided) / decided)
            fee = _fee_in_quote(item.row, fill) or Decimal(0)
            seen.append(FillCost(None if half_spread is None else slip - half_spread, float(fee / notional), root))
            moves.append((float(sign * (fill["mid_after"] - decided) / decided), root))
    return fitted(seen, moves, CostPrior(fee=float(items[0].row["taker_fee_rate"])))


def _told(costs: Sequence[Shortfall]) -> dict[str, Any]:
    total = total_of(costs)
    filled, notional = total.filled_notional, total.notional
    told = json_ready({name: getattr(total, name) for name in (*PARTS, "total", "notional", "filled_notional")})
    rate = float(total.total / notional) * _BASIS_POINTS if notional else None
    paid = total.total - total.opportunity
    paid_rate = float(paid / filled) * _BASIS_POINTS if filled else None
    return told | {"total_bp": rate, "paid_bp": paid_rate, "filled": float(filled / notional) if notional else None}


def _fee_in_quote(row: Row, fill: Row) -> Decimal | None:
    fee: Decimal = fill["fee"]
    if fill["fee_currency"] == row["quote_currency"] or not fee:
        return fee
    return fee * fill["price"] if fill["fee_currency"] == row["base_currency"] else None
