"""A desk to test execution on: instruments, accounts, and one line for each event that a test gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from msgspec.structs import force_setattr

from agents.execution.orders import OrderState
from agents.execution.stage import Execution
from agents.execution.state import AccountState, AccountTerms, ExecutionConfig, StrategyTerms
from agents.limits.limit_set import LimitSet
from agents.stage import ShardState, run_step
from schemas.decisions import OrderApproved
from schemas.event import Event, Heartbeat
from schemas.market import InstrumentDefined, Session
from schemas.opinions import MarketMark, MarkQuality
from schemas.orders import Claimed, OrderEvent, ReportKind, VenueReport
from schemas.values import NS_PER_MS, NS_PER_S, OrderType, Side, TimeInForce

T0 = 1_700_000_000 * NS_PER_S
ONE = 100_000_000
PERP = "SIM:BTCUSD"
SPOT = "SIM:ETHUSD"


def instrument(key: str, **changes: Any) -> InstrumentDefined:
    """Return a perpetual (SIM:BTCUSD) or spot (SIM:ETHUSD) definition."""
    venue, symbol = key.split(":")
    margined = key == PERP
    fields: dict[str, Any] = {
        "key": key,
        "event_time_ns": 0,
        "available_at_ns": 0,
        "venue": venue,
        "symbol": symbol,
        "tick_size": ONE // 100,
        "lot_size": ONE // 10_000,
        "quantity_min": ONE // 10_000,
        "quantity_max": 1_000 * ONE,
        "notional_min": Decimal(10),
        "multiplier": Decimal(1),
        "inverse": False,
        "base_currency": symbol[:3],
        "quote_currency": "USD",
        "maker_fee_rate": Decimal("0.0001"),
        "taker_fee_rate": Decimal("0.0004"),
        "funding_rate": Decimal("0.0001") if margined else Decimal(0),
        "funding_interval_ns": 60 * NS_PER_S if margined else 0,
        "shortable": margined,
        "session": Session.CONTINUOUS,
        "grid_ns": NS_PER_S,
        "horizons_ns": (NS_PER_S,),
    }
    return InstrumentDefined(**fields | changes)


INSTRUMENTS = {key: instrument(key) for key in (PERP, SPOT)}


def wide_limits(*strategies: str, **changes: Any) -> LimitSet:
    """Return limits that let pass whatever the tests of execution order, unless told otherwise."""
    fields: dict[str, Any] = {
        "currency": "USD",
        "capital": 100_000,
        "price_collar": "0.5",
        "order_value_max": 10_000_000,
        "position_value_max": 100_000_000,
        "gross_exposure_max": 100_000_000,
        "net_exposure_max": 100_000_000,
        "leverage_max": 10_000,
        "messages_max": 100_000,
        "daily_loss_max": 100_000_000,
        "drawdown_max": "0.99",
        "duplicate_window_ms": 1,
        "permissions": {key: ["*"] for key in strategies},
    }
    return LimitSet.from_mapping(fields | changes)


CONFIG = ExecutionConfig(
    limits={"main": wide_limits("alpha", "beta")},
    instruments=INSTRUMENTS,
    accounts={"main": AccountTerms(capital=Decimal(100_000), currency="USD")},
    strategies={
        "alpha": StrategyTerms(account="main", instruments=(PERP, SPOT)),
        "beta": StrategyTerms(account="main", instruments=(PERP,)),
    },
)


@dataclass
class Desk:
    """One execution shard and its clock."""

    config: ExecutionConfig = CONFIG
    state: ShardState = field(default_factory=ShardState)
    now_ns: int = T0
    events: list[Event] = field(default_factory=list)
    serial: int = 0

    def __post_init__(self) -> None:
        self.stage = Execution(self.config)
        self.beat(0)

    def give(self, event: Event) -> Sequence[Event]:
        """Step one event; its identity is made up here when it has none."""
        self.serial += 1
        if not event.event_id:
            force_setattr(event, "event_id", f"{self.serial:032x}")
        outputs = run_step(self.stage, self.state, event)[1]
        self.events.extend(outputs)
        return outputs

    def beat(self, milliseconds: int) -> Sequence[Event]:
        """Let time pass and say so."""
        self.now_ns += milliseconds * NS_PER_MS
        return self.give(Heartbeat(key="market.event", event_time_ns=self.now_ns, available_at_ns=self.now_ns))

    def mark(self, key: str, mid: int | None, *, on_grid: bool = True) -> Sequence[Event]:
        """Give a mark at the present time."""
        edge = ONE // 100
        return self.give(
            MarketMark(
                key=key,
                event_time_ns=self.now_ns,
                available_at_ns=self.now_ns,
                mid=mid,
                bid_price=None if mid is None else mid - edge,
                ask_price=None if mid is None else mid + edge,
                bid_quantity=ONE,
                ask_quantity=ONE,
                volume=0,
                newest_time_ns=self.now_ns,
                quality=MarkQuality.GOOD,
                on_grid=on_grid,
                grid_time_ns=self.now_ns,
            )
        )

    def approve(self, order_id: str, **changes: Any) -> Sequence[Event]:
        """Give an approval: buy 1 at 100 IOC on the perpetual for alpha, unless told otherwise."""
        self.mark(changes.get("instrument", PERP), changes.get("decision_mid", 100 * ONE), on_grid=False)
        return self.give(self.approval(order_id, **changes))

    def approval(self, order_id: str, **changes: Any) -> OrderApproved:
        """Return the approval that ``approve`` gives."""
        fields: dict[str, Any] = {
            "key": "main",
            "event_time_ns": self.now_ns,
            "available_at_ns": self.now_ns,
            "order_id": order_id,
            "decision_id": f"decision-{order_id}",
            "account": "main",
            "strategy": "alpha",
            "instrument": PERP,
            "side": Side.BUY,
            "quantity": ONE,
            "order_type": OrderType.LIMIT,
            "limit_price": 100 * ONE,
            "time_in_force": TimeInForce.IOC,
            "reduce_only": False,
            "cancels": (),
            "decision_mid": 100 * ONE,
            "limits_version": "test",
            "checks": (),
            "expires_at_ns": self.now_ns + 2 * NS_PER_S,
            "decided_at_ns": self.now_ns,
        }
        return OrderApproved(**fields | changes)

    def report(self, order_id: str, kind: ReportKind, **changes: Any) -> Sequence[Event]:
        """Give a venue's report."""
        fields: dict[str, Any] = {
            "key": "main",
            "event_time_ns": self.now_ns,
            "available_at_ns": self.now_ns,
            "order_id": order_id,
            "instrument": PERP,
            "kind": kind,
        }
        return self.give(VenueReport(**fields | changes))

    def trade(
        self, order_id: str, fill_id: str, quantity: int, price: int = 100 * ONE, **changes: Any
    ) -> Sequence[Event]:
        """Give a fill with a fee of 0.04 USD."""
        fields: dict[str, Any] = {
            "fill_id": fill_id,
            "last_price": price,
            "last_quantity": quantity,
            "fee": Decimal("0.04"),
            "fee_currency": "USD",
        }
        return self.report(order_id, ReportKind.TRADE, **fields | changes)

    def claim(self, epoch: int) -> Sequence[Event]:
        """Say that the shard was claimed."""
        return self.give(Claimed(key="execution", event_time_ns=self.now_ns, available_at_ns=self.now_ns, epoch=epoch))

    def order(self, order_id: str) -> OrderState:
        """Return an order's state."""
        found: OrderState = self.state[f"order/{order_id}"]
        return found

    @property
    def account(self) -> AccountState:
        """Return the account's books."""
        found: AccountState = self.state["account/main"]
        return found

    def order_events(self, order_id: str) -> list[OrderEvent]:
        """Return all that was said of an order."""
        return [event for event in self.events if isinstance(event, OrderEvent) and event.order_id == order_id]
