"""A new target changes the order that rests, where the venue can; else it is taken out for another."""

from decimal import Decimal
from typing import Any

import pytest
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, decision, limits, mark, order_event

from agents.risk.config import AmendPower, RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.risk.state import AccountRisk
from agents.stage import ShardState, run_step
from schemas.decisions import OrderApproved, OrderDenied
from schemas.event import Event
from schemas.orders import ExecType, OrderStatus
from schemas.values import NS_PER_S, Side, TimeInForce

TICK = ONE // 100
LATER = T0 + NS_PER_S


class Bench:
    """One shard of risk whose strategy rests its orders, on a venue that can change them."""

    def __init__(self, power: AmendPower = AmendPower.ANY, *, amend: bool = True, **changes: Any) -> None:
        strategy = StrategyRisk("alpha", "main", Decimal(1_000), time_in_force=TimeInForce.GTC, amend=amend)
        amends = {PERP: power, SPOT: power}
        self.stage = Risk(RiskConfig(INSTRUMENTS, {"main": limits(**changes)}, {"alpha": strategy}, amends=amends))
        self.state = ShardState()

    def give(self, *events: Event) -> list[Any]:
        found: list[Any] = []
        for event in events:
            found += run_step(self.stage, self.state, event)[1]
        return found

    @property
    def account(self) -> AccountRisk:
        found: AccountRisk = self.state["account/main"]
        return found

    def rest(self, target: float = 0.5, status: OrderStatus = OrderStatus.NEW, **changes: Any) -> OrderApproved:
        """Let an order rest: by default 5 bought at the bid of 99.99."""
        (order,) = self.give(mark(), decision(target))
        assert isinstance(order, OrderApproved)
        self.give(order_event(order, status, **changes))
        return order

    def decide(self, target: float, number: int = 2, mid: int = 100 * ONE) -> list[Any]:
        return self.give(mark(at_ns=LATER, mid=mid), decision(target, number, LATER))


def test_a_larger_or_smaller_target_changes_the_order_under_an_id_of_its_own() -> None:
    for target, quantity in ((0.8, 8 * ONE), (0.2, 2 * ONE)):
        bench = Bench()
        order = bench.rest()
        (amend,) = bench.decide(target)
        assert isinstance(amend, OrderApproved)
        assert amend.amends == order.order_id
        assert amend.order_id != order.order_id
        assert (amend.quantity, amend.limit_price, amend.cancels) == (quantity, order.limit_price, ())
        works = bench.account.exposure.working[order.order_id]
        assert works.leaves == max(5 * ONE, quantity), "until the venue has spoken the larger one counts"
        assert list(bench.account.exposure.working) == [order.order_id]


def test_a_moved_market_moves_the_order_and_what_is_filled_stays_in_its_quantity() -> None:
    bench = Bench()
    order = bench.rest(status=OrderStatus.PARTIALLY_FILLED, filled_quantity=2 * ONE, position_after=2 * ONE)
    (amend,) = bench.decide(0.5, mid=99 * ONE)
    assert amend.amends == order.order_id
    assert amend.limit_price == 99 * ONE - TICK
    assert amend.quantity == 2 * ONE + 3_050_000 * 100, "5.05 are wanted at 99, 2 are held"


def test_an_order_that_is_as_wanted_is_left_where_it_is() -> None:
    bench = Bench()
    bench.rest()
    assert bench.decide(0.5) == []
    assert bench.account.unchanged == 1


@pytest.mark.parametrize("target", [0.0, -0.5])
def test_a_target_on_the_other_side_takes_the_order_out(target: float) -> None:
    bench = Bench()
    order = bench.rest()
    (answer,) = bench.decide(target)
    assert answer.amends is None
    assert answer.cancels == (order.order_id,)


def test_where_the_venue_only_makes_smaller_the_rest_is_cancel_and_new() -> None:
    bench = Bench(AmendPower.DOWN)
    order = bench.rest()
    (smaller,) = bench.decide(0.2)
    assert (smaller.amends, smaller.quantity) == (order.order_id, 2 * ONE)
    for target, mid in ((0.8, 100 * ONE), (0.2, 99 * ONE)):
        bench = Bench(AmendPower.DOWN)
        order = bench.rest()
        answers = bench.decide(target, mid=mid)
        assert all(answer.amends is None for answer in answers)
        assert order.order_id in answers[0].cancels


@pytest.mark.parametrize("bench", [Bench(AmendPower.NONE), Bench(amend=False)])
def test_without_the_venue_or_the_strategy_nothing_is_changed(bench: Bench) -> None:
    order = bench.rest()
    (answer,) = bench.decide(0.8)
    assert answer.amends is None
    assert answer.cancels == (order.order_id,)


@pytest.mark.parametrize("status", [OrderStatus.UNKNOWN, OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE])
def test_an_order_about_which_something_is_under_way_is_not_changed(status: OrderStatus) -> None:
    bench = Bench()
    order = bench.rest()
    pending = {"amend_id": "a0", "pending_quantity": 4 * ONE, "pending_price": order.limit_price}
    changes = pending if status is OrderStatus.PENDING_REPLACE else {}
    bench.give(order_event(order, status, **changes))
    assert all(getattr(answer, "amends", None) is None for answer in bench.decide(0.8))


def test_a_change_that_the_limits_refuse_takes_the_order_out() -> None:
    bench = Bench(position_value_max=600)
    order = bench.rest()
    denied, cancels = bench.decide(0.8)
    assert isinstance(denied, OrderDenied)
    assert denied.reasons == ("POSITION_LIMIT",)
    assert isinstance(cancels, OrderApproved)
    assert (cancels.quantity, cancels.cancels) == (0, (order.order_id,))


def test_the_worse_terms_count_until_the_change_itself_is_spoken_of() -> None:
    """A word on the order from before execution had heard of the change says nothing of it."""
    bench = Bench()
    order = bench.rest()
    (amend,) = bench.decide(0.8)
    works = bench.account.exposure.working
    bench.give(order_event(order, OrderStatus.PARTIALLY_FILLED, filled_quantity=ONE))
    assert works[order.order_id].leaves == 7 * ONE
    pending = {"amend_id": amend.order_id, "pending_quantity": amend.quantity, "pending_price": amend.limit_price}
    bench.give(order_event(order, OrderStatus.PENDING_REPLACE, filled_quantity=ONE, **pending))
    assert works[order.order_id].leaves == 7 * ONE
    told = {"exec_type": ExecType.REPLACE_REJECTED, "amend_id": amend.order_id, "filled_quantity": ONE}
    bench.give(order_event(order, OrderStatus.PARTIALLY_FILLED, **told))
    assert works[order.order_id].leaves == 4 * ONE
    assert works[order.order_id].amend_id is None


def test_a_change_counts_as_a_message() -> None:
    bench = Bench(messages_max=2, message_window_ms=60_000)
    order = bench.rest()
    (amend,) = bench.decide(0.8)
    told = {"amend_id": amend.order_id, "quantity": amend.quantity, "leaves_quantity": amend.quantity}
    bench.give(order_event(order, OrderStatus.NEW, exec_type=ExecType.REPLACED, **told))
    denied, _ = bench.decide(0.2, 3)
    assert denied.reasons == ("MSG_RATE",)


def test_a_sell_is_changed_as_a_buy_is() -> None:
    bench = Bench()
    order = bench.rest(-0.5)
    assert order.side is Side.SELL
    (amend,) = bench.decide(-0.8)
    assert (amend.amends, amend.side, amend.quantity) == (order.order_id, Side.SELL, 8 * ONE)
