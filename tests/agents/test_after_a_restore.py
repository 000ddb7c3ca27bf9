"""The money stages after their database was set back: what the venue did meanwhile is theirs again, and no more."""

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from trading_desk import INSTRUMENTS, ONE, PERP, SPOT, Desk, wide_limits

from agents.feedback.config import FeedbackConfig, StrategyFeedback
from agents.feedback.stage import Feedback
from agents.feedback.state import Line, Lot, OpenDecision, line_key
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.stage import ShardState
from schemas.decisions import OrderApproved
from schemas.orders import OrderStatus, QueryRequested, ReportKind, SubmitRequested, VenueFill
from schemas.reconciliation import BooksRequested
from schemas.values import NS_PER_S, ZERO, Level, Liquidity, TimeInForce

FATES = ("filled", "part and expired", "resting", "never sent")
PLACE = ("main", "alpha", PERP)


def _copy(desk: Desk) -> Desk:
    """Return a desk as a backup of this moment would have it."""
    state = ShardState()
    for key, value in desk.state.items():
        state.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=desk.stage.state_type(key)))
    return Desk(state=state, now_ns=desk.now_ns)


def _approval(desk: Desk, order_id: str, fate: str) -> OrderApproved:
    """Let a desk take an approval and live through its fate; return the approval, which is all that the log keeps."""
    resting = TimeInForce.GTC if fate == "resting" else TimeInForce.IOC
    desk.beat(10)
    desk.mark(PERP, 100 * ONE, on_grid=False)
    approval = desk.approval(order_id, time_in_force=resting)
    assert any(isinstance(event, SubmitRequested) for event in desk.give(approval))
    if fate == "filled":
        desk.trade(order_id, f"{order_id}-1", ONE)
    elif fate == "part and expired":
        desk.trade(order_id, f"{order_id}-1", ONE // 4)
        desk.report(order_id, ReportKind.EXPIRED, filled_quantity=ONE // 4)
    elif fate == "resting":
        desk.report(order_id, ReportKind.ACCEPTED, venue_order_id="v")
    else:
        desk.report(order_id, ReportKind.NOT_SENT)
    return approval


def _answer(desk: Desk, order_id: str, fate: str) -> None:
    """Answer the question about an order as the venue would, after the receive window."""
    if fate == "never sent":
        desk.report(order_id, ReportKind.NOT_FOUND)
        return
    quantity = {"filled": ONE, "part and expired": ONE // 4, "resting": 0}[fate]
    status = {"filled": OrderStatus.FILLED, "part and expired": OrderStatus.EXPIRED, "resting": OrderStatus.NEW}[fate]
    facts: dict[str, Any] = {"liquidity": Liquidity.TAKER, "event_time_ns": 0}
    fee = {"fee": Decimal("0.04"), "fee_currency": "USD"}
    fill = VenueFill(fill_id=f"{order_id}-1", price=100 * ONE, quantity=quantity, **fee, **facts)
    fills = (fill,) if quantity else ()
    facts = {"status": status, "filled_quantity": quantity, "fills": fills, "venue_order_id": "v"}
    desk.report(order_id, ReportKind.STATUS, **facts)


@given(st.lists(st.sampled_from(FATES), max_size=4), st.lists(st.sampled_from(FATES), max_size=6))
def test_execution_asks_about_each_order_since_the_backup_and_then_holds_what_the_venue_holds(
    before: list[str], since: list[str]
) -> None:
    desk = Desk()
    for number, fate in enumerate(before):
        _approval(desk, f"before-{number}", fate)
    backup = _copy(desk)
    approvals = [_approval(desk, f"since-{number}", fate) for number, fate in enumerate(since)]

    assert backup.stage.adopt(backup.state, approvals * 2) == [approval.order_id for approval in approvals]
    backup.beat(60_000)
    (books,) = (event for event in backup.claim(9) if isinstance(event, BooksRequested))
    working = {backup.order(f"before-{n}").client_order_id for n, fate in enumerate(before) if fate == "resting"}
    assert set(books.client_ids) == working | {approval.order_id for approval in approvals}
    asked = {event.order_id for event in backup.beat(3_600) if isinstance(event, QueryRequested)}
    assert len(asked) == len(books.client_ids), "a venue that does not tell its books is asked by name"
    for number, fate in enumerate(since):
        _answer(backup, f"since-{number}", fate)
        _answer(backup, f"since-{number}", fate)
    assert not any(isinstance(event, SubmitRequested) for event in backup.events), "nothing is sent again"
    if before or since:
        assert backup.account.positions == desk.account.positions
        assert backup.account.balances == desk.account.balances
        assert backup.account.open_orders == desk.account.open_orders


def test_risk_believes_what_execution_holds_and_keeps_its_latches() -> None:
    desk = Desk()
    _approval(desk, "held", "filled")
    _approval(desk, "works", "resting")
    stage = Risk(RiskConfig(INSTRUMENTS, {"main": wide_limits("alpha")}, {"alpha": StrategyRisk("alpha", "main", ONE)}))  # type: ignore[arg-type]
    state = ShardState()
    stage.take_over(state, desk.stage.exposures(desk.state), desk.stage.limits(desk.state))
    state["levels"].levels["ACCOUNT/main"] = Level.HALTED
    stage.take_over(state, desk.stage.exposures(desk.state), desk.stage.limits(desk.state))
    exposure = state["account/main"].exposure
    assert exposure.positions == {"alpha": {PERP: ONE}}
    assert {name: (order.leaves, order.rests) for name, order in exposure.working.items()} == {"works": (ONE, True)}
    assert exposure.equity == desk.account.equity
    assert state["levels"].levels == {"ACCOUNT/main": Level.HALTED}


def _lot(quantity: int) -> Lot:
    return Lot(quantity=quantity, price=7, time_ns=1, decision_id="d", fill_id="f", fee=Decimal(1), slippage=ZERO)


def test_feedback_keeps_lots_that_add_up_and_pays_no_reward_across_the_gap() -> None:
    strategy = StrategyFeedback("alpha", "main", "USD", (PERP, SPOT), NS_PER_S, Decimal(500))
    stage = Feedback(FeedbackConfig(INSTRUMENTS, {"alpha": strategy}))
    state = ShardState()
    decision = OpenDecision(
        decision_id="d", tally_id="t", available_at_ns=1, policy="p", policy_stage="p", observation={},
        intended=1.0, horizon_ns=1,
    )  # fmt: skip
    state[line_key(*PLACE)] = Line(sign=-1, lots=[_lot(2), _lot(3)], decisions=[decision], traded=5, cost=Decimal(9))
    state[line_key("main", "alpha", SPOT)] = Line(sign=1, lots=[_lot(2)])
    stage.resume(state, {PLACE: (-5, 11)})
    assert state[line_key(*PLACE)] == Line(sign=-1, lots=[_lot(2), _lot(3)])
    assert state[line_key("main", "alpha", SPOT)] == Line(), "it holds nothing: fills were missed"
    stage.resume(state, {PLACE: (4, 11)})
    (lot,) = state[line_key(*PLACE)].lots
    assert (lot.quantity, lot.price, lot.decision_id, state[line_key(*PLACE)].sign) == (4, 11, "", 1)
