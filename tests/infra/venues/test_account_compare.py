"""Any single change on either side of two equal statements is found, and named, and nothing else is."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from infra.venues.account import AccountStatement, StatedFill, StatedOrder
from infra.venues.account_compare import compared, differences
from schemas.orders import OrderStatus
from schemas.values import Side

ONE = 100_000_000
_ACCOUNTS = st.sampled_from(["main", "second"])
_INSTRUMENTS = st.sampled_from(["SIM:BTCUSD", "SIM:ETHUSD"])
_SIDES = st.sampled_from(list(Side))
_UNITS = st.integers(1, 10**15)
_MONEY = st.decimals(-(10**9), 10**9, places=18)
_AT_VENUE = [OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED, OrderStatus.CANCELED]
_AMOUNTS = st.dictionaries(st.sampled_from(["main|USD", "main|BTC", "second|USD"]), _MONEY, max_size=3)


@st.composite
def statements(draw: st.DrawFn) -> AccountStatement:
    orders = [
        StatedOrder(
            order_id=f"o{number}",
            account=draw(_ACCOUNTS),
            instrument=draw(_INSTRUMENTS),
            side=draw(_SIDES),
            quantity=draw(_UNITS),
            filled_quantity=draw(_UNITS),
            status=draw(st.sampled_from([*_AT_VENUE, OrderStatus.EXPIRED, OrderStatus.REJECTED])),
            limit_price=draw(st.none() | _UNITS),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    fills = [
        StatedFill(
            fill_id=f"f{number}",
            order_id=draw(st.sampled_from(orders)).order_id,
            account=draw(_ACCOUNTS),
            instrument=draw(_INSTRUMENTS),
            side=draw(_SIDES),
            price=draw(_UNITS),
            quantity=draw(_UNITS),
            fee=draw(_MONEY),
            fee_currency=draw(st.sampled_from(["USD", "BTC"])),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    positions = draw(st.dictionaries(st.sampled_from(["main|SIM:BTCUSD", "second|SIM:BTCUSD"]), _UNITS))
    amounts = [draw(_AMOUNTS) for _ in range(3)]
    return AccountStatement(
        orders=tuple(orders),
        fills=tuple(fills),
        positions=positions,
        cash=amounts[0],
        fees=amounts[1],
        funding=amounts[2],
    )


def _other(field: str, value: Any) -> Any:
    """Return another value of a field, the nearest there is."""
    if isinstance(value, Side):
        return Side.SELL if value is Side.BUY else Side.BUY
    if isinstance(value, OrderStatus):
        return OrderStatus.UNKNOWN
    if isinstance(value, Decimal):
        return value + Decimal(1).scaleb(-18)
    if isinstance(value, int):
        return value + 1
    if value is None:
        return 1
    return f"{value}?"


@given(st.data())
def test_one_changed_field_of_one_order_or_fill_is_the_one_difference(data: st.DataObject) -> None:
    equal = data.draw(statements())
    kind = data.draw(st.sampled_from(["orders", "fills"]))
    records = list(getattr(equal, kind))
    place = data.draw(st.integers(0, len(records) - 1))
    record = records[place]
    named = f"{kind[:-1]}_id"
    field = data.draw(st.sampled_from([name for name in record.__struct_fields__ if name != named]))
    # A price that the venue does not tell is not compared.
    if field == "limit_price" and record.limit_price is None:
        return
    records[place] = replace(record, **{field: _other(field, getattr(record, field))})
    changed = replace(equal, **{kind: tuple(records)})
    for ours, theirs in ((changed, equal), (equal, changed)):
        (found,) = differences(ours, theirs)
        assert (found.what, found.name, found.field) == (kind[:-1], getattr(record, named), field)
        assert found.ours != found.theirs


@given(st.data())
def test_a_record_or_an_amount_that_one_side_lacks_or_has_otherwise_is_the_one_difference(data: st.DataObject) -> None:
    equal = data.draw(statements())
    kind = data.draw(st.sampled_from(["orders", "fills", "positions", "cash", "fees", "funding"]))
    held = getattr(equal, kind)
    if kind in ("orders", "fills"):
        place = data.draw(st.integers(0, len(held) - 1))
        name = getattr(held[place], f"{kind[:-1]}_id")
        less: Any = held[:place] + held[place + 1 :]
    else:
        name = data.draw(st.sampled_from(["main|new", *held]))
        moved = 1 if kind == "positions" else Decimal(1).scaleb(-18)
        less = held | {name: held.get(name, 0) + moved}
    changed = replace(equal, **{kind: less})
    for ours, theirs in ((changed, equal), (equal, changed)):
        (found,) = differences(ours, theirs)
        assert (found.what, found.name) == (kind[:-1] if kind in ("orders", "fills", "positions") else kind, name)
        assert found.ours != found.theirs


@given(statements())
def test_equal_statements_differ_in_nothing_and_a_zero_may_be_left_out(equal: AccountStatement) -> None:
    assert differences(equal, equal) == []
    assert equal.positions is not None
    assert differences(equal, replace(equal, positions=equal.positions | {"third|SIM:BTCUSD": 0})) == []
    assert compared(equal, equal)["fills"] == len(equal.fills)


def _one(status: OrderStatus, filled: int = 0) -> StatedOrder:
    return StatedOrder(
        order_id="o1",
        account="main",
        instrument="SIM:BTCUSD",
        side=Side.BUY,
        quantity=ONE,
        filled_quantity=filled,
        status=status,
    )


def test_what_never_left_us_is_not_missed_at_the_venue_but_is_found_there() -> None:
    for status in (OrderStatus.DENIED, OrderStatus.NOT_SENT):
        ours = AccountStatement(orders=(_one(status),))
        assert differences(ours, AccountStatement()) == []
        (found,) = differences(ours, AccountStatement(orders=(_one(OrderStatus.NEW),)))
        assert (found.field, found.ours, found.theirs) == ("status", status.value, "NEW")


def test_a_cancel_under_way_works_at_the_venue_and_an_unknown_order_is_a_difference() -> None:
    cancelling = AccountStatement(orders=(_one(OrderStatus.PENDING_CANCEL),))
    assert differences(cancelling, AccountStatement(orders=(_one(OrderStatus.NEW),))) == []
    assert len(differences(cancelling, AccountStatement(orders=(_one(OrderStatus.CANCELED),)))) == 1
    unknown = AccountStatement(orders=(_one(OrderStatus.UNKNOWN),))
    assert len(differences(unknown, AccountStatement(orders=(_one(OrderStatus.NEW),)))) == 1


def test_a_rejected_order_may_be_absent_only_from_a_venue_that_keeps_none() -> None:
    ours = AccountStatement(orders=(_one(OrderStatus.REJECTED),))
    assert differences(ours, AccountStatement(keeps_refused=False)) == []
    assert len(differences(ours, AccountStatement())) == 1


def test_what_a_venue_does_not_tell_is_not_compared_and_said_so() -> None:
    ours = AccountStatement(cash={"main|USD": Decimal(1)}, positions={"main|X": 1})
    theirs = AccountStatement(cash=None, positions={"main|X": 1})
    assert differences(ours, theirs) == []
    assert compared(ours, theirs)["cash"] is None
    assert compared(ours, theirs)["positions"] == 1


def test_a_fill_that_is_listed_twice_is_found() -> None:
    fill = StatedFill(
        fill_id="f1",
        order_id="o1",
        account="main",
        instrument="SIM:BTCUSD",
        side=Side.BUY,
        price=ONE,
        quantity=ONE,
        fee=Decimal(0),
        fee_currency="USD",
    )
    once, twice = AccountStatement(fills=(fill,)), AccountStatement(fills=(fill, fill))
    for ours, theirs in ((once, twice), (twice, once)):
        (found,) = differences(ours, theirs)
        assert found.field == "listed twice"
