"""Stops and brackets: attached to what was filled, out of the way of the strategy, never more than the position."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from money_events import ONE
from protected_line import BRACKET, STOP_ONLY, Floor

from agents.risk.config import ProtectionTerms
from schemas.control import ControlAction, ScopeKind
from schemas.decisions import DenyReason
from schemas.orders import OrderEvent, OrderStatus, SubmitRequested
from schemas.values import Leg, Level, OrderType, Side, TimeInForce

UNIT = ONE // 100
_POSSIBLE = ("decide", "move", "answer", "reject", "trade", "deliver", "wait", "expire")


def _submitted(floor: Floor) -> list[SubmitRequested]:
    return [item for item in floor.pending if isinstance(item, SubmitRequested)]


def test_an_entry_gets_a_stop_for_what_was_filled_that_cites_it() -> None:
    floor = Floor()
    entry = floor.enter()
    (stop,) = floor.live_legs()
    approved = floor.approvals()[stop.request.order_id]
    assert (approved.order_type, approved.side, approved.quantity) == (OrderType.STOP, Side.SELL, 5 * ONE)
    entered = floor.approvals()[entry].limit_price
    assert entered is not None and approved.stop_price is not None and approved.limit_price is not None
    assert approved.stop_price == -(-entered * 99 // 100 // UNIT) * UNIT
    assert approved.limit_price < approved.stop_price
    assert (approved.leg, approved.parent_order_id) == (Leg.STOP_LOSS, entry)
    assert approved.decision_id == floor.approvals()[entry].decision_id
    assert approved.reduce_only
    assert not floor.denials()


def test_a_short_position_is_protected_above() -> None:
    floor = Floor()
    floor.enter(-0.5)
    (stop,) = floor.live_legs()
    assert stop.request.side is Side.BUY
    assert stop.request.stop_price is not None and stop.request.stop_price > 100 * ONE


def test_the_stop_can_be_a_limit_order() -> None:
    floor = Floor(ProtectionTerms(BRACKET.stop_loss, None, BRACKET.stop_loss / 2))
    floor.enter()
    (stop,) = floor.live_legs()
    assert stop.request.order_type is OrderType.STOP_LIMIT
    assert stop.request.limit_price is not None and stop.request.stop_price is not None
    assert 0.994 < stop.request.limit_price / stop.request.stop_price < 0.996


def test_without_a_setting_nothing_is_protected() -> None:
    floor = Floor(None)
    floor.enter()
    assert not floor.live_legs()
    assert not floor.account.protections


def test_each_part_of_a_resting_entry_is_protected_as_it_fills() -> None:
    floor = Floor(STOP_ONLY, TimeInForce.GTC)
    floor.decide(0.5)
    (entry,) = _submitted(floor)
    floor.answer()
    for filled in (2, 3):
        floor.trade(entry.order_id, ONE)
        floor.deliver()
        while floor.pending:
            floor.answer()
        floor.deliver()
        assert sum(leg.leaves for leg in floor.live_legs()) == (filled - 1) * ONE
    assert floor.orders[entry.order_id].live


def test_many_small_legs_are_joined() -> None:
    floor = Floor(STOP_ONLY, TimeInForce.GTC)
    floor.decide(0.5)
    (entry,) = _submitted(floor)
    floor.answer()
    floor.trade(entry.order_id, 2 * ONE)
    for _ in range(12):
        floor.trade(entry.order_id, ONE // 10)
        floor.deliver()
        while floor.pending:
            floor.answer()
        floor.deliver()
    floor.wait(1_000)
    floor.settle()
    assert sum(leg.leaves for leg in floor.live_legs()) == floor.position
    assert len(floor.live_legs()) <= 5


def test_a_strategy_closes_after_its_stop_is_known_to_be_over() -> None:
    floor = Floor()
    floor.enter()
    (stop,) = floor.live_legs()
    floor.decide(0.0)
    assert not _submitted(floor), "nothing leaves while the stop could still trade"
    floor.answer()
    assert not stop.live
    floor.deliver()
    (close,) = _submitted(floor)
    assert (close.side, close.quantity) == (Side.SELL, 5 * ONE)
    assert floor.leg_of(close.order_id) is None
    floor.answer()
    floor.trade(close.order_id)
    floor.settle()
    assert floor.position == 0
    assert not floor.live()


def test_a_smaller_target_leaves_a_smaller_stop() -> None:
    floor = Floor()
    floor.enter()
    floor.decide(0.3)
    floor.answer()
    floor.deliver()
    reduction, stop = sorted(_submitted(floor), key=lambda item: item.order_type.waits)
    assert reduction.quantity + stop.quantity == 5 * ONE
    floor.answer()
    floor.answer()
    floor.trade(reduction.order_id)
    floor.settle()
    assert sum(leg.leaves for leg in floor.live_legs()) == floor.position


def test_a_larger_target_leaves_the_stop_and_adds_to_it() -> None:
    floor = Floor(STOP_ONLY)
    floor.enter(0.3)
    first = floor.live_legs()
    floor.wait(100)
    floor.enter(0.6)
    assert all(leg.live for leg in first)
    assert sum(leg.leaves for leg in floor.live_legs()) == floor.position


def test_a_turn_goes_through_zero_without_the_stop_and_is_protected_on_the_other_side() -> None:
    floor = Floor(STOP_ONLY)
    floor.enter()
    floor.decide(-0.5)
    floor.answer()
    floor.deliver()
    (turn,) = _submitted(floor)
    floor.answer()
    floor.trade(turn.order_id)
    floor.settle()
    assert floor.position == -5 * ONE
    (stop,) = floor.live_legs()
    assert (stop.request.side, stop.leaves) == (Side.BUY, 5 * ONE)


def test_a_profit_is_taken_once_the_stop_is_over() -> None:
    floor = Floor()
    floor.enter()
    (stop,) = floor.live_legs()
    floor.move(103 * ONE)
    assert not _submitted(floor)
    floor.answer()
    assert not stop.live
    floor.deliver()
    (profit,) = _submitted(floor)
    assert (profit.order_type, profit.time_in_force) == (OrderType.LIMIT, TimeInForce.IOC)
    assert floor.leg_of(profit.order_id) is Leg.TAKE_PROFIT
    floor.answer()
    floor.trade(profit.order_id)
    floor.settle()
    assert floor.position == 0 and not floor.live()


def test_what_is_left_of_a_profit_is_stopped_again() -> None:
    floor = Floor()
    floor.enter()
    floor.move(103 * ONE)
    floor.answer()
    floor.deliver()
    (profit,) = _submitted(floor)
    floor.answer()
    floor.trade(profit.order_id, 2 * ONE)
    floor.expire(profit.order_id)
    floor.settle()
    assert floor.position == 3 * ONE
    assert [leg.request.order_type for leg in floor.live_legs()] == [OrderType.STOP]
    assert floor.live_legs()[0].leaves == 3 * ONE


def test_a_profit_that_is_gone_before_the_stop_is_over_brings_the_stop_back() -> None:
    floor = Floor()
    floor.enter()
    floor.move(103 * ONE)
    floor.move(101 * ONE)
    floor.settle()
    assert [leg.request.order_type for leg in floor.live_legs()] == [OrderType.STOP]


def test_a_market_beyond_the_stop_is_left_at_once() -> None:
    floor = Floor(STOP_ONLY)
    floor.decide(0.5)
    (entry,) = _submitted(floor)
    floor.answer()
    floor.trade(entry.order_id)
    floor.move(98 * ONE)
    floor.deliver()
    (out,) = _submitted(floor)
    assert (out.order_type, out.side, out.stop_price) == (OrderType.MARKET, Side.SELL, None)
    assert floor.leg_of(out.order_id) is Leg.STOP_LOSS


def test_both_legs_filled_by_a_venue_that_does_not_keep_its_word_is_taken_back() -> None:
    floor = Floor()
    floor.enter()
    (stop,) = floor.live_legs()
    floor.move(103 * ONE)
    floor.answer()
    floor.deliver()
    (profit,) = _submitted(floor)
    floor.answer()
    floor.trade(profit.order_id)
    floor.trade(stop.request.order_id)
    assert floor.position == -5 * ONE
    floor.deliver()
    (back,) = _submitted(floor)
    assert floor.leg_of(back.order_id) is Leg.OVERFILL
    assert (back.side, back.quantity, back.order_type) == (Side.BUY, 5 * ONE, OrderType.MARKET)
    floor.answer()
    floor.trade(back.order_id)
    floor.settle()
    assert floor.position == 0 and not floor.live()


def test_a_rejected_stop_is_tried_again_later_and_later() -> None:
    floor = Floor(STOP_ONLY)
    floor.decide(0.5)
    (entry,) = _submitted(floor)
    floor.answer()
    floor.trade(entry.order_id)
    floor.deliver()
    times = []
    for _ in range(60):
        while floor.pending:
            times.append(floor.now_ns)
            floor.answer(reject=True)
            floor.deliver()
        floor.wait(500)
    gaps = [round((later - earlier) / 1e9) for earlier, later in pairwise(times)]
    assert gaps[:5] == [1, 2, 4, 8, 16]


def test_a_venue_that_has_less_than_was_bought_is_asked_for_less() -> None:
    floor = Floor(STOP_ONLY)
    floor.decide(0.5)
    (entry,) = _submitted(floor)
    floor.answer()
    floor.trade(entry.order_id)
    floor.deliver()
    for _ in range(20):
        while floor.pending:
            asked = floor.pending[0]
            floor.answer(reject=isinstance(asked, SubmitRequested) and asked.quantity > 5 * ONE * 999 // 1000)
            floor.deliver()
        floor.wait(500)
    assert [leg.leaves for leg in floor.live_legs()] == [5 * ONE * 99 // 100]


def test_a_kill_leaves_no_leg_and_none_comes_before_it_is_lifted() -> None:
    floor = Floor(STOP_ONLY)
    floor.enter()
    floor.command(ControlAction.SET_LEVEL, level=Level.HALTED, scope=ScopeKind.GLOBAL)
    floor.settle()
    floor.wait(3_000)
    floor.settle()
    assert not floor.live()
    assert not floor.denials()
    assert floor.position == 5 * ONE


@pytest.mark.parametrize("read", [True, False])
def test_flattening_takes_the_legs_out_first(read: bool) -> None:
    floor = Floor(STOP_ONLY)
    floor.enter()
    floor.command(ControlAction.FLATTEN, read=read)
    floor.settle()
    floor.wait(1_500)
    (close,) = _submitted(floor)
    assert (close.side, close.quantity) == (Side.SELL, 5 * ONE)
    floor.answer()
    floor.trade(close.order_id)
    floor.settle()
    floor.wait(1_500)
    assert floor.position == 0 and not floor.live() and not floor.account.flattening


def test_a_stop_that_a_person_cancels_comes_back_while_the_position_stands() -> None:
    floor = Floor(STOP_ONLY)
    floor.enter()
    (stop,) = floor.live_legs()
    floor.command(ControlAction.CANCEL, target=stop.request.order_id)
    floor.settle()
    floor.wait(2_000)
    floor.settle()
    assert not stop.live
    assert sum(leg.leaves for leg in floor.live_legs()) == 5 * ONE


def test_an_own_trade_is_neither_made_nor_feared() -> None:
    """A resting buy below the mid but above the stop is no reason to go without one, nor the stop against the buy."""
    floor = Floor(STOP_ONLY, TimeInForce.GTC)
    floor.decide(0.3)
    (entry,) = _submitted(floor)
    floor.answer()
    floor.trade(entry.order_id)
    floor.settle()
    floor.decide(0.5)
    floor.settle()
    assert sorted(order.request.side for order in floor.live().values()) == [Side.BUY, Side.SELL]
    assert not floor.denials()


def test_what_would_add_goes_before_what_closes_at_any_price() -> None:
    floor = Floor(STOP_ONLY, TimeInForce.GTC)
    floor.move(102 * ONE)
    floor.decide(0.2)
    (entry,) = _submitted(floor)
    floor.answer()
    floor.trade(entry.order_id, ONE)
    floor.move(100 * ONE)
    floor.settle_filling()
    assert any(DenyReason.SELF_TRADE in denial.reasons for denial in floor.denials())
    assert not floor.orders[entry.order_id].live
    floor.wait(2_000)
    floor.settle_filling()
    assert floor.position == 0


def test_a_restarted_risk_goes_on_where_it_was() -> None:
    def play(*, restarted: bool) -> list[str]:
        floor = Floor()
        floor.enter()
        if restarted:
            state = floor.pipeline.state("risk")
            stage = floor.pipeline._stages["risk"][0]
            for key in list(state):
                kept = msgspec.msgpack.encode(state[key])
                state.restore(key, msgspec.msgpack.decode(kept, type=stage.state_type(key)))
        floor.move(103 * ONE)
        floor.settle()
        floor.decide(0.0)
        floor.settle()
        return [event.event_id for event in floor.seen]

    assert play(restarted=True) == play(restarted=False)


@st.composite
def _plays(draw: st.DrawFn) -> list[tuple[str, int]]:
    return draw(st.lists(st.tuples(st.sampled_from(_POSSIBLE), st.integers(0, 30)), min_size=5, max_size=60))


def _act(floor: Floor, what: str, number: int) -> None:
    live = list(floor.live())
    if what == "decide":
        floor.decide((number % 11 - 5) / 10)
    elif what == "move":
        floor.move((96 + number % 9) * ONE)
    elif what in ("answer", "reject") and floor.pending:
        floor.answer(number % len(floor.pending), reject=what == "reject")
    elif what == "trade" and live:
        floor.trade(live[number % len(live)], (1 + number % 4) * ONE)
    elif what == "expire" and live:
        order_id = live[number % len(live)]
        if floor.orders[order_id].request.time_in_force is TimeInForce.IOC:
            floor.expire(order_id)
    elif what == "deliver":
        floor.deliver(1 + number % 4)
    elif what == "wait":
        floor.wait(100 * (1 + number))


def _legs_within_the_position(floor: Floor) -> None:
    """What protects never comes, with all else that closes, to more than the position: by the venue's own record."""
    position = floor.position
    approvals = floor.approvals()
    for side in Side:
        legs = sum(order.leaves for order in floor.live_legs() if order.request.side is side)
        legs += sum(
            item.quantity
            for item in floor.pending
            if isinstance(item, SubmitRequested) and item.side is side and approvals[item.order_id].leg is not None
        )
        if legs:
            assert floor.closing(side) <= max(0, -side.sign * position)


