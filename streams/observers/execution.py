"""Metrics of execution and of the accounts: orders and how long they take, books against the venue, money.

All that stands (positions, money, open orders, reconciliation) comes from the state, so that it is right after a
restart before anything has happened. Each strategy trades one account.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter
from typing import Final

from agents.execution.orders import OrderState
from agents.execution.reconciliation_state import STATE_KEY, ReconciliationState
from agents.execution.state import AccountState, ExecutionConfig, InstrumentState
from agents.stage import ShardState
from infra.metrics import of_stages as rows
from infra.metrics.registry import Labels, Metrics
from schemas.event import Event
from schemas.orders import Fill, OrderEvent, OrderStatus
from schemas.values import ZERO, notional

_KEPT: Final = 10_000


@dataclass(slots=True)
class VenueTimes:
    """What the sender has timed: from a submit to the venue's first word on the order, and from the tick to the submit.

    An order that is never answered makes way for the next, once there are too many.
    """

    answered: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    tick_to_order_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _sent: dict[str, tuple[str, float]] = field(default_factory=dict)

    def sent(self, order_id: str, instrument: str) -> None:
        """Note that an order goes out now."""
        if len(self._sent) >= _KEPT:
            del self._sent[next(iter(self._sent))]
        self._sent[order_id] = (venue_of(instrument), perf_counter())

    def heard(self, order_id: str) -> None:
        """Note that the venue has said something about an order; only the first word counts."""
        sent = self._sent.pop(order_id, None)
        if sent is not None:
            self.answered.append((sent[0], perf_counter() - sent[1]))


class ExecutionObserver:
    """Watches execution."""

    kept: Final[frozenset[type[Event]]] = frozenset({OrderEvent, Fill})
    timed: Final[frozenset[type[Event]]] = frozenset()

    def __init__(self, metrics: Metrics, config: ExecutionConfig, times: VenueTimes) -> None:
        self._metrics = metrics
        self._config = config
        self._times = times
        self._statuses: dict[str, OrderStatus] = {}

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Count fills, and orders that came to another state."""
        del took_s
        for event in outputs:
            if isinstance(event, OrderEvent):
                self._count_order(event)
            elif isinstance(event, Fill) and event.reverses is None:
                self._metrics.add(rows.FILLS, 1, venue_of(event.instrument), event.side.value)

    def _count_order(self, event: OrderEvent) -> None:
        if self._statuses.get(event.order_id) is not event.status:
            self._metrics.add(rows.ORDERS, 1, venue_of(event.instrument), event.side.value, event.status.value)
        if event.final:
            self._statuses.pop(event.order_id, None)
        else:
            self._statuses[event.order_id] = event.status

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell where books and orders stand; trading waits until every venue has been found to agree."""
        while self._times.answered:
            venue, took_s = self._times.answered.popleft()
            self._metrics.observe(rows.ORDER_SUBMIT, took_s, venue)
        while self._times.tick_to_order_s:
            self._metrics.observe(rows.TICK_TO_ORDER, self._times.tick_to_order_s.popleft())
        missing: dict[str, str] = {}
        for state in states:
            self._tell_orders(state)
            self._tell_accounts(state)
            missing |= self._tell_reconciled(state)
        return missing

    def _tell_orders(self, state: ShardState) -> None:
        venues = {venue_of(name) for name in self._config.instruments}
        opened, unknown = dict.fromkeys(venues, 0), dict.fromkeys(venues, 0)
        for _, account in self._accounts(state):
            for order_id in account.open_orders:
                order: OrderState = state[f"order/{order_id}"]
                opened[venue_of(order.instrument)] += 1
                unknown[venue_of(order.instrument)] += order.status is OrderStatus.UNKNOWN
        for venue in venues:
            self._metrics.put(rows.ORDERS_OPEN, opened[venue], venue)
            self._metrics.put(rows.ORDERS_UNKNOWN, unknown[venue], venue)

    def _tell_reconciled(self, state: ShardState) -> dict[str, str]:
        kept: ReconciliationState | None = state.get(STATE_KEY)
        if kept is None:
            return {"reconciled": "the books have not been compared with the venue's yet"}
        for venue, standing in kept.venues.items():
            self._metrics.put(rows.RECONCILED, float(standing.clean), venue)
            differing = sum(difference.blocks for difference in standing.differences)
            self._metrics.put(rows.RECONCILE_DIFFERENCES, differing, venue)
        unclean = sorted(venue for venue, standing in kept.venues.items() if not standing.clean)
        return {"reconciled": f"not reconciled with {', '.join(unclean)}"} if unclean else {}

    def _tell_accounts(self, state: ShardState) -> None:
        held: dict[Labels, float] = {}
        fees: dict[Labels, float] = {}
        gained: dict[Labels, float] = {}
        fallen: dict[Labels, float] = {}
        equity: dict[Labels, float] = {}
        for name, terms in self._config.accounts.items():
            account: AccountState = state.get(f"account/{name}") or AccountState(terms.currency)
            worth = account.equity if account.equity_peak else terms.capital
            equity[terms.currency,] = equity.get((terms.currency,), 0.0) + float(worth)
            peak = max(account.equity_peak, worth)
            for strategy in (who for who, of in self._config.strategies.items() if of.account == name):
                fallen[strategy,] = float((peak - worth) / peak) if peak > 0 else 0.0
                gained[strategy, terms.currency] = float(account.strategy_pnl.get(strategy, ZERO))
                fees.setdefault((strategy, terms.currency), 0.0)
                for instrument in self._config.strategies[strategy].instruments:
                    held.setdefault((strategy, instrument), 0.0)
            for key, position in account.positions.items():
                strategy, _, instrument = key.partition("|")
                held[strategy, instrument] = self._worth(state, instrument, position.quantity)
                rate = terms.rate(self._config.instruments[instrument].quote_currency) or ZERO
                fees[strategy, terms.currency] = fees.get((strategy, terms.currency), 0.0) + float(position.fees * rate)
        for row, values in (
            (rows.POSITION_NOTIONAL, held),
            (rows.FEES, fees),
            (rows.NET_PNL, gained),
            (rows.DRAWDOWN, fallen),
            (rows.EQUITY, equity),
        ):
            self._metrics.put_all(row, values)

    def _worth(self, state: ShardState, instrument: str, quantity: int) -> float:
        known: InstrumentState | None = state.get(f"instrument/{instrument}")
        if known is None or known.mid is None:
            return 0.0
        worth: Decimal = notional(known.mid, quantity, self._config.instruments[instrument].multiplier)
        return float(worth)

    def _accounts(self, state: ShardState) -> Iterator[tuple[str, AccountState]]:
        for name in self._config.accounts:
            account: AccountState | None = state.get(f"account/{name}")
            if account is not None:
                yield name, account


def venue_of(instrument: str) -> str:
    """Return the venue of an instrument's name."""
    return instrument.partition(":")[0]
