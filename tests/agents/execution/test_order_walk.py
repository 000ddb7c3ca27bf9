"""Every sequence of venue reports on one order keeps the laws; up to six of them are ``make test-orders``."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_walk import LETTERS, REPORTS, STARTS, Books, Walk, hold
from trading_desk import ONE, PERP, SPOT, Desk

from agents.execution.transitions import EXEC_OF_REPORT
from agents.stage import ShardState
from schemas.event import Event
from schemas.orders import Fill, OrderStatus, ReportKind
from schemas.values import Side, TimeInForce

RESTING = STARTS["an order that rests, sent"]


@pytest.mark.parametrize("name", STARTS)
def test_every_short_sequence_of_reports_keeps_the_laws(name: str) -> None:
    """Up to two from each start, up to three from those with the most states; longer ones are slow."""
    length = 3 if name.startswith(("an order that rests", "an amend and a cancel")) else 2
    covered = Walk(STARTS[name]).run(length)
    assert covered.sequences == [len(LETTERS) ** shorter for shorter in range(1, length + 1)]


@pytest.mark.slow(seconds=30)
def test_every_sequence_of_up_to_four_reports_keeps_the_laws() -> None:
    total = sum(sum(Walk(start).run(4).sequences) for start in STARTS.values())
    assert total == len(STARTS) * sum(len(LETTERS) ** length for length in range(1, 5))


def test_the_walk_speaks_of_every_kind_of_report_on_an_order_without_a_stop() -> None:
    spoken = {report["kind"] for report in REPORTS.values()}
    assert spoken == set(ReportKind) - {ReportKind.FUNDING, ReportKind.TRIGGERED}
    assert spoken <= set(EXEC_OF_REPORT)


def _forget_fills(state: ShardState, outputs: list[Event]) -> None:
    del outputs
    state["order/o1"].fill_ids.clear()


def _lose_a_cent(state: ShardState, outputs: list[Event]) -> None:
    if any(isinstance(event, Fill) for event in outputs):
        state["account/main"].balances["cash|USD"] -= Decimal("0.01")


def _lose_the_order(state: ShardState, outputs: list[Event]) -> None:
    del outputs
    state["account/main"].open_orders.clear()


def _revive(state: ShardState, outputs: list[Event]) -> None:
    del outputs
    if state["order/o1"].status is OrderStatus.CANCELED:
        state["order/o1"].status = OrderStatus.UNKNOWN
        state["order/o1"].timer_ns = 1
        state["account/main"].open_orders = ["o1"]


def _never_ask(state: ShardState, outputs: list[Event]) -> None:
    del outputs
    if state["order/o1"].status is OrderStatus.UNKNOWN:
        state["order/o1"].timer_ns = 0


def _say_nothing(state: ShardState, outputs: list[Event]) -> None:
    del state
    outputs[:] = [event for event in outputs if not isinstance(event, Fill)]


@pytest.mark.parametrize(
    ("spoil", "law"),
    [
        (_forget_fills, "filled is not what the fills say"),
        (_lose_a_cent, "the ledger does not sum to 0"),
        (_lose_the_order, "the open orders are not those that are live"),
        (_revive, "a change of status was not told"),
        (_never_ask, "nobody will ask about it"),
        (_say_nothing, "the fills told are not those booked"),
    ],
)
def test_the_walk_finds_a_fault_that_is_put_in(spoil: Callable[[ShardState, list[Event]], None], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        Walk(RESTING, spoil).run(3)


_VALUES = st.tuples(st.integers(1, 50), st.integers(50 * 100, 150 * 100), st.decimals(-1, 3, places=6))


@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from([PERP, SPOT]),
    fills=st.lists(_VALUES, min_size=1, max_size=5),
    words=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["trade", "bust"]), st.integers(0, 4)),
            st.tuples(st.just("correct"), st.integers(0, 4)),
            st.tuples(st.just("say"), st.sampled_from(list(REPORTS))),
            st.tuples(st.just("beat"), st.sampled_from([100, 1_100, 6_000])),
            st.tuples(st.just("amend"), st.integers(1, 20)),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_the_laws_hold_for_any_quantities_prices_and_fees(
    key: str, fills: list[tuple[int, int, Decimal]], words: list[tuple[str, Any]]
) -> None:
    desk = Desk()
    desk.approve("o1", time_in_force=TimeInForce.GTC, instrument=key, side=Side.BUY)
    for number, (word, what) in enumerate(words):
        desk.beat(2)
        desk.mark(key, 100 * ONE, on_grid=False)
        before = Books(desk.state)
        if word == "say":
            fields = dict(REPORTS[what])
            outputs = desk.report("o1", fields.pop("kind"), instrument=key, **fields)
        elif word == "beat":
            outputs = desk.beat(what)
        elif word == "amend":
            terms: dict[str, Any] = {"quantity": what * ONE // 10, "limit_price": (90 + what) * ONE, "instrument": key}
            outputs = desk.approve(f"a{number}", amends="o1", time_in_force=TimeInForce.GTC, **terms)
        elif word == "bust":
            outputs = desk.report("o1", ReportKind.TRADE_CANCEL, refers_to=f"g{what}", instrument=key)
        else:
            tenths, price, fee = fills[what % len(fills)]
            facts = {"last_price": price * ONE // 100, "last_quantity": tenths * ONE // 50, "fee": fee}
            kind, name = ReportKind.TRADE, f"g{what % len(fills)}"
            if word == "correct":
                kind, name, facts["refers_to"] = ReportKind.TRADE_CORRECT, f"h{number}", f"g{what}"  # type: ignore[assignment]
            outputs = desk.report("o1", kind, fill_id=name, fee_currency="USD", instrument=key, **facts)
        hold(before, Books(desk.state), outputs, amends=word == "amend")
