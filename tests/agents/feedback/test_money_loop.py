"""Decider, risk, execution and feedback wired as they run: what is decided, sized, filled and rewarded agrees."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from filling_venue import reports
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, limits, mark, tally

from agents.decider.probe import ProbePolicy
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.execution.stage import Execution
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.feedback.config import FeedbackConfig, StrategyFeedback
from agents.feedback.stage import Feedback
from agents.pipeline import Pipeline
from agents.reward.shaping import Moments, moved
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.stage import Stage
from schemas.decisions import Decision, OrderApproved
from schemas.event import Event
from schemas.feedback import Experience, TradeFeedback
from schemas.orders import AccountMark, Fill, SubmitRequested
from schemas.values import NS_PER_S, ZERO

SECONDS = 60


def _stages() -> list[Stage]:
    traded = (PERP, SPOT)
    budget = Decimal(500)
    strategy = StrategyConfig("alpha", "main", traded, NS_PER_S, ProbePolicy(3, 1.0), budget=budget)
    return [
        Decider(DeciderConfig(INSTRUMENTS, (strategy,))),
        Risk(RiskConfig(INSTRUMENTS, {"main": limits()}, {"alpha": StrategyRisk("alpha", "main", budget)})),
        Execution(
            ExecutionConfig(
                instruments=INSTRUMENTS,
                accounts={"main": AccountTerms(capital=Decimal(10_000), currency="USD")},
                strategies={"alpha": StrategyTerms(account="main", instruments=traded)},
                limits={"main": limits()},
            )
        ),
        Feedback(
            FeedbackConfig(INSTRUMENTS, {"alpha": StrategyFeedback("alpha", "main", "USD", traded, NS_PER_S, budget)})
        ),
    ]


def _venue(request: Event) -> Iterable[Event]:
    """Fill two thirds of an order at its price, then expire the rest: every third order is only partly done."""
    if not isinstance(request, SubmitRequested):
        return ()
    return reports(request, request.quantity * 2 // 3 // (ONE // 1000) * (ONE // 1000), "0.017", expires=True)


@pytest.fixture(scope="module")
def seen() -> list[Event]:
    events: list[Event] = []
    pipeline = Pipeline(_stages(), perform=_venue, observe=events.append)
    for second in range(SECONDS):
        at_ns = T0 + second * NS_PER_S
        for key in (PERP, SPOT):
            mid = 100 * ONE + (second * 37 % 11 - 5) * ONE // 20
            name = f"{key}-{second}"
            pipeline.publish(mark(key, at_ns, mid))
            said = tally(second, at_ns, key=key, mid=mid, event_id=f"tally-{name}", ballot_id=f"ballot-{name}")
            pipeline.publish(said)
    return events


def _of(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_there_is_something_to_compare(seen: list[Event]) -> None:
    assert len(_of(seen, OrderApproved)) >= SECONDS // 3
    assert len(_of(seen, Fill)) == len([order for order in _of(seen, OrderApproved) if order.quantity])
    assert _of(seen, TradeFeedback)


def test_rewards_are_the_change_of_equity_to_the_last_digit(seen: list[Event]) -> None:
    marks = _of(seen, AccountMark)
    equities = [item.equity for item in marks if item.grid_time_ns == T0 + (SECONDS - 1) * NS_PER_S]
    rewards = sum((item.reward for item in _of(seen, Experience)), ZERO)
    assert len(_of(seen, Experience)) == 2 * (SECONDS - 1)
    assert rewards == equities[-1] - Decimal(10_000)
    assert rewards != 0


def test_slices_realise_what_the_ledger_realised_when_lots_are_closed(seen: list[Event]) -> None:
    """First in first out and average cost differ on open lots only, so both plus the open part are the same sum."""
    trades = _of(seen, TradeFeedback)
    fills = {item.fill_id: item for item in _of(seen, Fill)}
    assert all(trade.entry_decision_id == fills[trade.entry_fill_id].decision_id for trade in trades)
    assert all(trade.exit_decision_id == fills[trade.exit_fill_id].decision_id for trade in trades)
    for key in (PERP, SPOT):
        closed = sum(trade.quantity for trade in trades if trade.instrument == key)
        opened = sum(item.quantity for item in fills.values() if item.instrument == key)
        position = [item for item in _of(seen, AccountMark) if item.instrument == key][-1].position
        assert opened == 2 * closed + abs(position)


def test_the_spot_pair_is_never_sold_short(seen: list[Event]) -> None:
    assert all(item.position >= 0 for item in _of(seen, AccountMark) if item.instrument == SPOT)
    assert any(item.position < 0 for item in _of(seen, AccountMark) if item.instrument == PERP)


@pytest.mark.parametrize("key", [PERP, SPOT])
def test_the_returns_that_a_policy_sees_are_those_that_it_is_rewarded_for(seen: list[Event], key: str) -> None:
    """Here marks, valuations and tallies come in step, so what the decider reckons is what feedback tells."""
    rewards = [item.reward for item in _of(seen, Experience) if item.instrument == key]
    observed = [item.observation for item in _of(seen, Decision) if item.instrument == key]
    moments = [Moments()]
    for reward in rewards:
        moments.append(moved(moments[-1], float(reward) / 500))
    told = [(found["moment.mean"], found["moment.square"]) for found in observed]
    assert told == [pytest.approx(pair, abs=1e-15) for pair in moments]
    assert any(mean for mean, _ in told)
