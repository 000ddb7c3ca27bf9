"""What a policy sees of its line: exposure, allowed targets, and the moments of what it has earned so far."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, account_mark, alert, entry, mark, tally
from release_train import Train, Wants

from agents.decider.moments import count_return, moments_now, pay_on_paper, take_paper_gain
from agents.decider.observation import VOTE_FIELDS
from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.decider.state import LineState, ShadowLine
from agents.reward.shaping import Moments, moved
from agents.stage import ShardState, run_step
from schemas.decisions import Decision
from schemas.event import Event
from schemas.feedback import ReleaseStage
from schemas.opinions import AlertLevel
from schemas.values import NS_PER_S

BUDGET = Decimal(500)


class Holder:
    """Wants half the budget, always."""

    name = "holder"

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        return PolicyAnswer(0.5)


class Bench:
    """One shard of the decider, and its newest observation."""

    def __init__(self, budget: Decimal | None = BUDGET, **changes: Any) -> None:
        terms: dict[str, Any] = {"budget": budget} | changes
        strategy = StrategyConfig("alpha", "main", (PERP, SPOT), NS_PER_S, Holder(), **terms)
        self.stage = Decider(DeciderConfig(INSTRUMENTS, (strategy,)))
        self.state = ShardState()
        self.second = 0

    def give(self, event: Event) -> list[Any]:
        return list(run_step(self.stage, self.state, event)[1])

    def decide(self, **changes: Any) -> dict[str, float | None]:
        self.second += 1
        at_ns = T0 + self.second * NS_PER_S
        self.give(mark(PERP, at_ns))
        (found,) = self.give(tally(self.second, at_ns, **changes))
        assert isinstance(found, Decision)
        return found.observation

    def earn(self, net: float, **changes: Any) -> None:
        """Value the line at so much net profit so far, of which something was realised and 1 went in fees."""
        worth = Decimal(str(net))
        parts: dict[str, Any] = {"unrealised_pnl": worth - 2, "realised_pnl": Decimal(3), "fees": Decimal(1)}
        self.give(account_mark(T0 + self.second * NS_PER_S, **parts | changes))


def seen_moments(seen: dict[str, float | None]) -> tuple[float | None, float | None]:
    return seen["moment.mean"], seen["moment.square"]


def test_before_the_first_valuation_and_without_a_budget_they_are_not_known() -> None:
    known, poor = Bench(), Bench(budget=None)
    assert seen_moments(known.decide()) == (None, None)
    known.earn(5)
    poor.earn(5)
    assert seen_moments(known.decide()) == (0.0, 0.0)
    assert seen_moments(poor.decide()) == (None, None)


def test_each_decision_adds_the_return_since_the_one_before() -> None:
    bench, expected = Bench(), Moments()
    bench.earn(0)
    bench.decide()
    net = 0.0
    for gain in (5.0, -2.5, 0.0, 10.0):
        net += gain
        bench.earn(net)
        expected = moved(expected, gain / 500)
        assert seen_moments(bench.decide()) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), max_size=20))
def test_a_late_valuation_is_part_of_the_next_return(steps: list[tuple[float, bool]]) -> None:
    """Whatever comes late, all returns together are the net profit that is known at the end."""
    bench = Bench()
    bench.earn(0)
    bench.decide()
    net, told, mean = 0.0, 0.0, 0.0
    for gain, in_time in steps:
        net = round(net + gain, 6)
        change = 0.0
        if in_time:
            bench.earn(net)
            change, told = (net - told) / 500, net
        mean += 0.01 * (change - mean)
        assert bench.decide()["moment.mean"] == pytest.approx(mean, abs=1e-12)


def test_funding_counts_once_each_time_it_falls_due() -> None:
    bench = Bench()
    bench.earn(0)
    bench.decide()
    bench.earn(0, funding=Decimal(5))
    assert bench.decide()["moment.mean"] == pytest.approx(0.01 * -5 / 500)
    bench.earn(0)
    assert bench.decide()["moment.mean"] == pytest.approx(0.99 * 0.01 * -5 / 500)


def test_advice_sees_what_a_decision_would_and_changes_nothing() -> None:
    bench = Bench()
    bench.earn(0)
    bench.decide()
    bench.earn(7)
    at_ns = T0 + 2 * NS_PER_S
    bench.give(mark(PERP, at_ns))
    before = msgspec.msgpack.encode(dict(bench.state))
    (advice,) = bench.give(tally(2, at_ns, advice_for="alpha", request_id="r"))
    assert msgspec.msgpack.encode(dict(bench.state)) == before
    (decision,) = bench.give(tally(2, at_ns))
    assert advice.observation == decision.observation


def test_another_strategys_or_instruments_profit_is_not_the_lines() -> None:
    bench = Bench()
    bench.earn(0)
    bench.decide()
    bench.earn(100, strategy="beta")
    bench.earn(100, instrument=SPOT)
    assert seen_moments(bench.decide()) == (0.0, 0.0)


def test_exposure_is_what_is_held_as_a_share_of_the_budget() -> None:
    bench = Bench()
    assert bench.decide()["exposure"] == 0.0
    bench.earn(0, position=-2 * ONE)
    assert bench.decide()["exposure"] == pytest.approx(-200 / 500)
    assert Bench(budget=None).decide()["exposure"] is None


def test_a_budget_in_another_currency_is_converted() -> None:
    bench = Bench(conversion_rates={"USD": Decimal("0.5")})
    bench.earn(0, position=2 * ONE)
    assert bench.decide()["exposure"] == pytest.approx(100 / 500)


def test_what_may_be_wanted_is_seen() -> None:
    bench = Bench()
    seen = bench.decide()
    assert (seen["allowed.low"], seen["allowed.high"]) == (-1.0, 1.0)
    bench.give(alert(AlertLevel.HIGH))
    seen = bench.decide()
    assert (seen["allowed.low"], seen["allowed.high"]) == (0.0, 0.5)


def test_what_is_known_of_a_line_survives_a_checkpoint() -> None:
    bench = Bench()
    bench.earn(0)
    bench.decide()
    bench.earn(3, funding=Decimal("0.1"))
    bench.decide()
    for key, value in bench.state.items():
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=bench.stage.state_type(key))
        assert kept == value
    line: LineState = next(value for key, value in bench.state.items() if key.startswith("line/"))
    assert line.moments.mean > 0


@given(st.lists(st.tuples(st.integers(90, 110), st.sampled_from((-1.0, 0.0, 0.5, 1.0))), min_size=2, max_size=20))
def test_on_paper_a_line_gains_what_its_targets_earn_less_what_changing_them_costs(
    path: list[tuple[int, float]],
) -> None:
    line, moments, gained, target, last = ShadowLine(), Moments(), 0.0, 0.0, None
    change = 0.0
    for price, wanted in path:
        take_paper_gain(line, price * ONE)
        earned = 0.0 if last is None else target * (price / last - 1.0)
        gained += earned
        if last is not None:
            moments = moved(moments, earned + change)
        assert moments_now(line) == pytest.approx(moments)
        count_return(line)
        pay_on_paper(line, wanted, 0.001)
        change = -0.001 * abs(wanted - target)
        gained += change
        line.target = target = wanted
        last = price
        assert line.gained == pytest.approx(gained)


def test_a_model_in_shadow_sees_the_moments_of_its_own_paper_line() -> None:
    train = Train({"old": Wants(0.0), "new": Wants(1.0)}, champion="old")
    train.release("new", ReleaseStage.SHADOW)
    one_way = 0.0001 + 0.0004  # Half of two ticks of a cent about 100, and the taker's fee.
    expected, found = Moments(), []
    for second, mid in enumerate((100, 101, 101, 99)):
        at_ns = T0 + second * NS_PER_S
        changes: dict[str, Any] = {"mid": mid * ONE, "spread": ONE // 50 * mid // 100}
        outputs = train.give(mark(PERP, at_ns, mid * ONE), tally(second, at_ns, **changes))
        found += [item.observation for item in outputs if item.policy == "new"]
    for seen, gained in zip(found, (None, 0.01 - one_way, 0.0, 99 / 101 - 1), strict=True):
        expected = expected if gained is None else moved(expected, gained)
        assert seen_moments(seen) == pytest.approx(expected)


def test_each_number_of_a_vote_is_seen_under_its_own_name() -> None:
    numbers = {
        "p_down": 0.1, "p_up": 0.2, "calibrated_down": 0.3, "calibrated_up": 0.4,
        "weight": 0.25, "skill": 0.5, "calibration_error": 0.6,
    }  # fmt: skip
    said = msgspec.structs.replace(entry("ann", 0.2, 0.1), calibrated_flat=0.3, **numbers)
    seen = Bench().decide(entries=(said,))
    assert {name: seen[f"vote.ann.{name}"] for name in VOTE_FIELDS} == numbers
