"""The gate: exactly the limit passes, one unit more does not, and everything that is wrong is reported."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, approved, instrument, limits, mark

from agents.limits.checks import check_order, failed
from agents.limits.conduct import Conduct
from agents.limits.exposure import ExposureLine, ExposureView, content_key
from agents.limits.windows import PriceRange
from agents.limits.working import WorkingOrder
from schemas.decisions import DenyReason, OrderApproved
from schemas.opinions import MarkQuality
from schemas.values import NS_PER_MS, NS_PER_S, ZERO, Level, OrderType, Side, TimeInForce, units

R = DenyReason
TICK = ONE // 100
# Reasons that execution gives outside the gate.
FROM_ELSEWHERE = {R.NOT_SENT_IN_TIME, R.RECONCILING, R.NOT_AMENDABLE}


def line(position: int = 0, buys: int = 0, sells: int = 0, strategy: str = "alpha", name: str = PERP) -> ExposureLine:
    return ExposureLine(strategy=strategy, instrument=name, position=position, buys=buys, sells=sells)


def working(side: Side, price: int | None, **changes: Any) -> WorkingOrder:
    fields: dict[str, Any] = {
        "order_id": "w1",
        "strategy": "beta",
        "instrument": PERP,
        "side": side,
        "leaves": ONE,
        "limit_price": price,
        "rests": True,
    }
    return WorkingOrder(**fields | changes)


def view(lines: Sequence[ExposureLine] = (), orders: Sequence[WorkingOrder] = (), **changes: Any) -> ExposureView:
    fields: dict[str, Any] = {
        "instruments": INSTRUMENTS,
        "marks": {PERP: mark(), SPOT: mark(SPOT)},
        "lines": {(item.strategy, item.instrument): item for item in lines},
        "working": {item.order_id: item for item in orders},
        "equity": Decimal(10_000),
        "equity_peak": Decimal(10_000),
        "day_pnl": ZERO,
    }
    return ExposureView(**fields | changes)


def conduct(sent: int, ago_ns: int = 0) -> Conduct:
    """Return the conduct of alpha after so many orders at one time."""
    found = Conduct()
    for _ in range(sent):
        found.count_sent("alpha", T0 - ago_ns, limits())
    return found


def moved(first: str, then: str, ago_ns: int = 5 * NS_PER_S) -> ExposureView:
    """Return a view of a perpetual whose mid was ``first`` and then ``then``."""
    mids = PriceRange()
    mids.add(T0 - ago_ns, units(first), 60_000)
    mids.add(T0, units(then), 60_000)
    return view(ranges={PERP: mids})


def reasons(order: OrderApproved, on: ExposureView | None = None, now_ns: int = T0, **limit: Any) -> set[DenyReason]:
    return set(failed(check_order(order, view() if on is None else on, limits(**limit), now_ns)))


def test_a_plain_order_passes_every_check_in_a_fixed_order() -> None:
    results = check_order(approved(), view(), limits(), T0)
    assert not failed(results)
    assert [item.reason for item in results] == [
        *(R.NOT_PERMITTED, R.INSTRUMENT_UNKNOWN, R.INVALID_NUMBER, R.DATA_STALE, R.CLOCK_DRIFT, R.REF_PRICE_STALE),
        *(R.PRICE_COLLAR, R.PRICE_MOVE),
        *(R.TICK_SIZE, R.LOT_SIZE, R.ORDER_QTY_MIN, R.ORDER_QTY_MAX, R.NOTIONAL_MIN, R.ORDER_VALUE_MAX),
        *(R.SHORT_NOT_ALLOWED, R.POSITION_LIMIT, R.GROSS_EXPOSURE, R.NET_EXPOSURE, R.CREDIT_LIMIT, R.RISK_THRESHOLD),
        *(R.CANARY_CAP, R.OVERRIDE_EXPIRED),
        *(R.MSG_RATE, R.DUPLICATE_ORDER, R.SELF_TRADE, R.UNKNOWN_ORDER_OPEN),
        *(R.EXEC_THROTTLE, R.REJECT_STREAK, R.LOSS_LIMIT, R.DRAWDOWN),
        *(R.REDUCE_ONLY, R.KILLED),
    ]


def test_every_reason_that_the_gate_can_give_is_checked() -> None:
    results = check_order(approved(), view(), limits(), T0)
    assert {item.reason for item in results} == set(DenyReason) - FROM_ELSEWHERE


def _mark_aged(available_ns: int = 0, newest_ns: int = 0, **changes: Any) -> ExposureView:
    aged = mark(available_at_ns=T0 - available_ns, newest_time_ns=T0 - newest_ns, **changes)
    return view(marks={PERP: aged})


S, MS = NS_PER_S, NS_PER_MS
# Each row: the reason, an order and view that stand exactly at the limit, and those just beyond it.
EDGES: dict[str, tuple[DenyReason, tuple[Any, ...], tuple[Any, ...], dict[str, Any]]] = {
    "expiry": (R.DATA_STALE, (approved(expires_at_ns=T0),), (approved(expires_at_ns=T0 - 1),), {}),
    "market data": (R.DATA_STALE, (approved(), _mark_aged(0, 5 * S)), (approved(), _mark_aged(0, 5 * S + 1)), {}),
    "reference": (R.REF_PRICE_STALE, (approved(), _mark_aged(2 * S)), (approved(), _mark_aged(2 * S + 1)), {}),
    "collar above": (
        R.PRICE_COLLAR,
        (approved(limit_price=101 * ONE),),
        (approved(limit_price=101 * ONE + TICK),),
        {},
    ),
    "collar below": (R.PRICE_COLLAR, (approved(limit_price=99 * ONE),), (approved(limit_price=99 * ONE - TICK),), {}),
    "tick": (R.TICK_SIZE, (approved(limit_price=100 * ONE + TICK),), (approved(limit_price=100 * ONE + 1),), {}),
    "lot": (R.LOT_SIZE, (approved(quantity=ONE + ONE // 1000),), (approved(quantity=ONE + 1),), {}),
    "smallest": (
        R.ORDER_QTY_MIN,
        (approved(quantity=ONE // 10), view(instruments={PERP: instrument(quantity_min=ONE // 10)})),
        (approved(quantity=ONE // 20), view(instruments={PERP: instrument(quantity_min=ONE // 10)})),
        {},
    ),
    "largest of the venue": (
        R.ORDER_QTY_MAX,
        (approved(quantity=2 * ONE), view(instruments={PERP: instrument(quantity_max=2 * ONE)})),
        (approved(quantity=2 * ONE + 1), view(instruments={PERP: instrument(quantity_max=2 * ONE)})),
        {},
    ),
    "largest of ours": (
        R.ORDER_QTY_MAX,
        (approved(quantity=2 * ONE),),
        (approved(quantity=2 * ONE + 1),),
        {"order_quantity_max": {PERP: 2}},
    ),
    "notional": (R.NOTIONAL_MIN, (approved(quantity=ONE // 20),), (approved(quantity=ONE // 25),), {}),
    "value": (R.ORDER_VALUE_MAX, (approved(quantity=10 * ONE),), (approved(quantity=10 * ONE + 1),), {}),
    "value at the mid": (
        R.ORDER_VALUE_MAX,
        (approved(quantity=10 * ONE, limit_price=99 * ONE),),
        (approved(quantity=10 * ONE + 1, limit_price=99 * ONE),),
        {},
    ),
    "short": (
        R.SHORT_NOT_ALLOWED,
        (approved(instrument=SPOT, side=Side.SELL), view([line(ONE, name=SPOT)])),
        (approved(instrument=SPOT, side=Side.SELL), view([line(ONE, sells=1, name=SPOT)])),
        {},
    ),
    "position": (
        R.POSITION_LIMIT,
        (approved(), view([line(10 * ONE, buys=4 * ONE), line(-5 * ONE, strategy="beta")])),
        (approved(), view([line(10 * ONE, buys=4 * ONE), line(-5 * ONE, sells=1, strategy="beta")])),
        {},
    ),
    "position of the instrument": (
        R.POSITION_LIMIT,
        (approved(), view([line(4 * ONE)])),
        (approved(), view([line(4 * ONE + 1)])),
        {"position_value_max_of": {PERP: 500}},
    ),
    "gross": (
        R.GROSS_EXPOSURE,
        (approved(), view([line(10 * ONE), line(-19 * ONE, name=SPOT)])),
        (approved(), view([line(10 * ONE), line(-19 * ONE, sells=1, name=SPOT)])),
        {},
    ),
    "net": (
        R.NET_EXPOSURE,
        (approved(), view([line(14 * ONE), line(10 * ONE, name=SPOT)])),
        (approved(), view([line(14 * ONE), line(10 * ONE, buys=1, name=SPOT)])),
        {},
    ),
    "net short": (
        R.NET_EXPOSURE,
        (approved(side=Side.SELL), view([line(-14 * ONE), line(-10 * ONE, name=SPOT)])),
        (approved(side=Side.SELL), view([line(-14 * ONE), line(-10 * ONE, sells=1, name=SPOT)])),
        {},
    ),
    "credit": (
        R.CREDIT_LIMIT,
        (approved(), view([line(9 * ONE)], equity=Decimal(500), equity_peak=Decimal(500))),
        (approved(), view([line(9 * ONE)], equity=Decimal("499.99"), equity_peak=Decimal(500))),
        {},
    ),
    "rate": (
        R.MSG_RATE,
        (approved(cancels=("a",)), view(messages_ns=[T0 - S, T0 - S + 1])),
        (approved(cancels=("a",)), view(messages_ns=[T0 - S + 1, T0 - S + 1])),
        {"messages_max": 3},
    ),
    "duplicate": (
        R.DUPLICATE_ORDER,
        (approved(), view(contents_ns={content_key(approved()): T0 - 500 * MS})),
        (approved(), view(contents_ns={content_key(approved()): T0 - 500 * MS + 1})),
        {},
    ),
    "self-trade buying": (
        R.SELF_TRADE,
        (approved(), view(orders=[working(Side.SELL, 100 * ONE + TICK)])),
        (approved(), view(orders=[working(Side.SELL, 100 * ONE)])),
        {},
    ),
    "self-trade selling": (
        R.SELF_TRADE,
        (approved(side=Side.SELL), view(orders=[working(Side.BUY, 100 * ONE - TICK)])),
        (approved(side=Side.SELL), view(orders=[working(Side.BUY, 100 * ONE)])),
        {},
    ),
    "clock drift": (
        R.CLOCK_DRIFT,
        (approved(), view(clock_ns=T0 - S)),
        (approved(), view(clock_ns=T0 - S - 1)),
        {},
    ),
    "executions": (
        R.EXEC_THROTTLE,
        (approved(), view(conduct=conduct(sent=2))),
        (approved(), view(conduct=conduct(sent=3))),
        {"executions_max": 3},
    ),
    "executions of long ago": (
        R.EXEC_THROTTLE,
        (approved(), view(conduct=conduct(sent=3, ago_ns=61 * S))),
        (approved(), view(conduct=conduct(sent=3, ago_ns=60 * S))),
        {"executions_max": 3},
    ),
    "rejects": (
        R.REJECT_STREAK,
        (approved(), view(conduct=Conduct(rejects={"alpha": 3, "beta": 9}))),
        (approved(), view(conduct=Conduct(rejects={"alpha": 4}))),
        {"rejects_max": 3},
    ),
    "loss of the strategy": (
        R.RISK_THRESHOLD,
        (approved(), view(conduct=Conduct(day_pnl={"alpha": Decimal(-200), "beta": Decimal(-400)}))),
        (approved(), view(conduct=Conduct(day_pnl={"alpha": Decimal("-200.01")}))),
        {"strategy_loss_max": {"*": 200}},
    ),
    "exposure of the strategy": (
        R.RISK_THRESHOLD,
        (approved(), view([line(4 * ONE), line(9 * ONE, strategy="beta")])),
        (approved(), view([line(4 * ONE), line(1, name=SPOT)])),
        {"strategy_exposure_max": {"alpha": 500}},
    ),
    "daily loss": (
        R.LOSS_LIMIT,
        (approved(), view(day_pnl=Decimal(-500))),
        (approved(), view(day_pnl=Decimal("-500.01"))),
        {},
    ),
    "drawdown": (
        R.DRAWDOWN,
        (approved(), view(equity=Decimal(9_000))),
        (approved(), view(equity=Decimal("8999.99"))),
        {},
    ),
}


@pytest.mark.parametrize("name", list(EDGES))
def test_exactly_the_limit_passes_and_the_next_step_does_not(name: str) -> None:
    reason, at_limit, beyond, limit = EDGES[name]
    assert reason not in reasons(*at_limit, **limit)
    assert reason in reasons(*beyond, **limit)


@pytest.mark.parametrize(
    "bad",
    [
        {PERP: mark(mid=None)},
        {PERP: mark(mid=0)},
        {PERP: mark(mid=-1)},
        {PERP: mark(mid=float("nan"))},
        {PERP: mark(quality=MarkQuality.STALE)},
        {PERP: mark(quality=MarkQuality.CROSSED)},
        {PERP: mark(quality=MarkQuality.GAP)},
        {PERP: mark(quality=MarkQuality.ONE_SIDED)},
        {},
    ],
)
def test_without_a_sound_reference_the_order_is_refused(bad: dict[str, Any]) -> None:
    assert R.REF_PRICE_STALE in reasons(approved(), view(marks=bad))


def test_a_top_of_book_feed_is_a_sound_reference() -> None:
    assert not reasons(approved(), view(marks={PERP: mark(quality=MarkQuality.TOP_ONLY)}))


@pytest.mark.parametrize("price", [None, 0, -1, 2**63, float("nan"), True])
def test_a_price_that_is_no_price_is_refused_without_an_error(price: Any) -> None:
    found = reasons(approved(limit_price=price, order_type=OrderType.MARKET))
    assert R.INVALID_NUMBER in found


@pytest.mark.parametrize("quantity", [0, -1, 2**63, float("nan"), float("inf")])
def test_a_quantity_that_is_no_quantity_is_refused_without_an_error(quantity: Any) -> None:
    assert R.INVALID_NUMBER in reasons(approved(quantity=quantity))


def test_an_absurd_size_is_refused_not_a_crash() -> None:
    found = reasons(approved(quantity=2**63 - 1, limit_price=2**63 - 1))
    assert {R.ORDER_VALUE_MAX, R.ORDER_QTY_MAX, R.POSITION_LIMIT, R.CREDIT_LIMIT, R.PRICE_COLLAR} <= found


def test_a_broken_increment_fails_closed() -> None:
    broken = view(instruments={PERP: instrument(tick_size=0, lot_size=0)})
    assert {R.TICK_SIZE, R.LOT_SIZE} <= reasons(approved(), broken)


def test_a_market_order_is_collared_at_its_protection_price() -> None:
    assert not reasons(approved(order_type=OrderType.MARKET, limit_price=101 * ONE))
    assert R.PRICE_COLLAR in reasons(approved(order_type=OrderType.MARKET, limit_price=102 * ONE))


@pytest.mark.parametrize(("first", "then"), [("100", "90"), ("90", "100")])
def test_what_moved_further_than_the_limit_may_only_be_reduced(first: str, then: str) -> None:
    assert not reasons(approved(), moved(first, then))
    beyond = moved(first.replace("90", "89.99"), then.replace("90", "89.99"))
    assert reasons(approved(), beyond) == {R.PRICE_MOVE}
    assert not reasons(approved(instrument=SPOT), beyond), "nor is any other instrument held"


def test_a_move_is_over_when_the_window_is() -> None:
    assert reasons(approved(), moved("100", "80", ago_ns=60 * NS_PER_S)) == {R.PRICE_MOVE}
    assert not reasons(approved(), moved("100", "80", ago_ns=65 * NS_PER_S))


def test_where_a_captures_clock_rules_no_mark_is_ahead_of_ours() -> None:
    ahead = view(marks={PERP: mark(available_at_ns=T0 + 3_600 * NS_PER_S)}, clock_ns=0)
    assert R.CLOCK_DRIFT not in reasons(approved(), ahead)


def test_a_clock_in_doubt_refuses_what_reduces_too() -> None:
    """No age means anything then, so neither does the price that the order was given."""
    assert reasons(approved(side=Side.SELL), view([line(2 * ONE)], clock_ns=T0 - 2 * NS_PER_S)) == {R.CLOCK_DRIFT}


def test_what_is_restricted_is_refused_to_whoever_has_every_permission() -> None:
    assert reasons(approved(), view([line(2 * ONE)]), restricted=[PERP]) == {R.NOT_PERMITTED}
    assert reasons(approved(side=Side.SELL), view([line(2 * ONE)]), restricted=[PERP]) == {R.NOT_PERMITTED}
    assert not reasons(approved(instrument=SPOT), restricted=[PERP])


@pytest.mark.parametrize("pnl", [Decimal("NaN"), Decimal("-Infinity")])
def test_a_strategys_gain_that_is_no_number_refuses(pnl: Decimal) -> None:
    assert R.RISK_THRESHOLD in reasons(approved(), view(conduct=Conduct(day_pnl={"alpha": pnl})))


def test_a_missing_conversion_rate_refuses() -> None:
    foreign = view(instruments={PERP: instrument(quote_currency="EUR")})
    assert {R.ORDER_VALUE_MAX, R.POSITION_LIMIT, R.GROSS_EXPOSURE, R.NET_EXPOSURE} <= reasons(approved(), foreign)
    assert not reasons(approved(), foreign, conversion_rates={"EUR": "1.1"})
    assert R.ORDER_VALUE_MAX in reasons(approved(quantity=10 * ONE), foreign, conversion_rates={"EUR": "1.1"})


def test_an_inverse_contract_is_worth_its_face() -> None:
    inverse = view(instruments={PERP: instrument(inverse=True, multiplier=Decimal(100))})
    assert not reasons(approved(quantity=10 * ONE), inverse)
    assert R.ORDER_VALUE_MAX in reasons(approved(quantity=10 * ONE + ONE // 1000), inverse)


def test_a_position_elsewhere_without_a_mark_refuses_what_adds() -> None:
    blind = view([line(ONE, name=SPOT)], marks={PERP: mark()})
    assert {R.GROSS_EXPOSURE, R.NET_EXPOSURE, R.CREDIT_LIMIT} <= reasons(approved(), blind)


def test_an_unknown_instrument_and_a_strategy_without_permission() -> None:
    assert R.INSTRUMENT_UNKNOWN in reasons(approved(instrument="SIM:NONE"))
    assert reasons(approved(strategy="beta", instrument=SPOT)) == {R.NOT_PERMITTED}
    assert reasons(approved(strategy="gamma")) == {R.NOT_PERMITTED}


def test_buying_back_is_never_a_short_sale() -> None:
    short = view([line(-2 * ONE, name=SPOT)])
    assert not reasons(approved(instrument=SPOT), short)
    assert R.SHORT_NOT_ALLOWED in reasons(approved(instrument=SPOT, side=Side.SELL), short)


def test_an_id_that_works_already_is_a_duplicate() -> None:
    assert R.DUPLICATE_ORDER in reasons(approved("w1"), view(orders=[working(Side.BUY, 90 * ONE)]))


@pytest.mark.parametrize(
    "other",
    [
        working(Side.SELL, 100 * ONE, instrument=SPOT),
        working(Side.BUY, 100 * ONE),
        working(Side.SELL, 100 * ONE, rests=False),
    ],
)
def test_what_cannot_meet_is_no_self_trade(other: WorkingOrder) -> None:
    assert R.SELF_TRADE not in reasons(approved(), view(orders=[other]))


def test_a_resting_order_without_a_price_would_meet_anything() -> None:
    assert R.SELF_TRADE in reasons(approved(), view(orders=[working(Side.SELL, None)]))


def test_an_unknown_order_blocks_its_instrument_only() -> None:
    unknown = working(Side.BUY, 90 * ONE, unknown=True)
    assert reasons(approved(), view(orders=[unknown])) == {R.UNKNOWN_ORDER_OPEN}
    assert not reasons(approved(instrument=SPOT), view(orders=[unknown]))


SELLING = approved(side=Side.SELL)


@pytest.mark.parametrize(
    "on",
    [
        view([line(60 * ONE)], level=Level.REDUCING),
        view([line(60 * ONE)], day_pnl=Decimal(-9_999)),
        view([line(60 * ONE)], equity=Decimal(1)),
        view([line(60 * ONE)], [working(Side.BUY, 90 * ONE, unknown=True)]),
        view([line(60 * ONE), line(ONE, strategy="beta", name=SPOT)], marks={PERP: mark()}),
        view([line(60 * ONE)], conduct=Conduct(rejects={"alpha": 99}, day_pnl={"alpha": Decimal(-9_999)})),
        view([line(60 * ONE)], conduct=conduct(sent=2_000)),
        view([line(60 * ONE)], ranges=moved("100", "50").ranges),
    ],
)
def test_what_only_reduces_is_let_out_of_every_exposure_limit(on: ExposureView) -> None:
    assert not reasons(SELLING, on)
    assert reasons(approved(), on), "while what adds is not"


def test_reduce_only_holds_even_if_all_that_works_fills() -> None:
    promised = msgspec.structs.replace(SELLING, reduce_only=True)
    assert not reasons(promised, view([line(2 * ONE, sells=ONE)]))
    assert reasons(promised, view([line(2 * ONE, sells=ONE + 1)])) == {R.REDUCE_ONLY}
    assert reasons(promised) == {R.REDUCE_ONLY}
    assert reasons(promised, view([line(-2 * ONE)])) == {R.REDUCE_ONLY}


def test_halted_lets_nothing_out_but_cancels() -> None:
    halted = view([line(2 * ONE)], level=Level.HALTED, level_source="GLOBAL")
    assert reasons(SELLING, halted) == {R.KILLED}
    assert R.KILLED in reasons(approved(), halted)
    assert not reasons(approved(quantity=0, limit_price=None, cancels=("a",)), halted)


def test_a_cancel_is_counted_but_never_refused() -> None:
    crowded = view(messages_ns=[T0] * 500)
    (only,) = check_order(approved(quantity=0, cancels=("a", "b")), crowded, limits(), T0)
    assert only.passed
    assert only.observed == "502"
    assert R.MSG_RATE in reasons(approved(), crowded)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    bad = approved(quantity=200 * ONE + 1, limit_price=150 * ONE + 1, strategy="gamma", expires_at_ns=T0 - 1)
    crowded = view(
        [line(0)],
        [working(Side.SELL, 1, unknown=True)],
        level=Level.HALTED,
        equity=Decimal(-1),
        day_pnl=Decimal(-5_000),
        messages_ns=[T0] * 500,
        contents_ns={content_key(bad): T0},
        instruments={PERP: instrument(quantity_max=ONE)},
    )
    passing = {R.INSTRUMENT_UNKNOWN, R.INVALID_NUMBER, R.REF_PRICE_STALE, R.ORDER_QTY_MIN, R.NOTIONAL_MIN}
    passing |= {R.SHORT_NOT_ALLOWED, R.CLOCK_DRIFT, R.PRICE_MOVE, R.EXEC_THROTTLE, R.REJECT_STREAK}
    passing |= {R.CANARY_CAP, R.OVERRIDE_EXPIRED}
    assert reasons(bad, crowded) == set(DenyReason) - passing - FROM_ELSEWHERE


@pytest.mark.parametrize("money", [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])
def test_equity_that_is_no_number_refuses(money: Decimal) -> None:
    broken = view(equity=money, equity_peak=money, day_pnl=money)
    assert {R.LOSS_LIMIT, R.DRAWDOWN} <= reasons(approved(), broken)


LINES = st.builds(
    line,
    st.integers(-30, 30).map(lambda lots: lots * ONE),
    st.integers(0, 20).map(lambda lots: lots * ONE),
    st.integers(0, 20).map(lambda lots: lots * ONE),
    st.sampled_from(["alpha", "beta"]),
    st.sampled_from([PERP, SPOT]),
)


@given(
    lines=st.lists(LINES, max_size=4, unique_by=lambda item: (item.strategy, item.instrument)),
    side=st.sampled_from(list(Side)),
    lots=st.integers(1, 30),
    level=st.sampled_from(list(Level)),
)
def test_what_passes_is_within_every_limit_or_only_reduces(
    lines: list[ExposureLine], side: Side, lots: int, level: Level
) -> None:
    """The oracle enumerates which working orders fill instead of reasoning about bounds."""
    order = approved(side=side, quantity=lots * ONE)
    if reasons(order, view(lines, level=level), order_value_max=100_000):
        return
    assert level is not Level.HALTED
    before = {(item.strategy, item.instrument): item for item in lines}
    mine = before.get(("alpha", PERP), line())
    worst_before = max(abs(mine.position + buys - sells) for buys in (0, mine.buys) for sells in (0, mine.sells))
    after = mine.after(side, lots * ONE)
    ends = [after.position + buys - sells for buys in (0, after.buys) for sells in (0, after.sells)]
    reduced = max(abs(end) for end in ends) <= worst_before
    rest = [item for item in lines if (item.strategy, item.instrument) != ("alpha", PERP)]
    same = sum(max(abs(item.highest), abs(item.lowest)) for item in rest if item.instrument == PERP)
    every = sum(max(abs(item.highest), abs(item.lowest)) for item in rest)
    within = max(abs(end) for end in ends) + same <= 20 * ONE and max(abs(end) for end in ends) + every <= 30 * ONE
    assert within or reduced
    if level is Level.REDUCING:
        assert reduced
        assert abs(mine.position + side.sign * lots * ONE) < abs(mine.position)


@given(st.sampled_from(list(TimeInForce)), st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_the_gate_answers_anything_in_64_bits(time_in_force: TimeInForce, quantity: int, price: int) -> None:
    order = approved(quantity=quantity, limit_price=price, time_in_force=time_in_force)
    results = check_order(order, view([line(2**62), line(-(2**62), name=SPOT)]), limits(), T0)
    assert [item.reason for item in results] == [item.reason for item in check_order(approved(), view(), limits(), T0)]
