"""What execution keeps between two events, by checkpoint key, and the settings it is built from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from agents.execution.orders import OrderState
from agents.execution.positions import PositionState
from agents.execution.reconciliation_state import STATE_KEY, OrphanPolicy, ReconciliationState
from agents.limits.book import EffectiveLimits, LimitBook
from agents.limits.conduct import Conduct
from agents.limits.day_counts import DayCounts
from agents.limits.limit_set import LimitSet
from agents.limits.windows import PriceRange
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.values import NS_PER_MS, NS_PER_S, ZERO, Level


@dataclass(frozen=True, kw_only=True)
class AccountTerms:
    """Whose money: the capital put in at the start, in ``currency``, in which the account is valued.

    ``conversion_rates``: what one unit of another quote currency is worth in ``currency``.
    """

    capital: Decimal
    currency: str
    conversion_rates: Mapping[str, Decimal] = field(default_factory=dict)

    def rate(self, currency: str) -> Decimal | None:
        """Return what one unit of ``currency`` is worth in the account's, or None when that is not known."""
        return Decimal(1) if currency == self.currency else self.conversion_rates.get(currency)


@dataclass(frozen=True, kw_only=True)
class StrategyTerms:
    """Which account a strategy trades with, and what."""

    account: str
    instruments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """The settings of the stage. Raises ValueError for an instrument or an account that it cannot keep books of.

    ``limits`` are each account's hard limits at the first start, the same that risk has, and ``book`` the same as sets
    by scope; what is in force later is in the state.
    ``submit_limit_ns`` is how old a request may be at the socket, ``ack_timeout_ns`` how long an answer may take,
    ``takeover_wait_ns`` for how long after that limit the venue might still take the request, ``query_backoff_ns``
    the pauses between questions (the last one repeats), ``retention_ns`` how long a finished order stays known.
    ``orphan_orders``: what is done with an order of ours that works at a venue and is not in the books.
    """

    instruments: Mapping[str, InstrumentDefined]
    accounts: Mapping[str, AccountTerms]
    strategies: Mapping[str, StrategyTerms]
    limits: Mapping[str, LimitSet]
    submit_limit_ns: int = 500 * NS_PER_MS
    ack_timeout_ns: int = NS_PER_S
    takeover_wait_ns: int = 5 * NS_PER_S
    query_backoff_ns: tuple[int, ...] = (500 * NS_PER_MS, NS_PER_S, 2 * NS_PER_S, 5 * NS_PER_S)
    retention_ns: int = 600 * NS_PER_S
    orphan_orders: OrphanPolicy = OrphanPolicy.CANCEL
    traders: Mapping[str, tuple[tuple[str, str], ...]] = field(init=False)
    book: LimitBook | None = None
    effective: EffectiveLimits = field(init=False)

    def __post_init__(self) -> None:
        traders: dict[str, list[tuple[str, str]]] = {}
        for name in self.accounts:
            if name not in self.limits:
                raise ValueError(f"account {name} has no limits")
        for strategy, terms in sorted(self.strategies.items()):
            account = self.accounts.get(terms.account)
            if account is None:
                raise ValueError(f"strategy {strategy} trades account {terms.account}, which is not defined")
            for name in terms.instruments:
                _refuse_unbookable(strategy, self.instruments.get(name), name, account)
                traders.setdefault(name, []).append((terms.account, strategy))
        object.__setattr__(self, "effective", EffectiveLimits(self.limits, self.book))
        object.__setattr__(self, "traders", {name: tuple(pairs) for name, pairs in traders.items()})


def _refuse_unbookable(strategy: str, instrument: InstrumentDefined | None, name: str, account: AccountTerms) -> None:
    if instrument is None:
        raise ValueError(f"strategy {strategy} trades {name}, which is not defined")
    if instrument.inverse:
        raise ValueError(f"strategy {strategy} trades {name}: inverse contracts are not supported")
    if account.rate(instrument.quote_currency) is None:
        raise ValueError(f"strategy {strategy} trades {name}, but {instrument.quote_currency} has no conversion rate")


class AccountState(msgspec.Struct):
    """An account's books. ``positions`` are keyed ``strategy|instrument``; equity figures are in ``currency``.

    ``messages_ns`` are the times of the newest messages to the venue, ``contents_ns`` when each order content was
    last approved: the limits look at both. ``funding_as_of_ns``: when, by instrument, the funding was charged that the
    newest report of it told of. ``strategy_pnl``: what each strategy has gained since the start, as of its newest
    valuation, and ``strategy_day_start`` what it had when the day began.
    """

    currency: str
    balances: dict[str, Decimal] = {}
    positions: dict[str, PositionState] = {}
    open_orders: list[str] = []
    messages_ns: list[int] = []
    contents_ns: dict[str, int] = {}
    equity: Decimal = ZERO
    equity_peak: Decimal = ZERO
    day: int = 0
    day_start_equity: Decimal = ZERO
    funding_as_of_ns: dict[str, int] = {}
    conduct: Conduct = msgspec.field(default_factory=Conduct)
    orders_of_day: DayCounts = msgspec.field(default_factory=DayCounts)
    strategy_pnl: dict[str, Decimal] = {}
    strategy_day_start: dict[str, Decimal] = {}


class InstrumentState(msgspec.Struct):
    """The newest mark of an instrument, its newest known mid, the newest grid mark that had one, its mids of late."""

    mark: MarketMark | None = None
    mid: int | None = None
    valued: MarketMark | None = None
    mids: PriceRange = msgspec.field(default_factory=PriceRange)


class DeskState(msgspec.Struct):
    """What the whole shard shares: now, the claim's epoch, the next timer, and the levels in force by scope.

    ``commands_through``: the number of the newest command of people that was carried out, ``changes_through`` of those
    that carry a change. ``level_ordinals``: the command that set each level. ``causes``: why a level is in force that
    no person has set, and ``latched_ns`` since when. ``clock_ns``: the newest reading of our own clock, 0 where a
    capture's clock rules.
    """

    now_ns: int = 0
    epoch: int = 0
    next_timer_ns: int = 0
    clock_ns: int = 0
    levels: dict[str, Level] = {}
    causes: dict[str, str] = {}
    latched_ns: dict[str, int] = {}
    level_ordinals: dict[str, int] = {}
    commands_through: int = 0
    changes_through: int = 0
    oldest_bucket: int = 0
    newest_bucket: int = 0


class FinishedBucket(msgspec.Struct):
    """The orders that finished within one slice of time, so that they can be forgotten together."""

    order_ids: list[str] = []


STATE_TYPES: dict[str, type] = {
    "account": AccountState,
    "order": OrderState,
    "instrument": InstrumentState,
    "desk": DeskState,
    "finished": FinishedBucket,
    "limits": LimitBook,
    STATE_KEY: ReconciliationState,
}
