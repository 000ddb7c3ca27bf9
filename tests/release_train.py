"""A decider with a store of models for tests: policies by digest, and releases as they come from people."""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
from money_events import INSTRUMENTS, PERP, SPOT, T0, account_mark, mark, tally

from agents.decider.config import DeciderConfig, Follows, StrategyConfig
from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from agents.decider.policy_source import LoadedPolicy, ModelName, ModelTerms, PolicyRefused
from agents.decider.stage import Decider
from agents.release.drift import DriftTerms
from agents.stage import ShardState, run_step
from schemas.decisions import Decision
from schemas.event import Event
from schemas.feedback import ModelRelease, ReleaseStage
from schemas.orders import AccountMark
from schemas.values import NS_PER_S

BUDGET = Decimal(500)


@dataclass
class Wants:
    """A policy that wants one target always; from its ``turns``-th answer on it wants ``then``."""

    target: float
    name: str = "wants"
    turns: int | None = None
    then: float = math.nan

    def __post_init__(self) -> None:
        self.asked = 0

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        self.asked += 1
        turned = self.turns is not None and context.ballots >= self.turns
        return PolicyAnswer(self.then if turned else self.target)


@dataclass
class Store:
    """Policies by digest; whatever else is asked for is refused. ``markets``: on what each was trained, if known."""

    policies: dict[str, Any] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    markets: dict[str, frozenset[str]] = field(default_factory=dict)

    def policy(self, sha256: str) -> LoadedPolicy | PolicyRefused:
        if sha256 not in self.policies or sha256 in self.refused:
            return PolicyRefused(f"{sha256} is refused.")
        return LoadedPolicy(self.policies[sha256], standardised, self.markets.get(sha256))


def standardised(observation: Observation) -> tuple[float | None, ...]:
    """The disagreement of a tally as its only feature, in deviations: tests say through it how far inputs are off."""
    return (observation["disagreement"],)


def released(model: str, stage: ReleaseStage, sha256: str | None = None, **changes: Any) -> ModelRelease:
    """Return a person's release; the digest of model ``m`` is ``sha-m``."""
    fields: dict[str, Any] = {
        "key": model,
        "event_time_ns": T0,
        "available_at_ns": T0,
        "event_id": f"release-{model}-{stage}",
        "model": model,
        "sha256": f"sha-{model}" if sha256 is None else sha256,
        "release_stage": stage,
        "reason": "a person's",
        "author": "ann",
    }
    return ModelRelease(**fields | changes)


def gained(at: int, amount: float, strategy: str = "beta", **changes: Any) -> AccountMark:
    """Return a valuation of a line that has gained this share of its budget so far."""
    worth = Decimal(repr(amount)) * BUDGET
    valuation: AccountMark = account_mark(T0 + at * NS_PER_S, strategy=strategy, unrealised_pnl=worth, **changes)
    return valuation


class Train:
    """One decider: ``main`` follows the champion and falls back on ``fallback``, ``trial`` follows the canary."""

    def __init__(
        self,
        policies: dict[str, Any],
        *,
        champion: str | None = None,
        fallback: Any = None,
        loss_max: float = 0.05,
        drift: DriftTerms | None = None,
        markets: dict[str, set[str]] | None = None,
        act_outside_training: bool = False,
    ) -> None:
        self.store = Store({f"sha-{name}": policy for name, policy in policies.items()})
        self.store.markets = {f"sha-{name}": frozenset(found) for name, found in (markets or {}).items()}
        first = None if champion is None else ModelName(champion, f"sha-{champion}")
        traded = (PERP, SPOT)
        rule = Wants(0.5, "rule") if fallback is None else fallback
        self.config = DeciderConfig(
            INSTRUMENTS,
            (
                StrategyConfig("alpha", "main", traded, NS_PER_S, rule, follows=Follows.CHAMPION, budget=BUDGET),
                StrategyConfig("beta", "main", (PERP,), NS_PER_S, rule, follows=Follows.CANARY, budget=BUDGET),
            ),
            source=self.store,
            models=ModelTerms(first, loss_max, drift, act_outside_training=act_outside_training),
        )
        self.stage = Decider(self.config)
        self.state = ShardState()
        self.second = 0

    def give(self, *events: Event) -> list[Any]:
        """Step events; return what came of them, in order."""
        found: list[Any] = []
        for event in events:
            found += run_step(self.stage, self.state, event)[1]
        return found

    def release(self, model: str, stage: ReleaseStage, **changes: Any) -> list[Any]:
        """Step a person's release."""
        return self.give(released(model, stage, **changes))

    def tick(self, **changes: Any) -> list[Any]:
        """Let a second pass with a fresh mark and a tally, and return what came of it."""
        self.second += 1
        at_ns = T0 + self.second * NS_PER_S
        return self.give(mark(PERP, at_ns), tally(self.second, at_ns, **changes))

    def decided(self, strategy: str = "alpha", **changes: Any) -> Decision:
        """Return one strategy's own decision of the next second."""
        (found,) = [
            item
            for item in self.tick(**changes)
            if isinstance(item, Decision) and item.strategy == strategy and item.policy_stage != ReleaseStage.SHADOW
        ]
        return found

    def restarted(self) -> None:
        """Go on from a checkpoint, in a process that has loaded nothing."""
        kept = {key: msgspec.msgpack.encode(value) for key, value in self.state.items()}
        self.state = ShardState()
        self.stage = Decider(self.config)
        for key, value in kept.items():
            self.state.restore(key, msgspec.msgpack.decode(value, type=self.stage.state_type(key)))
