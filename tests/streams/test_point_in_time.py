"""Nothing that was said or decided depends on what came later: every feature, every expert, the tally, every policy.

The future of a tape is cut off, delayed, and replaced by another market's; the stages make everything anew under each,
and what lies a second before the cut must be the same to the byte. Features and experts are found, not listed, so that
a new one is held to it at once. A feature, an expert and a policy that look ahead are planted, and must be found, or
the test would prove nothing. (Scores and weights: ``tests/agents/voting/test_point_in_time.py``.)
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from captures import USDM_20240808
from market_inputs import definition, trusted_events

from agents.decider.baseline import BaselinePolicy
from agents.decider.policy import TARGETS, Observation, Policy, PolicyAnswer, PolicyContext
from agents.decider.set_policy import SetPolicy, tensor_shapes
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.experts._registry import load
from agents.experts.stage import Experts, ExpertsConfig
from agents.features.snapshot import FEATURE_NAMES
from agents.features.state import FeatureConfig
from agents.pipeline import Pipeline
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.stage import ShardState, Stage
from agents.voting.stage import Voting, VotingConfig
from schemas.decisions import Decision
from schemas.event import Event, Heartbeat, derive_id
from schemas.market import InstrumentDefined, Quality, QualityKind, Trade
from schemas.opinions import AnomalyAlert, FeatureSnapshot, MarketMark, Vote, VoteTally
from schemas.values import NS_PER_MS, NS_PER_S, units

COMPARED = (FeatureSnapshot, MarketMark, Vote, AnomalyAlert, VoteTally, Decision)
START_NS = 1_700_000_000 * NS_PER_S
INSTRUMENT = "SIM:BTCUSD"
SECONDS, CUT_S = 85, 75
LOOKS_AHEAD_NS = 5 * NS_PER_S
HORIZON_NS = 10 * NS_PER_S
FUTURES = ("cut", "delayed", "another")


@cache
def simulated(seed: int) -> tuple[Event, ...]:
    """What ingestion passes on of one simulated instrument, with a Heartbeat every 100 ms."""
    terms = MarketTerms(
        instruments=(SIM_INSTRUMENTS[INSTRUMENT],), start_prices=START_PRICES, seed=seed, start_ns=START_NS
    )
    market = SimulatedMarket(terms)
    opened = Quality(key=INSTRUMENT, event_time_ns=START_NS, available_at_ns=START_NS, kind=QualityKind.RESYNC)
    events: list[Event] = [opened]
    while market.next_time_ns <= START_NS + SECONDS * NS_PER_S:
        if market.next_time_ns % (100 * NS_PER_MS) == 0:
            now_ns = market.next_time_ns
            events.append(
                Heartbeat(key="market.event", event_time_ns=now_ns, available_at_ns=now_ns, clock="simulated")
            )
        events += market.advance()
    return tuple(events)


@cache
def recorded() -> tuple[Event, ...]:
    if not USDM_20240808.exists():
        pytest.skip("the recorded captures do not lie beside this checkout")
    return trusted_events(USDM_20240808)[:24_000]


def stamped(events: Iterable[Event]) -> list[Event]:
    """Events with ids that follow from themselves: the same past has the same ids whatever comes after it."""
    return [
        msgspec.structs.replace(event, event_id=derive_id("tape", "input", number))
        for number, event in enumerate(events)
    ]


class Peeking:
    """The stage ``experts``, of which one output is replaced by what a look into the tape's future gives."""

    name = "experts"

    def __init__(self, stage: Experts, peek: Callable[[Event], Event]) -> None:
        self._stage, self._peek = stage, peek

    def state_type(self, key: str) -> type:
        return self._stage.state_type(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        state, found = self._stage.step(state, event)
        return state, [self._peek(item) for item in found]


def later(events: Sequence[Event]) -> Callable[[int], int | None]:
    """Return what the last price will be some seconds after a time, which nobody can know then."""
    trades = [(event.available_at_ns, event.price) for event in events if isinstance(event, Trade)]
    times = np.array([at_ns for at_ns, _ in trades])

    def price(now_ns: int) -> int | None:
        at = int(np.searchsorted(times, now_ns + LOOKS_AHEAD_NS, side="right")) - 1
        return trades[at][1] if at >= 0 else None

    return price


def peeking_feature(events: Sequence[Event]) -> Callable[[Event], Event]:
    price = later(events)

    def peek(event: Event) -> Event:
        known = price(event.available_at_ns) if isinstance(event, FeatureSnapshot) else None
        if not isinstance(event, FeatureSnapshot) or known is None or event.mid is None:
            return event
        return msgspec.structs.replace(event, features=event.features | {"return_1s": known / event.mid - 1})

    return peek


def peeking_expert(events: Sequence[Event]) -> Callable[[Event], Event]:
    price = later(events)

    def peek(event: Event) -> Event:
        if not isinstance(event, Vote) or event.expert != "momentum":
            return event
        up = 0.1 + 0.8 * ((price(event.available_at_ns) or 0) % 1_000_000_007) / 1_000_000_007
        return msgspec.structs.replace(event, abstained=None, p_down=0.95 - up, p_flat=0.05, p_up=up)

    return peek


class Knowing:
    """A policy whose target is told by the price that will be."""

    name = "knowing"

    def __init__(self, events: Sequence[Event]) -> None:
        self._price = later(events)

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        known = (self._price(context.tally.grid_time_ns) or 0) // context.instrument.tick_size
        return PolicyAnswer(TARGETS[known % len(TARGETS)])


def random_network(seed: int) -> SetPolicy:
    """The set policy with weights that nobody trained: every input of it matters."""
    draws = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    for name, shape in tensor_shapes().items():
        weights[name] = np.abs(draws.normal(size=shape)) + 0.5 if name.endswith("scale") else draws.normal(size=shape)
    return SetPolicy("network", {name: value.astype(np.float32) for name, value in weights.items()})


def outputs(events: Iterable[Event], instrument: InstrumentDefined, plant: str = "") -> list[Event]:
    """What experts, voting and the decider make of a tape, and what is planted beside."""
    events = stamped(events)
    instruments = {instrument.key: instrument}
    features = FeatureConfig(instruments=instruments, vpin_bucket_volumes={instrument.key: units("2")})
    experts: Stage = Experts(ExpertsConfig(features=features))
    if plant == "feature":
        experts = Peeking(Experts(ExpertsConfig(features=features)), peeking_feature(events))
    if plant == "expert":
        experts = Peeking(Experts(ExpertsConfig(features=features)), peeking_expert(events))
    policies: list[Policy] = [BaselinePolicy(cost_multiple=0.01), random_network(1), random_network(2)]
    if plant == "policy":
        policies.append(Knowing(events))
    strategies = tuple(
        StrategyConfig(f"{policy.name}-{number}", "main", (instrument.key,), HORIZON_NS, policy)
        for number, policy in enumerate(policies)
    )
    stages: list[Stage] = [
        experts,
        Voting(VotingConfig(instruments=instruments)),
        Decider(DeciderConfig(instruments=instruments, strategies=strategies)),
    ]
    seen: list[Event] = []
    pipeline = Pipeline(stages, perform=lambda _: (), observe=seen.append)
    for event in events:
        pipeline.publish(event)
    return [event for event in seen if isinstance(event, COMPARED)]


def future(events: Sequence[Event], other: Sequence[Event], cut_ns: int, kind: str) -> list[Event]:
    """The tape with what comes after the cut gone, delayed, or that of another one."""
    past = [event for event in events if event.available_at_ns <= cut_ns]
    if kind == "cut":
        return past
    if kind == "another":
        return past + [event for event in other if event.available_at_ns > cut_ns]
    late_ns = 7 * NS_PER_S
    return past + [
        msgspec.structs.replace(
            event, event_time_ns=event.event_time_ns + late_ns, available_at_ns=event.available_at_ns + late_ns
        )
        for event in events
        if event.available_at_ns > cut_ns
    ]


def until(events: Iterable[Event], end_ns: int) -> dict[str, Event]:
    return {f"{type(event).__name__} {event.event_id}": event for event in events if event.available_at_ns <= end_ns}


def changed(before: dict[str, Event], after: dict[str, Event]) -> list[str]:
    """Return what differs, by its name: a feature, an expert, a policy."""
    found = set()
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            found.add(f"{name.split()[0]} that is only there once")
        elif msgspec.msgpack.encode(one) != msgspec.msgpack.encode(other):
            found |= _differing(one, other)
    return sorted(found)


def _differing(one: Event, other: Event) -> set[str]:
    if isinstance(one, FeatureSnapshot) and isinstance(other, FeatureSnapshot):
        names = {
            name
            for name in one.features.keys() | other.features.keys()
            if one.features.get(name) != other.features.get(name)
        }
        return {f"feature {name}" for name in names} or {"FeatureSnapshot"}
    if isinstance(one, Vote):
        return {f"expert {one.expert}"}
    if isinstance(one, Decision):
        return {f"policy {one.policy}"}
    return {type(one).__name__}


@cache
def as_it_was(plant: str = "") -> dict[str, Event]:
    told = outputs(simulated(7), SIM_INSTRUMENTS[INSTRUMENT], plant)
    return until(told, START_NS + (CUT_S - 1) * NS_PER_S)


def under(kind: str, plant: str = "") -> dict[str, Event]:
    tape = future(simulated(7), simulated(8), START_NS + CUT_S * NS_PER_S, kind)
    told = outputs(tape, SIM_INSTRUMENTS[INSTRUMENT], plant)
    return until(told, START_NS + (CUT_S - 1) * NS_PER_S)


@pytest.mark.slow(seconds=3)
def test_what_is_compared_is_all_there_is() -> None:
    """Every feature had a value, every expert spoke, and every policy wanted something, before the cut."""
    before = list(as_it_was().values())
    snapshots = [event for event in before if isinstance(event, FeatureSnapshot)]
    assert {name for event in snapshots for name, value in event.features.items() if value is not None} == set(
        FEATURE_NAMES
    )
    votes = [event for event in before if isinstance(event, Vote)]
    assert {event.expert for event in votes} == set(load())
    assert {event.expert for event in votes if event.abstained is None or event.context} == set(load())
    decisions = [event for event in before if isinstance(event, Decision)]
    targets = {policy: {one.target for one in decisions if one.policy == policy} for policy in ("baseline", "network")}
    assert all(len(wanted) > 1 for wanted in targets.values()), targets


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("kind", FUTURES)
def test_nothing_of_the_past_changes_with_the_future(kind: str) -> None:
    assert changed(as_it_was(), under(kind)) == []


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("kind", FUTURES)
@pytest.mark.parametrize(
    ("plant", "found"),
    [("feature", "feature return_1s"), ("expert", "expert momentum"), ("policy", "policy knowing")],
)
def test_what_looks_ahead_is_found_by_its_name(plant: str, found: str, kind: str) -> None:
    told = changed(as_it_was(plant), under(kind, plant))
    assert found in told
    if plant == "expert":
        assert "VoteTally" in told


@pytest.mark.slow(seconds=8)
def test_nothing_of_a_recorded_past_changes_with_its_future() -> None:
    tape = recorded()
    key = next(event.key for event in tape if isinstance(event, InstrumentDefined))
    end_ns = tape[-1].available_at_ns
    cut_ns = end_ns - (end_ns - tape[0].available_at_ns) // 6
    before = until(outputs(tape, definition(key)), cut_ns - NS_PER_S)
    assert sum(isinstance(event, Decision) for event in before.values()) > 30
    for kind in ("cut", "delayed"):
        assert changed(before, until(outputs(future(tape, (), cut_ns, kind), definition(key)), cut_ns - NS_PER_S)) == []