@pytest.mark.slow(seconds=3)
@given(plays=_plays(), bracket=st.booleans(), resting=st.booleans())
@settings(max_examples=100, deadline=None)
@example(plays=[("decide", 10), ("answer", 0), ("trade", 3), ("deliver", 3), ("move", 8)], bracket=True, resting=False)
@example(  # The market ends beyond the stop of what was sold first: it is closed at any price.
    plays=[("move", 0), ("decide", 0), ("decide", 0), ("answer", 0), ("trade", 0)], bracket=False, resting=False
)
@example(  # An order that rests and would add to the position stands in the way of what closes it.
    plays=[("move", 6), ("decide", 7), ("answer", 0), ("trade", 0)], bracket=False, resting=True
)
def test_whatever_fills_triggers_and_goes_the_legs_never_trade_beyond_the_position(
    plays: list[tuple[str, int]], bracket: bool, resting: bool
) -> None:
    floor = Floor(BRACKET if bracket else STOP_ONLY, TimeInForce.GTC if resting else TimeInForce.IOC)
    for what, number in plays:
        before = floor.position
        live = list(floor.live())
        _act(floor, what, number)
        _legs_within_the_position(floor)
        if what == "trade" and live and floor.leg_of(live[number % len(live)]) is not None:
            assert abs(floor.position) < abs(before) and floor.position * before >= 0
    floor.move(100 * ONE)
    floor.settle_filling()
    for _ in range(8):
        floor.wait(20_000)
        floor.settle_filling()
        _legs_within_the_position(floor)
    _everything_is_covered(floor)


