"""Metrics of the decider: what it decided and why not, who is in force, how long policies take, which were unfit."""

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Final

from agents.decider.config import DeciderConfig, Follows, StrategyConfig
from agents.decider.policy import Observation, Policy, PolicyAnswer, PolicyContext
from agents.decider.policy_source import LoadedPolicy, PolicyRefused, PolicySource
from agents.decider.releases import canary_of, champion_of, model_in, shadows_of
from agents.stage import ShardState
from infra.metrics import of_stages as rows
from infra.metrics.registry import Labels, Metrics
from schemas.decisions import Decision
from schemas.event import Event
from schemas.feedback import ModelRelease, ReleaseStage, RetirementReason

_TIMES_KEPT: Final = 10_000
Times = deque[tuple[str, float]]


def new_times() -> Times:
    """Return where policies' answers are timed: (policy, seconds), the oldest given up first."""
    return deque(maxlen=_TIMES_KEPT)


class TimedPolicy:
    """A policy whose answers are timed; it answers the same."""

    def __init__(self, policy: Policy, times: Times) -> None:
        self._policy = policy
        self._times = times

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._policy.name

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        """Return the policy's answer."""
        began_s = perf_counter()
        answer = self._policy.decide(observation, context)
        self._times.append((self._policy.name, perf_counter() - began_s))
        return answer


class TimedPolicies:
    """A source whose policies are timed."""

    def __init__(self, source: PolicySource, times: Times) -> None:
        self._source = source
        self._times = times
        self._known: dict[str, tuple[LoadedPolicy, LoadedPolicy]] = {}

    def policy(self, sha256: str) -> LoadedPolicy | PolicyRefused:
        """Return the policy of this artefact, timed, or why there is none."""
        found = self._source.policy(sha256)
        if not isinstance(found, LoadedPolicy):
            return found
        known = self._known.get(sha256)
        if known is None or known[0] is not found:
            timed = dataclasses.replace(found, policy=TimedPolicy(found.policy, self._times))
            known = self._known[sha256] = (found, timed)
        return known[1]


def timed(config: DeciderConfig, times: Times) -> DeciderConfig:
    """Return the same configuration with every policy timed."""
    strategies = tuple(
        dataclasses.replace(strategy, policy=TimedPolicy(strategy.policy, times)) for strategy in config.strategies
    )
    return dataclasses.replace(config, strategies=strategies, source=TimedPolicies(config.source, times))


class DeciderObserver:
    """Watches the decider."""

    kept: Final[frozenset[type[Event]]] = frozenset({Decision, ModelRelease})
    timed: Final[frozenset[type[Event]]] = frozenset()

    def __init__(self, metrics: Metrics, config: DeciderConfig, times: Times) -> None:
        self._metrics = metrics
        self._config = config
        self._times = times
        self._stages: dict[str, str] | None = None
        for policy in {strategy.policy.name for strategy in config.strategies}:
            metrics.add(rows.MODEL_INVALID, 0, policy)
        for stage in ReleaseStage:
            metrics.add(rows.MODEL_RELEASES, 0, stage.value)

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Count decisions and models that were found unfit."""
        del took_s
        for event in outputs:
            if isinstance(event, Decision):
                if event.policy_stage != ReleaseStage.SHADOW.value:
                    reason = "none" if event.reason is None else event.reason.value
                    self._metrics.add(rows.DECISIONS, 1, event.strategy, event.outcome.value, reason)
            elif isinstance(event, ModelRelease) and event.reason == RetirementReason.INVALID_OUTPUT.value:
                self._metrics.add(rows.MODEL_INVALID, 1, event.model)

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell who is in force, what changed since the last time, and how long answers took."""
        while self._times:
            policy, took_s = self._times.popleft()
            self._metrics.observe(rows.MODEL_INFERENCE, took_s, policy)
        if not states:
            self._metrics.put_all(rows.POLICY_IN_FORCE, {})
        for state in states:
            in_force = [actor for strategy in self._config.strategies for actor in self._actors(state, strategy)]
            self._metrics.put_all(rows.POLICY_IN_FORCE, dict.fromkeys(in_force, 1.0))
            for _, policy, _ in in_force:
                self._metrics.add(rows.MODEL_INVALID, 0, policy)
            self._count_releases(state)
        return {}

    def _actors(self, state: ShardState, strategy: StrategyConfig) -> list[Labels]:
        model = model_in(state, self._config, strategy)
        stage = ReleaseStage.CANARY if strategy.follows is Follows.CANARY else ReleaseStage.CHAMPION
        if model is not None:
            found: list[Labels] = [(strategy.name, model.model, stage.value)]
        elif strategy.follows is Follows.CANARY:
            found = []
        else:
            found = [(strategy.name, strategy.policy.name, strategy.policy_stage)]
        if strategy.follows is Follows.CHAMPION:
            found += [(strategy.name, shadow.model, ReleaseStage.SHADOW.value) for shadow in shadows_of(state)]
        return found

    def _count_releases(self, state: ShardState) -> None:
        champion, canary = champion_of(state, self._config), canary_of(state)
        stages = {model.sha256: ReleaseStage.SHADOW.value for model in shadows_of(state)}
        stages |= {} if canary is None else {canary.sha256: ReleaseStage.CANARY.value}
        stages |= {} if champion is None else {champion.sha256: ReleaseStage.CHAMPION.value}
        before, self._stages = self._stages, stages
        if before is None:
            return
        for sha256 in before.keys() | stages.keys():
            stage = stages.get(sha256, ReleaseStage.RETIRED.value)
            if before.get(sha256, "") != stage:
                self._metrics.add(rows.MODEL_RELEASES, 1, stage)
