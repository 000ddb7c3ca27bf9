"""The decider: one decision for each tally of a strategy's horizon, with what it saw and why it did nothing.

It decides what to want, never how much or whether it may: sizing and limits are risk's. Which model decides is the
release train's (``releases``, ``acting``); it takes a model that is found unfit out of force by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from agents.costs.estimate import CostState
from agents.decider.acting import Answered, answer
from agents.decider.config import DeciderConfig, StrategyConfig
from agents.decider.costs import is_cost_key
from agents.decider.decisions import STAGE, Told, decision_id_of, decision_of
from agents.decider.lines import asserts_again, line_of, take_account_mark, take_line_fill, take_order_event
from agents.decider.moments import count_return
from agents.decider.releases import RELEASES_KEY, Releases, retire, take_release
from agents.decider.shadows import shadowed
from agents.decider.state import (
    CLOCK_KEY,
    Clock,
    InstrumentOutlook,
    LineState,
    ShadowLine,
    instrument_key,
    line_key,
    shadow_prefix,
    watch_key,
)
from agents.decider.watch import Watch, losing
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import DecisionOutcome, NoTradeReason
from schemas.event import Event, Heartbeat
from schemas.feedback import ModelRelease, RetirementReason
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark, VoteTally
from schemas.orders import AccountMark, Fill, OrderEvent

__all__ = ["Decider", "DeciderConfig", "StrategyConfig"]

_Handler = Callable[[ShardState, Any], Sequence[Event]]
_KEPT: Final[dict[str, type]] = {CLOCK_KEY: Clock, RELEASES_KEY: Releases}
_KEPT_BY_PREFIX: Final[dict[str, type]] = {
    "line/": LineState,
    "instrument/": InstrumentOutlook,
    watch_key(""): Watch,
    shadow_prefix("")[:-1]: ShadowLine,
}


class Decider:
    """The decider stage: reads tallies, marks, alerts, account events and releases; emits decisions and retirements."""

    name: Final = STAGE

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
        if is_cost_key(key):
            return CostState
        return _KEPT.get(key) or next(kind for prefix, kind in _KEPT_BY_PREFIX.items() if key.startswith(prefix))

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
        return take_release(state, self._config, release)

    def _order_event(self, state: ShardState, event: OrderEvent) -> Sequence[Event]:
        take_order_event(state, self._config, event)
        return NO_EVENTS

    def _account_mark(self, state: ShardState, mark: AccountMark) -> Sequence[Event]:
        take_account_mark(state, self._config, mark)
        lost = losing(state, self._config, mark)
        return NO_EVENTS if lost is None else (retire(state, self._config, lost, RetirementReason.LOSS, mark),)

    def _fill(self, state: ShardState, fill: Fill) -> Sequence[Event]:
        take_line_fill(state, self._config, fill)
        return NO_EVENTS

    def _tally(self, state: ShardState, tally: VoteTally) -> Sequence[Event]:
        told: list[Event] = []
        for strategy in self._config.strategies:
            if tally.key not in strategy.instruments:
                continue
            if tally.advice_for is None and tally.horizon_ns == strategy.horizon_ns:
                told += self._decide(state, tally, strategy, len(told))
                told += shadowed(state, self._config, tally, strategy, len(told))
            elif tally.advice_for == strategy.name:
                told += self._advise(state, tally, strategy, len(told))
        return told

    def _decide(self, state: ShardState, tally: VoteTally, strategy: StrategyConfig, ordinal: int) -> list[Event]:
        line = line_of(state, strategy.name, tally.key)
        found = answer(state, self._config, tally, strategy, line)
        wanted, seen = found.asked.answer, found.asked.seen
        previous = line.target
        line.ballots += 1
        count_return(line)
        outcome, reason = DecisionOutcome.NO_TRADE, wanted.reason
        if wanted.target != previous or asserts_again(self._config, line, wanted, tally):
            outcome, reason = DecisionOutcome.TARGET, None
            line.target = wanted.target
            line.decision_id = decision_id_of(tally, ordinal + len(found.retired))
            line.asserted_at_ns = tally.available_at_ns
            spread = seen.get("spread_relative")
            line.half_spread = None if spread is None else spread / 2
            line.satisfied = wanted.target == 0 and line.position == 0 and line.working == 0
        elif reason is None:
            reason = NoTradeReason.TARGET_UNCHANGED
        state[line_key(strategy.name, tally.key)] = line
        return self._told(tally, strategy, found, ordinal, Told(found.asked, previous, outcome, reason, found.withheld))

    def _advise(self, state: ShardState, tally: VoteTally, strategy: StrategyConfig, ordinal: int) -> list[Event]:
        line = line_of(state, strategy.name, tally.key)
        found = answer(state, self._config, tally, strategy, line)
        told = Told(found.asked, line.target, DecisionOutcome.ADVICE, found.asked.answer.reason, found.withheld)
        return self._told(tally, strategy, found, ordinal, told)

    def _told(
        self, tally: VoteTally, strategy: StrategyConfig, found: Answered, ordinal: int, told: Told
    ) -> list[Event]:
        at = ordinal + len(found.retired)
        return [*found.retired, decision_of(self._config, tally, strategy, found.actor, (at, told))]
