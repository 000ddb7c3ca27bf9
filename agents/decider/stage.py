"""The decider: one decision for each tally of a strategy's horizon, with what it saw and why it did nothing.

It decides what to want, never how much or whether it may: sizing and limits are risk's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agents.costs.estimate import CostPrior, CostState
from agents.decider.costs import estimated, is_cost_key, take_fill, take_valuation
from agents.decider.observation import observe
from agents.decider.policy import Policy, PolicyAnswer, PolicyContext
from agents.decider.state import (
    CLOCK_KEY,
    RELEASES_KEY,
    Clock,
    InstrumentOutlook,
    LineState,
    Releases,
    instrument_key,
    line_key,
)
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import Decision, DecisionOutcome, DenyReason, NoTradeReason
from schemas.event import Event, Heartbeat, derive_id
from schemas.feedback import ModelRelease
from schemas.market import InstrumentDefined
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark, MarkQuality, VoteTally
from schemas.orders import AccountMark, ExecType, Fill, OrderEvent, OrderStatus
from schemas.values import NS_PER_S

_TRADABLE: Final = (MarkQuality.GOOD, MarkQuality.TOP_ONLY)
_BLOCKED: Final = (NoTradeReason.NO_MARKET, NoTradeReason.DATA_STALE, NoTradeReason.ALERT, NoTradeReason.LEVEL)
_LEVEL_REASONS: Final = frozenset({DenyReason.KILLED, DenyReason.REDUCE_ONLY})


@dataclass(frozen=True, slots=True)
class StrategyConfig:
    """One strategy: its account, what it trades, the horizon whose tallies it decides on, and its policy.

    ``policy_stage`` is what decisions cite until a ModelRelease names the policy's stage.
    """

    name: str
    account: str
    instruments: tuple[str, ...]
    horizon_ns: int
    policy: Policy
    policy_stage: str = "CHAMPION"


@dataclass(frozen=True, slots=True)
class DeciderConfig:
    """Settings of the decider.

    ``decision_life_ns``: how long after its tally a decision may be carried out. ``stale_after_ns``: age of the
    newest market record beyond which nothing is decided. ``retry_after_ns``: after how long a target that has not
    come about is asserted again (None: never). ``long_only_aware``: never ask for a short position in what cannot
    be sold short; otherwise risk is left to refuse it. ``cost_priors``: what is believed of costs before the
    first fill of an instrument; without one, the quoted spread and the taker's fee.
    """

    instruments: Mapping[str, InstrumentDefined]
    strategies: tuple[StrategyConfig, ...]
    decision_life_ns: int = 2 * NS_PER_S
    stale_after_ns: int = 5 * NS_PER_S
    retry_after_ns: int | None = 30 * NS_PER_S
    long_only_aware: bool = False
    cost_priors: Mapping[str, CostPrior] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for a strategy that trades an instrument that is not defined."""
        for strategy in self.strategies:
            missing = [name for name in strategy.instruments if name not in self.instruments]
            if missing:
                raise ValueError(f"The strategy {strategy.name!r} trades {missing[0]!r}, which is not defined.")


_Handler = Callable[[ShardState, Any], Sequence[Event]]


