"""The decider with a learned policy never looks ahead: what it says up to a moment stays when the future is another."""

from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, account_mark, alert, entry, mark, tally
from set_policies import vote, weights

from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from agents.decider.set_policy import SetPolicy
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.stage import ShardState, run_step
from schemas.decisions import Decision
from schemas.event import Event
from schemas.opinions import AlertLevel
from schemas.values import NS_PER_S

SECONDS = 120
CUT = 70


def second(number: int, draws: np.random.Generator) -> Iterable[Event]:
    """One second of two markets: marks, a valuation, now and then an alert, and tallies of a changing committee."""
    at_ns = T0 + number * NS_PER_S
    for key in (PERP, SPOT):
        mid = int(100 * ONE + draws.normal(0, ONE // 10))
        yield mark(key, at_ns, mid)
        gained = Decimal(int(draws.integers(-10, 11)))
        position = int(draws.integers(-3, 4)) * ONE
        yield account_mark(at_ns, instrument=key, position=position, unrealised_pnl=gained, mid=mid)
        if draws.random() < 0.1:
            yield alert(AlertLevel(str(draws.choice(list(AlertLevel)))), key)
        names = [f"expert_{place}" for place in range(8) if draws.random() < 0.6]
        said = tuple(entry(name, *vote(draws)[:2]) for name in names)
        up, down = (float(part) for part in draws.uniform(0, 0.5, 2))
        name = f"{key}-{number}"
        changes: dict[str, Any] = {"key": key, "mid": mid, "event_id": f"tally-{name}", "ballot_id": f"ballot-{name}"}
        yield tally(number, at_ns, up, down, entries=said, volatility=float(draws.uniform(1e-4, 1e-3)), **changes)


def tape(seed: int, seconds: Iterable[int]) -> list[Event]:
    return [event for number in seconds for event in second(number, np.random.default_rng((seed, number)))]


def future(kind: str) -> list[Event]:
    past = tape(1, range(CUT))
    if kind == "cut":
        return past
    if kind == "delayed":
        return past + tape(1, range(CUT + 7, SECONDS + 7))
    return past + tape(2, range(CUT, SECONDS))


class Peeping:
    """A policy with the fault that is looked for: it knows how much there is to come."""

    name = "test"

    def __init__(self, policy: SetPolicy, events: int) -> None:
        self._policy, self._events = policy, events

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        answer = self._policy.decide(observation, context)
        return PolicyAnswer(0.5 if (context.ballots + self._events) % 5 == 0 else answer.target, answer.reason)


def outputs(events: list[Event], *, leak: bool = False) -> list[bytes]:
    """Return the decisions of the past, whole."""
    policy = SetPolicy("test", weights(13))
    chosen = Peeping(policy, len(events)) if leak else policy
    strategy = StrategyConfig("alpha", "main", (PERP, SPOT), NS_PER_S, chosen, budget=Decimal(500))
    stage, state = Decider(DeciderConfig(INSTRUMENTS, (strategy,))), ShardState()
    found = [output for event in events for output in run_step(stage, state, event)[1]]
    assert all(isinstance(event, Decision) for event in found)
    return [msgspec.msgpack.encode(event) for event in found if event.available_at_ns < T0 + CUT * NS_PER_S]


@cache
def as_it_was(leak: bool) -> list[bytes]:
    return outputs(tape(1, range(SECONDS)), leak=leak)


@pytest.mark.parametrize("kind", ["cut", "delayed", "another"])
def test_no_decision_of_the_past_changes_with_the_future(kind: str) -> None:
    before = as_it_was(leak=False)
    assert len(before) == 2 * CUT
    targets = {msgspec.msgpack.decode(item)["target"] for item in before}
    assert len(targets) >= 3, "a policy that always wants the same would show nothing"
    assert outputs(future(kind)) == before


@pytest.mark.parametrize("kind", ["cut", "another"])
def test_a_policy_that_looks_ahead_is_found(kind: str) -> None:
    assert outputs(future(kind), leak=True) != as_it_was(leak=True)
