"""Our books against the venue's statement: every single difference, with both sides. Pure.

Exact throughout: money that differs in its eighteenth place is a difference.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from infra.venues.account import AccountStatement, StatedOrder
from schemas.orders import OrderStatus
from schemas.values import to_decimal

_S = OrderStatus
_NEVER_THERE: Final = frozenset({_S.DENIED, _S.NOT_SENT})
_WORKING: Final = frozenset({_S.NEW, _S.PARTIALLY_FILLED})
_UNIT_FIELDS: Final = frozenset({"quantity", "filled_quantity", "price", "limit_price"})


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on which the two sides differ. A side of None has no such thing; ``field`` is empty then."""

    what: str
    name: str
    field: str
    ours: str | None
    theirs: str | None


def differences(ours: AccountStatement, theirs: AccountStatement) -> list[Difference]:
    """Return every difference, in the order orders, fills, positions, cash, fees, funding, each by its name."""
    found = list(_orders(ours, theirs))
    fills = ({item.fill_id: item for item in side.fills} for side in (ours, theirs))
    found += _records("fill", *fills)
    if len(ours.fills) != len({item.fill_id for item in ours.fills}):
        found.append(Difference(what="fill", name="*", field="listed twice", ours="yes", theirs=None))
    if len(theirs.fills) != len({item.fill_id for item in theirs.fills}):
        found.append(Difference(what="fill", name="*", field="listed twice", ours=None, theirs="yes"))
    found += _amounts("position", ours.positions, theirs.positions, to_decimal)
    for what in ("cash", "fees", "funding"):
        found += _amounts(what, getattr(ours, what), getattr(theirs, what), Decimal)
    return found


def compared(ours: AccountStatement, theirs: AccountStatement) -> dict[str, int | None]:
    """Return how many things of each kind were compared; None where the venue does not tell."""
    told = [item for item in ours.orders if item.status not in _NEVER_THERE]
    counts: dict[str, int | None] = {
        "orders": len({item.order_id for item in (*told, *theirs.orders)}),
        "open_orders": sum(item.status in _WORKING for item in theirs.orders),
        "fills": len({item.fill_id for item in (*ours.fills, *theirs.fills)}),
    }
    for what in ("positions", "cash", "fees", "funding"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        counts[what] = None if mine is None or other is None else len({*mine, *other})
    return counts


def _orders(ours: AccountStatement, theirs: AccountStatement) -> Iterator[Difference]:
    mine = {item.order_id: item for item in ours.orders}
    others = {item.order_id: item for item in theirs.orders}
    for name, item in list(mine.items()):
        other = others.get(name)
        absent_by_right = item.status in _NEVER_THERE or (
            item.status is _S.REJECTED and not theirs.keeps_refused and not item.filled_quantity
        )
        if other is None and absent_by_right:
            del mine[name]
        elif other is not None and _same_status(item, other):
            mine[name] = msgspec.structs.replace(item, status=other.status)
        if other is not None and other.limit_price is None:
            others[name] = msgspec.structs.replace(other, limit_price=item.limit_price)
    yield from _records("order", mine, others)


def _same_status(ours: StatedOrder, theirs: StatedOrder) -> bool:
    """A cancel or an amend under way is ours alone: to the venue the order works."""
    if ours.status in (_S.PENDING_CANCEL, _S.PENDING_REPLACE):
        return theirs.status in _WORKING
    return ours.status is theirs.status


def _records(what: str, mine: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*mine, *others}):
        ours, theirs = mine.get(name), others.get(name)
        if ours is None or theirs is None:
            sides = [None if side is None else _line(side) for side in (ours, theirs)]
            yield Difference(what=what, name=name, field="", ours=sides[0], theirs=sides[1])
            continue
        for field in ours.__struct_fields__:
            left, right = getattr(ours, field), getattr(theirs, field)
            if left != right:
                yield Difference(
                    what=what, name=name, field=field, ours=_shown(field, left), theirs=_shown(field, right)
                )


def _amounts(
    what: str, mine: Mapping[str, Any] | None, others: Mapping[str, Any] | None, exact: Callable[[Any], Decimal]
) -> Iterator[Difference]:
    if mine is None or others is None:
        return
    for name in sorted({*mine, *others}):
        left, right = exact(mine.get(name, 0)), exact(others.get(name, 0))
        if left != right:
            yield Difference(what=what, name=name, field="", ours=_plain(left), theirs=_plain(right))


def _line(record: Any) -> str:
    named = ("side", "quantity", "price", "filled_quantity", "status", "instrument")
    shown = (_shown(name, getattr(record, name)) for name in named if hasattr(record, name))
    return " ".join(value for value in shown if value is not None)


def _shown(field: str, value: Any) -> str | None:
    if value is None:
        return None
    if field in _UNIT_FIELDS:
        return _plain(to_decimal(value))
    return _plain(value) if isinstance(value, Decimal) else str(value)


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
