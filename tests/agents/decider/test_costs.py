"""What the decider learns from its own fills: exact from the fill alone, and enough to leave a trade alone."""

from decimal import Decimal
from typing import Any

import pytest
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, account_mark, fill, mark, tally

from agents.costs.estimate import HORIZON_NS, CostEstimate, CostPrior, CostState
from agents.decider.baseline import BaselinePolicy
from agents.decider.costs import estimated
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.stage import ShardState, run_step
from schemas.decisions import Decision, DecisionOutcome, NoTradeReason
from schemas.event import Event
from schemas.values import NS_PER_S, Side, notional

HALF_SPREAD = 0.0001
"""Of the tallies of ``money_events``: two ticks of a cent about 100, half of it."""


class Bench:
    def __init__(self, **changes: Any) -> None:
        policy = BaselinePolicy(volatility_target=0.005)
        strategies = (StrategyConfig("alpha", "main", (PERP, SPOT), NS_PER_S, policy),)
        self.stage = Decider(DeciderConfig(INSTRUMENTS, strategies, **changes))
        self.state = ShardState()

    def give(self, event: Event) -> list[Any]:
        return list(run_step(self.stage, self.state, event)[1])

    def decide(self, number: int, up: float, down: float) -> Decision:
        at_ns = T0 + number * NS_PER_S
        self.give(mark(PERP, at_ns))
        (decision,) = self.give(tally(number, at_ns, up=up, down=down, volatility=0.004))
        assert isinstance(decision, Decision)
        return decision

    def costs(self, instrument: str = PERP) -> CostEstimate:
        return estimated(self.state, INSTRUMENTS[instrument], {})


def _fill(number: int, decision_id: str, price: int, side: Side = Side.BUY, **changes: Any) -> Event:
    """A fill of one whole unit against a decision's mid of 100; the fee is 0.05, 5 basis points."""
    slippage = notional(price - 100 * ONE, side.sign * ONE)
    changes = {"fee": Decimal("0.05"), "slippage": slippage} | changes
    return fill(number, side, ONE, price, decision_id=decision_id, event_time_ns=T0, **changes)


def test_the_excess_is_the_slippage_less_the_half_spread_that_the_decision_saw() -> None:
    bench = Bench()
    decision = bench.decide(1, 0.7, 0.1)
    assert decision.outcome is DecisionOutcome.TARGET
    bench.give(_fill(1, decision.decision_id, 100 * ONE + ONE // 10))
    known: CostState = bench.state[f"cost/{PERP}"]
    assert known.excess_sum == pytest.approx(0.001 - HALF_SPREAD)
    assert known.fee_sum == pytest.approx(0.0005)
    assert known.pending[0].root_notional == pytest.approx(10.0)
    # A seller's price below the mid is the same loss.
    bench.give(_fill(2, decision.decision_id, 100 * ONE - ONE // 10, Side.SELL))
    assert known.excess_sum == pytest.approx(2 * (0.001 - HALF_SPREAD), rel=0.01)


def test_a_late_fill_of_an_older_decision_teaches_its_fee_alone() -> None:
    bench = Bench()
    bench.decide(1, 0.7, 0.1)
    bench.give(_fill(1, "another", 101 * ONE))
    known: CostState = bench.state[f"cost/{PERP}"]
    assert (known.fills, known.excess_weight, known.fee_weight) == (1, 0.0, 1.0)


def test_the_mid_a_horizon_later_comes_from_the_account_marks() -> None:
    bench = Bench()
    bench.give(_fill(1, "d", 100 * ONE))
    bench.give(account_mark(T0 + HORIZON_NS - 1, mid=200 * ONE))
    bench.give(account_mark(T0 + HORIZON_NS, mid=None))
    bench.give(account_mark(T0 + HORIZON_NS, instrument=SPOT, mid=300 * ONE))
    assert bench.costs().impact_coefficient == 0.0
    bench.give(account_mark(T0 + HORIZON_NS, mid=101 * ONE))
    known: CostState = bench.state[f"cost/{PERP}"]
    assert known.move_sum == pytest.approx(0.01 * 10.0)
    assert known.pending == []


def test_fills_that_cost_more_than_was_quoted_make_the_baseline_stay_out() -> None:
    naive, taught = Bench(), Bench()
    for number in range(200):
        taught.give(_fill(number, "another", 100 * ONE, fee=Decimal(2)))
    before, after = naive.decide(1, 0.7, 0.1), taught.decide(1, 0.7, 0.1)
    assert before.outcome is DecisionOutcome.TARGET
    assert (after.outcome, after.reason) == (DecisionOutcome.NO_TRADE, NoTradeReason.EDGE_BELOW_COST)
    assert before.cost == pytest.approx(2 * (HALF_SPREAD + 0.0004))
    assert after.cost == pytest.approx(2 * (HALF_SPREAD + taught.costs().fee))
    assert after.observation["cost.fee"] == taught.costs().fee > 0.01
    assert taught.costs(SPOT) == naive.costs(SPOT), "what one instrument costs says nothing of another"


def test_a_run_may_begin_with_what_a_former_one_has_learnt() -> None:
    bench = Bench(cost_priors={PERP: CostPrior(excess=0.05, fee=0.0004)})
    decision = bench.decide(1, 0.7, 0.1)
    assert decision.reason is NoTradeReason.EDGE_BELOW_COST
    assert decision.cost == pytest.approx(2 * (HALF_SPREAD + 0.05 + 0.0004))


def test_a_fee_in_the_base_currency_is_valued_and_one_in_a_third_teaches_nothing() -> None:
    bench = Bench()
    bench.give(_fill(1, "d", 100 * ONE, fee=Decimal("0.001"), fee_currency="BTC"))
    assert bench.state[f"cost/{PERP}"].fee_sum == pytest.approx(0.001)
    bench.give(_fill(2, "d", 100 * ONE, fee=Decimal(1), fee_currency="BNB"))
    assert bench.state[f"cost/{PERP}"].fills == 1


def test_what_is_learnt_is_read_back_from_a_checkpoint() -> None:
    bench = Bench()
    assert bench.stage.state_type(f"cost/{PERP}") is CostState