class Decider:
    """The decider stage: reads tallies, marks, alerts, account events and releases; emits decisions."""

    name: Final = "decider"

    def __init__(self, config: DeciderConfig) -> None:
        self._config = config
        self._handlers: dict[type[Event], _Handler] = {
            VoteTally: self._tally,
            MarketMark: self._mark,
            AnomalyAlert: self._alert,
            OrderEvent: self._order_event,
            AccountMark: self._account_mark,
            Fill: self._fill,
            ModelRelease: self._release,
            Heartbeat: self._heartbeat,
        }

    def state_type(self, key: str) -> type:
        """Return the Struct type kept under ``key``."""
        named = {CLOCK_KEY: Clock, RELEASES_KEY: Releases}
        if is_cost_key(key):
            return CostState
        return named.get(key) or (LineState if key.startswith("line/") else InstrumentOutlook)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event. A Fill tells its cost; the position after it came with the OrderEvent before it."""
        handler = self._handlers.get(type(event))
        return state, NO_EVENTS if handler is None else handler(state, event)

    def _now(self, state: ShardState, now_ns: int) -> None:
        clock: Clock = state.get(CLOCK_KEY) or Clock()
        if now_ns > clock.now_ns:
            clock.now_ns = now_ns
            state[CLOCK_KEY] = clock

    def _heartbeat(self, state: ShardState, event: Heartbeat) -> Sequence[Event]:
        self._now(state, event.available_at_ns)
        return NO_EVENTS

    def _mark(self, state: ShardState, mark: MarketMark) -> Sequence[Event]:
        self._now(state, mark.available_at_ns)
        outlook: InstrumentOutlook = state.get(instrument_key(mark.key)) or InstrumentOutlook()
        outlook.mark = mark
        state[instrument_key(mark.key)] = outlook
        return NO_EVENTS

    def _alert(self, state: ShardState, alert: AnomalyAlert) -> Sequence[Event]:
        outlook: InstrumentOutlook = state.get(instrument_key(alert.key)) or InstrumentOutlook()
        outlook.alert = alert.level
        if alert.level is not AlertLevel.ELEVATED:
            outlook.restricted = alert.level is AlertLevel.HIGH
        state[instrument_key(alert.key)] = outlook
        return NO_EVENTS

    def _release(self, state: ShardState, release: ModelRelease) -> Sequence[Event]:
        releases: Releases = state.get(RELEASES_KEY) or Releases()
        releases.stages[release.model] = release.release_stage
        state[RELEASES_KEY] = releases
        return NO_EVENTS

    def _order_event(self, state: ShardState, event: OrderEvent) -> Sequence[Event]:
        key = line_key(event.strategy, event.instrument)
        line: LineState = state.get(key) or LineState()
        line.position, line.working = event.position_after, event.working_after
        closed = event.leg is not None and event.exec_type is ExecType.TRADE
        if closed or (event.decision_id == line.decision_id and event.status is OrderStatus.FILLED):
            # What a stop or a profit has closed is not entered again for the same target.
            line.satisfied = True
        if event.status is OrderStatus.DENIED and _LEVEL_REASONS.intersection(event.deny_reasons):
            line.denied_until_ns = event.available_at_ns + (self._config.retry_after_ns or 0)
        state[key] = line
        return NO_EVENTS

    def _account_mark(self, state: ShardState, mark: AccountMark) -> Sequence[Event]:
        key = line_key(mark.strategy, mark.instrument)
        line: LineState = state.get(key) or LineState()
        line.position, line.working = mark.position, mark.working
        line.unrealised_pnl = float(mark.unrealised_pnl)
        state[key] = line
        take_valuation(state, mark)
        return NO_EVENTS

    def _fill(self, state: ShardState, fill: Fill) -> Sequence[Event]:
        if fill.leg is not None or fill.reverses is not None:
            return NO_EVENTS  # Neither to leave at a stop nor what is taken back costs what following a target does.
        line: LineState | None = state.get(line_key(fill.strategy, fill.instrument))
        known = line is not None and line.decision_id == fill.decision_id
        half_spread = line.half_spread if line is not None and known else None
        # What is left of an instrument that is traded no more teaches nothing.
        if (instrument := self._config.instruments.get(fill.instrument)) is not None:
            take_fill(state, fill, instrument, half_spread)
        return NO_EVENTS

    def _tally(self, state: ShardState, tally: VoteTally) -> Sequence[Event]:
        decisions: list[Event] = []
        for strategy in self._config.strategies:
            if tally.key not in strategy.instruments:
                continue
            if tally.advice_for is None and tally.horizon_ns == strategy.horizon_ns:
                decisions.append(self._decide(state, tally, strategy, len(decisions)))
            elif tally.advice_for == strategy.name:
                decisions.append(self._advise(state, tally, strategy, len(decisions)))
        return decisions

    def _decide(self, state: ShardState, tally: VoteTally, strategy: StrategyConfig, ordinal: int) -> Decision:
        key = line_key(strategy.name, tally.key)
        line: LineState = state.get(key) or LineState()
        answer, seen = self._ask(state, tally, strategy, line)
        previous = line.target
        line.ballots += 1
        outcome, reason = DecisionOutcome.NO_TRADE, answer.reason
        decision_id = derive_id(tally.event_id, self.name, ordinal)
        if answer.target != previous or self._asserts_again(line, answer, tally):
            outcome, reason = DecisionOutcome.TARGET, None
            line.target, line.decision_id = answer.target, decision_id
            line.asserted_at_ns = tally.available_at_ns
            spread = seen.get("spread_relative")
            line.half_spread = None if spread is None else spread / 2
            line.satisfied = answer.target == 0 and line.position == 0 and line.working == 0
        elif reason is None:
            reason = NoTradeReason.TARGET_UNCHANGED
        state[key] = line
        return self._decision(state, tally, strategy, decision_id, (outcome, reason, answer, previous, seen))

    def _asserts_again(self, line: LineState, answer: PolicyAnswer, tally: VoteTally) -> bool:
        """Return whether a target that was denied, or expired, or filled in part, is due once more."""
        if self._config.retry_after_ns is None or line.satisfied or line.working:
            return False
        if answer.reason in _BLOCKED:
            return False
        return tally.available_at_ns - line.asserted_at_ns >= self._config.retry_after_ns

    def _advise(self, state: ShardState, tally: VoteTally, strategy: StrategyConfig, ordinal: int) -> Decision:
        line: LineState = state.get(line_key(strategy.name, tally.key)) or LineState()
        answer, seen = self._ask(state, tally, strategy, line)
        decision_id = derive_id(tally.event_id, self.name, ordinal)
        told = (DecisionOutcome.ADVICE, answer.reason, answer, line.target, seen)
        return self._decision(state, tally, strategy, decision_id, told)

    def _ask(
        self, state: ShardState, tally: VoteTally, strategy: StrategyConfig, line: LineState
    ) -> tuple[PolicyAnswer, dict[str, float | None]]:
        clock: Clock = state.get(CLOCK_KEY) or Clock()
        outlook: InstrumentOutlook = state.get(instrument_key(tally.key)) or InstrumentOutlook()
        mark = outlook.mark
        if mark is None:
            return PolicyAnswer(line.target, NoTradeReason.NO_MARKET), {}
        seen = observe(tally, mark, outlook, line, clock.now_ns)
        if mark.quality not in _TRADABLE or mark.mid is None or tally.mid is None:
            return PolicyAnswer(line.target, NoTradeReason.NO_MARKET), seen
        late = clock.now_ns - tally.available_at_ns > self._config.decision_life_ns
        if late or clock.now_ns - mark.newest_time_ns > self._config.stale_after_ns:
            return PolicyAnswer(line.target, NoTradeReason.DATA_STALE), seen
        instrument = self._config.instruments[tally.key]
        costs = estimated(state, instrument, self._config.cost_priors)
        seen |= {"cost.excess": costs.excess, "cost.fee": costs.fee}
        context = PolicyContext(tally, mark, instrument, line.target, line.ballots, costs)
        answer = strategy.policy.decide(seen, context)
        assert -1 <= answer.target <= 1, f"{strategy.policy.name} wants {answer.target}"
        return self._restricted(answer, context, outlook, line, clock.now_ns), seen

    def _restricted(
        self, answer: PolicyAnswer, context: PolicyContext, outlook: InstrumentOutlook, line: LineState, now_ns: int
    ) -> PolicyAnswer:
        """Return the answer held to what may be wanted now: under a restriction only less of what is held."""
        target = answer.target
        if self._config.long_only_aware and not context.instrument.shortable:
            target = max(0.0, target)
        reason = None
        if outlook.restricted:
            reason = NoTradeReason.ALERT
        elif now_ns < line.denied_until_ns:
            reason = NoTradeReason.LEVEL
        if reason is not None:
            target = max(0.0, min(target, line.target)) if line.target >= 0 else min(0.0, max(target, line.target))
        if target == answer.target:
            return answer
        kept = reason or NoTradeReason.TARGET_UNCHANGED
        return PolicyAnswer(target, kept if target == line.target else None, answer.edge, answer.cost)

    def _decision(
        self,
        state: ShardState,
        tally: VoteTally,
        strategy: StrategyConfig,
        decision_id: str,
        told: tuple[DecisionOutcome, NoTradeReason | None, PolicyAnswer, float, dict[str, float | None]],
    ) -> Decision:
        outcome, reason, answer, previous, seen = told
        releases: Releases = state.get(RELEASES_KEY) or Releases()
        stage = releases.stages.get(strategy.policy.name)
        return Decision(
            key=strategy.account,
            event_time_ns=tally.event_time_ns,
            available_at_ns=tally.available_at_ns,
            decision_id=decision_id,
            account=strategy.account,
            strategy=strategy.name,
            instrument=tally.key,
            ballot_id=tally.ballot_id,
            tally_id=tally.event_id,
            outcome=outcome,
            reason=reason,
            target=answer.target,
            previous_target=previous,
            mid=tally.mid,
            horizon_ns=tally.horizon_ns,
            policy=strategy.policy.name,
            policy_stage=strategy.policy_stage if stage is None else stage.value,
            edge=answer.edge,
            cost=answer.cost,
            observation=seen,
            expires_at_ns=tally.available_at_ns + self._config.decision_life_ns,
            request_id=tally.request_id,
        )
