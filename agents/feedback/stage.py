"""Feedback: scores votes at their horizon, attributes closed slices to decisions, rewards decisions.

It reads five topics and relies on the order of no two of them.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from agents.feedback.attribution import attribute, resumed_lots
from agents.feedback.ballots import keep_mark, open_ballot, overdue, settle
from agents.feedback.config import FeedbackConfig, StrategyFeedback
from agents.feedback.reward import add_fill, close_decisions, open_decision, value_at
from agents.feedback.state import CLOCK_KEY, Clock, InstrumentBallots, Line, ballots_key, line_key
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import Decision, DecisionOutcome
from schemas.event import Event, Heartbeat
from schemas.feedback import OutcomeReported
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark, VoteTally
from schemas.orders import AccountMark, Fill
from schemas.values import money, to_decimal

GRIDS_MAX: Final = 512
_Handler = Callable[[ShardState, Any], Sequence[Event]]


class Feedback:
    """The feedback stage: reads tallies, marks, decisions, account events and reported outcomes.

    Emits ExpertScore, BallotVoided, TradeFeedback and Experience.
    """

    name: Final = "feedback"

    def __init__(self, config: FeedbackConfig) -> None:
        self._config = config
        self._handlers: dict[type[Event], _Handler] = {
            VoteTally: self._tally,
            MarketMark: self._mark,
            Decision: self._decision,
            Fill: self._fill,
            AccountMark: self._account_mark,
            OutcomeReported: self._outcome,
            Heartbeat: self._heartbeat,
        }

    def state_type(self, key: str) -> type:
        """Return the Struct type kept under ``key``."""
        if key == CLOCK_KEY:
            return Clock
        return Line if key.startswith("line/") else InstrumentBallots

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event. OrderEvent and Position say nothing here that the fills do not."""
        handler = self._handlers.get(type(event))
        return state, NO_EVENTS if handler is None else handler(state, event)

    def resume(self, state: ShardState, holdings: Mapping[tuple[str, str, str], tuple[int, int]]) -> None:
        """Go on after the stages were parted by a restore: ``holdings`` is (account, strategy, instrument) ->
        (signed quantity, average price), as execution has it, of all that is held.

        A decision whose reward would reach across the gap gets none. Lots that do not add up to what is held, since
        fills were missed, become one lot of it, whose decision nobody knows.
        """
        now_ns = self._now(state, 0)
        known = {tuple(key.removeprefix("line/").split("|")) for key in state if key.startswith("line/")}
        for place in sorted(known | holdings.keys()):
            key = line_key(*place)
            line: Line = state.get(key) or Line()
            quantity, price = holdings.get((place[0], place[1], place[2]), (0, 0))
            lots = resumed_lots(line, quantity, price, now_ns)
            state[key] = Line(sign=(quantity > 0) - (quantity < 0), lots=lots)

    def _now(self, state: ShardState, now_ns: int) -> int:
        clock: Clock = state.get(CLOCK_KEY) or Clock()
        if now_ns > clock.now_ns:
            clock.now_ns = now_ns
            state[CLOCK_KEY] = clock
        return clock.now_ns

    def _ballots(self, state: ShardState, instrument: str) -> InstrumentBallots:
        return state.get(ballots_key(instrument)) or InstrumentBallots()

    def _heartbeat(self, state: ShardState, event: Heartbeat) -> Sequence[Event]:
        return self._sweep(state, self._now(state, event.available_at_ns))

    def _sweep(self, state: ShardState, now_ns: int) -> list[Event]:
        """Void what no mark has come for. Instruments fall silent one by one, so all of them are looked at."""
        events: list[Event] = []
        for name in self._config.instruments:
            book: InstrumentBallots | None = state.get(ballots_key(name))
            if book is not None and overdue(book, now_ns, self._config):
                events += settle(book, name, now_ns, self._config)
                state[ballots_key(name)] = book
        return events

    def _mark(self, state: ShardState, mark: MarketMark) -> Sequence[Event]:
        now_ns = self._now(state, mark.available_at_ns)
        instrument = self._config.instruments.get(mark.key)
        if instrument is None:
            return NO_EVENTS
        book = self._ballots(state, mark.key)
        keep_ns = max(instrument.horizons_ns, default=0) + 2 * self._config.grace_ns
        if not keep_mark(book, mark, keep_ns):
            return NO_EVENTS
        events = settle(book, mark.key, now_ns, self._config)
        state[ballots_key(mark.key)] = book
        return events + self._sweep(state, now_ns)

    def _tally(self, state: ShardState, tally: VoteTally) -> Sequence[Event]:
        if tally.advice_for is not None or tally.key not in self._config.instruments:
            # Advice repeats votes that were, or will be, scored on the ballots they were cast for.
            return NO_EVENTS
        book = self._ballots(state, tally.key)
        open_ballot(book, tally)
        events = settle(book, tally.key, self._now(state, 0), self._config)
        traders = [item for item in self._config.strategies.values() if self._decides_on(item, tally)]
        if traders:
            while len(book.grids) >= GRIDS_MAX:
                del book.grids[next(iter(book.grids))]
            book.grids[tally.event_id] = tally.grid_time_ns
        state[ballots_key(tally.key)] = book
        for strategy in traders:
            if line_key(strategy.account, strategy.name, tally.key) in state:
                events += self._close(state, strategy, tally.key)
        return events

    def _decides_on(self, strategy: StrategyFeedback, tally: VoteTally) -> bool:
        return tally.horizon_ns == strategy.horizon_ns and tally.key in strategy.instruments

    def _decision(self, state: ShardState, decision: Decision) -> Sequence[Event]:
        strategy = self._config.strategies.get(decision.strategy)
        if decision.outcome is DecisionOutcome.ADVICE or strategy is None:
            return NO_EVENTS
        key, line = self._line(state, decision)
        open_decision(line, decision)
        state[key] = line
        return self._close(state, strategy, decision.instrument)

    def _fill(self, state: ShardState, fill: Fill) -> Sequence[Event]:
        strategy = self._config.strategies[fill.strategy]
        instrument = self._config.instruments[fill.instrument]
        fee = _quote_fee(fill, instrument, strategy)
        key, line = self._line(state, fill)
        add_fill(line, fill, fee, instrument, strategy.rate(instrument.quote_currency))
        events = attribute(line, fill, fee, instrument)
        state[key] = line
        return events

    def _account_mark(self, state: ShardState, mark: AccountMark) -> Sequence[Event]:
        strategy = self._config.strategies[mark.strategy]
        instrument = self._config.instruments[mark.instrument]
        key, line = self._line(state, mark)
        value_at(line, mark, instrument, strategy.rate(instrument.quote_currency))
        state[key] = line
        return self._close(state, strategy, mark.instrument)

    def _close(self, state: ShardState, strategy: StrategyFeedback, name: str) -> list[Event]:
        key = line_key(strategy.account, strategy.name, name)
        line: Line = state[key]
        grids = self._ballots(state, name).grids
        instrument = self._config.instruments[name]
        events = close_decisions(line, grids, strategy, instrument, self._now(state, 0))
        state[key] = line
        return events

    def _outcome(self, state: ShardState, outcome: OutcomeReported) -> Sequence[Event]:
        book = self._ballots(state, outcome.key)
        book.outcomes_reported += 1
        state[ballots_key(outcome.key)] = book
        return NO_EVENTS

    def _line(self, state: ShardState, event: Decision | Fill | AccountMark) -> tuple[str, Line]:
        key = line_key(event.account, event.strategy, event.instrument)
        return key, state.get(key) or Line()


def _quote_fee(fill: Fill, instrument: InstrumentDefined, strategy: StrategyFeedback) -> Decimal:
    """Return the fee in the quote currency. A fee in a third currency needs its rate in the settings."""
    if fill.fee_currency == instrument.quote_currency:
        return fill.fee
    if fill.fee_currency == instrument.base_currency:
        return money(fill.fee * to_decimal(fill.price))
    return money(fill.fee * strategy.rate(fill.fee_currency) / strategy.rate(instrument.quote_currency))
