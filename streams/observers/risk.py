"""Metrics of risk: verdicts and how long they take, levels in force, how full the limits are, how old the market is."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from agents.limits.book import LimitBook
from agents.limits.exposure import AccountExposure, MarketView, view_of
from agents.limits.limit_set import LimitSet
from agents.limits.totals import totals_of
from agents.risk.config import RiskConfig
from agents.risk.standing import LIMITS_KEY
from agents.risk.state import LEVELS_KEY, AccountRisk, InstrumentRisk, Levels, account_key, instrument_key
from agents.stage import ShardState
from infra.metrics import of_stages as rows
from infra.metrics.registry import Metrics
from schemas.control import ScopeKind
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event
from schemas.values import NS_PER_MS, ZERO, Level, notional

_SEVERITY: Final = {Level.ACTIVE: 0, Level.REDUCING: 1, Level.HALTED: 2}
Used = tuple[str, Decimal, Decimal]
"""A limit's name, what is used of it, and what it is."""


class RiskObserver:
    """Watches risk."""

    kept: Final[frozenset[type[Event]]] = frozenset({OrderApproved, OrderDenied})
    timed: Final[frozenset[type[Event]]] = frozenset({Decision})

    def __init__(self, metrics: Metrics, config: RiskConfig) -> None:
        self._metrics = metrics
        self._config = config

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Count verdicts; of a denial the first reason, so that the counts add up to the orders judged."""
        for event in outputs:
            if isinstance(event, OrderDenied):
                self._metrics.add(rows.RISK_DECISIONS, 1, "denied", event.reasons[0].value)
            elif isinstance(event, OrderApproved):
                outcome = "approved" if event.quantity else "cancel"
                self._metrics.add(rows.RISK_DECISIONS, 1, outcome, "none")
        for seconds in took_s:
            self._metrics.observe(rows.RISK_CHECK, seconds)

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell what is in force and how full the limits are."""
        for state in states:
            self._tell_levels(state)
            self._tell_market(state)
            self._tell_limits(state)
        return {}

    def _tell_levels(self, state: ShardState) -> None:
        strictest = dict.fromkeys((kind.value for kind in ScopeKind), Level.ACTIVE)
        levels: Levels = state.get(LEVELS_KEY) or Levels()
        for scope, level in levels.levels.items():
            kind = scope.partition("/")[0]
            strictest[kind] = max(strictest[kind], level, key=_SEVERITY.__getitem__)
        restricted = any(kept.restricted for kept in self._instruments(state).values())
        if restricted:
            kind = ScopeKind.INSTRUMENT.value
            strictest[kind] = max(strictest[kind], Level.REDUCING, key=_SEVERITY.__getitem__)
        for kind, level in strictest.items():
            self._metrics.put(rows.TRADING_LEVEL, _SEVERITY[level], kind)
            self._metrics.put(rows.KILL_SWITCH, float(level is Level.HALTED), kind)

    def _tell_market(self, state: ShardState) -> None:
        levels: Levels = state.get(LEVELS_KEY) or Levels()
        for name, kept in self._instruments(state).items():
            if kept.mark is not None:
                age_ns = max(0, levels.now_ns - kept.mark.newest_time_ns)
                self._metrics.put(rows.MARKET_DATA_AGE, age_ns / 1e9, name)

    def _tell_limits(self, state: ShardState) -> None:
        book: LimitBook = state.get(LIMITS_KEY) or self._config.effective.first
        limits = self._config.effective.of(book)
        marks = {name: kept.mark for name, kept in self._instruments(state).items() if kept.mark is not None}
        levels: Levels = state.get(LEVELS_KEY) or Levels()
        market = MarketView(self._config.instruments, marks, {}, levels.clock_ns)
        fullest: dict[str, float] = {}
        for account, held in limits.items():
            risk: AccountRisk | None = state.get(account_key(account))
            exposure = AccountExposure.opened_with(held.capital) if risk is None else risk.exposure
            for name, used, limit in _used(exposure, held, market, levels.now_ns):
                if limit > 0:
                    fullest[name] = max(fullest.get(name, 0.0), float(used / limit))
        self._metrics.put_all(rows.LIMIT_USED, {(name,): ratio for name, ratio in fullest.items()})

    def _instruments(self, state: ShardState) -> dict[str, InstrumentRisk]:
        found = {name: state.get(instrument_key(name)) for name in self._config.instruments}
        return {name: kept for name, kept in found.items() if kept is not None}


def _used(exposure: AccountExposure, limits: LimitSet, market: MarketView, now_ns: int) -> Iterator[Used]:
    """Yield how much an account uses of each limit that fills gradually; what cannot be reckoned is left out."""
    peak = exposure.equity_peak
    yield "daily_loss_max", max(ZERO, -exposure.day_pnl), limits.daily_loss_max
    yield "drawdown_max", (peak - exposure.equity) / peak if peak > 0 else ZERO, limits.drawdown_max
    since_ns = now_ns - limits.message_window_ms * NS_PER_MS
    sent = sum(1 for time_ns in exposure.messages_ns if time_ns > since_ns)
    yield "messages_max", Decimal(sent), Decimal(limits.messages_max)
    view = view_of(exposure, market, (Level.ACTIVE, ""))
    totals = totals_of(view.lines.values(), "", view, limits)
    if totals.gross is not None:
        yield "gross_exposure_max", totals.gross, limits.gross_exposure_max
        yield "leverage_max", totals.gross, max(ZERO, exposure.equity) * limits.leverage_max
    if totals.highest is not None and totals.lowest is not None:
        yield "net_exposure_max", max(totals.highest, -totals.lowest, ZERO), limits.net_exposure_max
    for name, quantity in totals.quantities.items():
        mark, instrument = market.marks.get(name), market.instruments.get(name)
        rate = None if instrument is None else limits.rate(instrument.quote_currency)
        if mark is None or mark.mid is None or instrument is None or rate is None or instrument.inverse:
            continue
        most = min(limits.position_value_max, limits.position_value_max_of.get(name, limits.position_value_max))
        yield "position_value_max", notional(mark.mid, quantity, instrument.multiplier) * rate, most
    for strategy, lost in exposure.conduct.day_pnl.items():
        yield "strategy_loss_max", max(ZERO, -lost), limits.loss_threshold(strategy)