def _everything_is_covered(floor: Floor) -> None:
    """At rest the legs and what else closes come to the position, save what is too little for the venue."""
    if floor.position:
        side = Side.SELL if floor.position > 0 else Side.BUY
        # Each leg that a test had rejected makes the next one smaller by a hundredth, up to five.
        assert abs(floor.position) - floor.closing(side) < ONE // 10 + abs(floor.position) * 5 // 100
    finals = {event.order_id: event for event in floor.seen if isinstance(event, OrderEvent)}
    for order_id, order in floor.orders.items():
        assert finals[order_id].final is (not order.live)


@pytest.mark.slow(seconds=3)
@given(late=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=4), plays=_plays())
@settings(max_examples=60, deadline=None)
def test_what_a_venue_fills_after_the_end_of_a_leg_is_taken_back(
    late: list[tuple[int, int]], plays: list[tuple[str, int]]
) -> None:
    floor = Floor()
    floor.enter()
    for what, number in plays:
        if what != "reject":
            _act(floor, what, number)
    floor.settle()
    for place, lots in late:
        ended = [
            order_id
            for order_id, order in floor.orders.items()
            if floor.leg_of(order_id) is not None and order.status is OrderStatus.CANCELED and order.leaves
        ]
        if ended:
            floor.trade(ended[place % len(ended)], lots * ONE)
            floor.settle_filling()
    floor.move(100 * ONE)
    for _ in range(8):
        floor.wait(20_000)
        floor.settle_filling()
    own = sum(
        order.request.side.sign * order.filled
        for order_id, order in floor.orders.items()
        if floor.leg_of(order_id) is None
    )
    # No leg has left more than the strategy itself traded, and none on the other side of it.
    assert abs(floor.position) <= abs(own)
    assert floor.position * own >= 0


@pytest.mark.parametrize("target", [0.5, -0.5])
def test_a_venue_that_counts_the_legs_never_sees_two_that_could_both_close(target: float) -> None:
    floor = Floor()
    floor.enter(target)
    for step in range(40):
        floor.move((97 + step % 7) * ONE)
        _legs_within_the_position(floor)
        if floor.pending:
            floor.answer()
        floor.deliver(1)
        _legs_within_the_position(floor)
