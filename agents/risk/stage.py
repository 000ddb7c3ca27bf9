"""Risk: from a target to an order that has passed the hard limits, or to a denial with every reason."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agents.limits.book import LimitBook
from agents.limits.changes import loosens_level
from agents.limits.conduct import stopped_by
from agents.limits.conduct_checks import drawdown_exceeded
from agents.limits.exposure import AccountExposure
from agents.limits.order_checks import reference_mid
from agents.risk import flatten, protection
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.levels import latch, latched, scope_name
from agents.risk.orders import Intention, cancel_only, to_cancel
from agents.risk.standing import LIMITS_KEY, book_in, follow, limits_of, was_latched_since
from agents.risk.state import (
    LEVELS_KEY,
    AccountRisk,
    InstrumentRisk,
    Levels,
    account_key,
    instrument_key,
    line_key,
)
from agents.stage import NO_EVENTS, ShardState
from schemas.changes import ControlOutcome, OutcomeKind
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.decisions import Decision, DecisionOutcome, DenyReason, OrderDenied
from schemas.event import WALL_CLOCK, Event, Heartbeat, derive_id
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark
from schemas.orders import AccountMark, OrderEvent, Position
from schemas.values import Level

_Handler = Callable[[ShardState, Any], Sequence[Event]]
_BREACH_AUTHOR: Final = "risk"


class Risk:
    """The risk stage: reads decisions, marks, alerts, account events and commands; emits approvals and denials."""

    name: Final = "risk"

    def __init__(self, config: RiskConfig) -> None:
        self._config = config
        self._handlers: dict[type[Event], _Handler] = {
            Decision: self._decide,
            MarketMark: self._mark,
            AnomalyAlert: self._alert,
            OrderEvent: self._order_event,
            Position: self._position,
            AccountMark: self._account_mark,
            ControlCommand: self._command,
            ControlOutcome: self._outcome,
            Heartbeat: self._heartbeat,
        }

    def state_type(self, key: str) -> type:
        """Return the Struct type kept under ``key``."""
        if key in (LEVELS_KEY, LIMITS_KEY):
            return Levels if key == LEVELS_KEY else LimitBook
        return AccountRisk if key.startswith("account/") else InstrumentRisk

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event. A Fill changes nothing here: each OrderEvent carries the position after it.

        Raises BadRecord for a command that names no level or an unknown account.
        """
        handler = self._handlers.get(type(event))
        if handler is None:
            return state, NO_EVENTS
        self._open(state)
        events = handler(state, event)
        for made in (event, *events):
            events = [*events, *self._stop_strategy(state, event, made)]
        return state, events

    def _open(self, state: ShardState) -> None:
        if LEVELS_KEY in state:
            return
        state[LEVELS_KEY] = Levels()
        for account, limits in self._config.limits.items():
            state[account_key(account)] = AccountRisk(exposure=AccountExposure.opened_with(limits.capital))

    def take_over(self, state: ShardState, exposures: Mapping[str, AccountExposure], limits: LimitBook) -> None:
        """Believe what execution's books say each account holds and works, after the stages were parted by a restore.

        ``limits`` are those that execution has in force.
        Latches and what is being flattened stay, and so do the counts of messages and of conduct, which can only forbid
        more.
        """
        self._open(state)
        state[LIMITS_KEY] = limits
        for name in self._config.limits:
            account: AccountRisk = state[account_key(name)]
            kept = account.exposure
            account.exposure = exposures[name]
            account.exposure.messages_ns, account.exposure.contents_ns = kept.messages_ns, kept.contents_ns
            account.exposure.conduct = kept.conduct
            state[account_key(name)] = account

    def _now(self, state: ShardState, now_ns: int) -> None:
        levels: Levels = state[LEVELS_KEY]
        if now_ns > levels.now_ns:
            levels.now_ns = now_ns
            state[LEVELS_KEY] = levels

    def _heartbeat(self, state: ShardState, event: Heartbeat) -> Sequence[Event]:
        self._now(state, event.available_at_ns)
        if event.clock == WALL_CLOCK:
            levels: Levels = state[LEVELS_KEY]
            levels.clock_ns = event.available_at_ns
            state[LEVELS_KEY] = levels
        return NO_EVENTS

    def _mark(self, state: ShardState, mark: MarketMark) -> Sequence[Event]:
        clock_ns: int = state[LEVELS_KEY].clock_ns
        book, limits = book_in(state, self._config), self._config.effective
        at_ns = mark.available_at_ns
        if clock_ns:
            # Whoever made the mark may have a clock that runs ahead: it moves ours by no more than is allowed.
            at_ns = min(at_ns, clock_ns + limits.clock_drift_max_ns(book))
        self._now(state, at_ns)
        kept: InstrumentRisk = state.get(instrument_key(mark.key)) or InstrumentRisk()
        kept.mark = mark
        mid = reference_mid(mark)
        if mid is not None:
            kept.mids.add(state[LEVELS_KEY].now_ns, mid, limits.move_window_ms(book))
        state[instrument_key(mark.key)] = kept
        return (*flatten.retry(state, self._config, mark.key), *protection.on_mark(state, self._config, mark.key))

    def _alert(self, state: ShardState, alert: AnomalyAlert) -> Sequence[Event]:
        kept: InstrumentRisk = state.get(instrument_key(alert.key)) or InstrumentRisk()
        if alert.level is not AlertLevel.ELEVATED:
            # ELEVATED lifts nothing and restricts nothing: only NORMAL ends what HIGH began.
            kept.restricted = alert.level is AlertLevel.HIGH
        state[instrument_key(alert.key)] = kept
        return NO_EVENTS

    def _order_event(self, state: ShardState, event: OrderEvent) -> Sequence[Event]:
        return protection.take_order_event(state, self._config, event)

    def _position(self, state: ShardState, event: Position) -> Sequence[Event]:
        return protection.take_position(state, self._config, event)

    def _account_mark(self, state: ShardState, mark: AccountMark) -> Sequence[Event]:
        account: AccountRisk = state[account_key(mark.account)]
        account.exposure.apply_account_mark(mark)
        state[account_key(mark.account)] = account
        limits = limits_of(state, self._config, mark.account)
        lost = -mark.day_pnl > limits.daily_loss_max
        if not lost and not drawdown_exceeded(mark.equity, mark.equity_peak, limits.drawdown_max):
            return NO_EVENTS
        scope = scope_name(ScopeKind.ACCOUNT, mark.account)
        if latched(state, scope) is self._config.breach_level or latched(state, scope) is Level.HALTED:
            return NO_EVENTS
        reason = DenyReason.LOSS_LIMIT if lost else DenyReason.DRAWDOWN
        latch(state, scope, self._config.breach_level, f"{_BREACH_AUTHOR}: {reason}")
        mine = [item for item in self._config.strategies.values() if item.account == mark.account]
        return self._cancel_resting(state, mark, mine)

    def _stop_strategy(self, state: ShardState, cause: Event, made: Event) -> Sequence[Event]:
        """Latch the level of a strategy that has behaved as none may, after what it or the venue has just done."""
        if not isinstance(made, OrderDenied | OrderEvent | AccountMark) or made.account not in self._config.limits:
            return NO_EVENTS
        account: AccountRisk = state[account_key(made.account)]
        found = stopped_by(account.exposure.conduct, made, limits_of(state, self._config, made.account))
        if found is None:
            return NO_EVENTS
        name, reason = found
        scope = scope_name(ScopeKind.STRATEGY, name)
        if latched(state, scope) is self._config.breach_level or latched(state, scope) is Level.HALTED:
            return NO_EVENTS
        latch(state, scope, self._config.breach_level, f"{_BREACH_AUTHOR}: {reason}")
        return self._cancel_resting(state, cause, [self._config.strategies[name]])

    def _command(self, state: ShardState, command: ControlCommand) -> Sequence[Event]:
        if command.scope is ScopeKind.ACCOUNT and command.target not in self._config.limits:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, f"no account {command.target!r}")
        if command.action is ControlAction.FLATTEN:
            return flatten.begin(state, self._config, command)
        if command.action is not ControlAction.SET_LEVEL:
            return NO_EVENTS
        if command.level is None:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, "SET_LEVEL without a level")
        # Execution reads the same command and cancels what works in its scope; here the latch is all there is to do.
        # What loosens is believed of execution alone, which has seen that two people signed it.
        scope = scope_name(command.scope, command.target)
        if not loosens_level(latched(state, scope), command.level):
            latch(state, scope, command.level, f"{command.author}: {command.reason}")
        return NO_EVENTS

    def _outcome(self, state: ShardState, told: ControlOutcome) -> Sequence[Event]:
        """Follow what execution says is in force, and release a latch that two people have reset."""
        follow(state, self._config, told)
        if told.outcome is not OutcomeKind.APPLIED or told.level is None:
            return NO_EVENTS
        scope = scope_name(told.scope, told.target)
        if loosens_level(latched(state, scope), told.level) and was_latched_since(state, scope, told.proposed_at_ns):
            return NO_EVENTS
        latch(state, scope, told.level, f"{told.author}: {told.reason}")
        if told.scope is ScopeKind.STRATEGY and told.level is not Level.HALTED:
            self._forgive(state, told.target)
        return NO_EVENTS

    def _forgive(self, state: ShardState, strategy: str) -> None:
        for name in self._config.limits:
            account: AccountRisk = state[account_key(name)]
            account.exposure.conduct.forgive(strategy)
            state[account_key(name)] = account

    def _cancel_resting(self, state: ShardState, cause: Event, strategies: Sequence[StrategyRisk]) -> Sequence[Event]:
        events: list[Event] = []
        now_ns: int = state[LEVELS_KEY].now_ns
        for strategy in strategies:
            account: AccountRisk = state[account_key(strategy.account)]
            for instrument in self._config.instruments:
                cancels = to_cancel(account.exposure.working, strategy.name, instrument)
                if not cancels:
                    continue
                decision_id = derive_id(cause.event_id, f"cancel/{line_key(strategy.name, instrument)}", 0)
                expires_at_ns = now_ns + self._config.order_life_ns
                intention = Intention(decision_id, strategy, instrument, 0, 0.0, cancels, now_ns, expires_at_ns)
                events += cancel_only(state, self._config, intention)
        return events

    def _decide(self, state: ShardState, decision: Decision) -> Sequence[Event]:
        if decision.outcome is not DecisionOutcome.TARGET:
            return NO_EVENTS
        return protection.take_decision(state, self._config, decision)
