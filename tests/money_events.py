"""Events of the money plane for tests: one instrument each of the two kinds, and a builder for each event."""

from decimal import Decimal
from typing import Any

from agents.limits.limit_set import LimitSet
from schemas.changes import ControlOutcome, OutcomeKind
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.decisions import Decision, DecisionOutcome, OrderApproved
from schemas.market import InstrumentDefined, Session
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark, MarkQuality, TallyEntry, VoteTally
from schemas.orders import AccountMark, ExecType, Fill, OrderEvent, OrderStatus
from schemas.values import NS_PER_MS, NS_PER_S, ZERO, Level, Liquidity, OrderType, Side, TimeInForce, notional

ONE = 100_000_000
T0 = 1_700_000_000 * NS_PER_S
PERP = "SIM:BTCUSD"
SPOT = "SIM:ETHUSD"


def built(record: Any, fields: dict[str, Any], changes: dict[str, Any]) -> Any:
    """Return an event at T0 with ``changes`` applied."""
    times = {"event_time_ns": T0, "available_at_ns": T0}
    return record(**times | fields | changes)


def instrument(key: str = PERP, **changes: Any) -> InstrumentDefined:
    """Return a perpetual that can be sold short (PERP) or a spot pair that cannot."""
    fields = {
        "key": key,
        "venue": "SIM",
        "symbol": key[4:],
        "tick_size": ONE // 100,
        "lot_size": ONE // 1000,
        "quantity_min": ONE // 1000,
        "quantity_max": 1_000 * ONE,
        "notional_min": Decimal(5),
        "multiplier": Decimal(1),
        "inverse": False,
        "base_currency": key[4:7],
        "quote_currency": "USD",
        "maker_fee_rate": Decimal("0.0001"),
        "taker_fee_rate": Decimal("0.0004"),
        "funding_rate": ZERO,
        "funding_interval_ns": 0,
        "shortable": key == PERP,
        "session": Session.CONTINUOUS,
        "grid_ns": NS_PER_S,
        "horizons_ns": (NS_PER_S, 10 * NS_PER_S),
    }
    return built(InstrumentDefined, fields, changes)


INSTRUMENTS = {PERP: instrument(PERP), SPOT: instrument(SPOT)}


def limits(**changes: Any) -> LimitSet:
    """Return limits that an order of 1 at 100 passes with room."""
    fields: dict[str, Any] = {
        "currency": "USD",
        "capital": 10_000,
        "price_collar": "0.01",
        "order_value_max": 1_000,
        "position_value_max": 2_000,
        "gross_exposure_max": 3_000,
        "net_exposure_max": 2_500,
        "leverage_max": 2,
        "messages_max": 100,
        "daily_loss_max": 500,
        "drawdown_max": "0.1",
        "permissions": {"alpha": ["*"], "beta": [PERP]},
    }
    return LimitSet.from_mapping(fields | changes)


def mark(key: str = PERP, at_ns: int = T0, mid: int | None = 100 * ONE, **changes: Any) -> MarketMark:
    """Return a good grid mark with a spread of two ticks."""
    fields = {
        "key": key,
        "event_time_ns": at_ns,
        "available_at_ns": at_ns,
        "mid": mid,
        "bid_price": None if mid is None else mid - ONE // 100,
        "ask_price": None if mid is None else mid + ONE // 100,
        "bid_quantity": ONE,
        "ask_quantity": ONE,
        "volume": 0,
        "newest_time_ns": at_ns,
        "quality": MarkQuality.GOOD,
        "on_grid": True,
        "grid_time_ns": at_ns,
        "event_id": f"mark-{key}-{at_ns}",
    }
    return built(MarketMark, fields, changes)


def approved(order_id: str = "o1", **changes: Any) -> OrderApproved:
    """Return an approval to buy 1 at 100, IOC."""
    fields = {
        "key": "main",
        "order_id": order_id,
        "decision_id": f"d-{order_id}",
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
        "limits_version": "v",
        "checks": (),
        "expires_at_ns": T0 + NS_PER_S,
        "decided_at_ns": T0,
    }
    return built(OrderApproved, fields, changes)


def decision(target: float, number: int = 1, at_ns: int = T0, **changes: Any) -> Decision:
    """Return a TARGET decision of alpha on the perpetual."""
    fields = {
        "key": "main",
        "event_time_ns": at_ns,
        "available_at_ns": at_ns,
        "event_id": f"decision-{number}",
        "decision_id": f"decision-{number}",
        "account": "main",
        "strategy": "alpha",
        "instrument": PERP,
        "ballot_id": f"ballot-{number}",
        "tally_id": f"tally-{number}",
        "outcome": DecisionOutcome.TARGET,
        "reason": None,
        "target": target,
        "previous_target": 0.0,
        "mid": 100 * ONE,
        "horizon_ns": NS_PER_S,
        "policy": "baseline",
        "policy_stage": "CHAMPION",
        "edge": None,
        "cost": None,
        "observation": {},
        "expires_at_ns": at_ns + 2 * NS_PER_S,
    }
    return built(Decision, fields, changes)


def order_event(order: OrderApproved, status: OrderStatus, **changes: Any) -> OrderEvent:
    """Return what execution says of an approved order."""
    filled = changes.get("filled_quantity", order.quantity if status is OrderStatus.FILLED else 0)
    final = status not in (
        OrderStatus.PENDING_NEW,
        OrderStatus.NEW,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.PENDING_CANCEL,
        OrderStatus.PENDING_REPLACE,
        OrderStatus.UNKNOWN,
    )
    fields = {
        "key": order.account,
        "order_id": order.order_id,
        "venue_order_id": None,
        "decision_id": order.decision_id,
        "account": order.account,
        "strategy": order.strategy,
        "instrument": order.instrument,
        "side": order.side,
        "order_type": order.order_type,
        "time_in_force": order.time_in_force,
        "limit_price": order.limit_price,
        "quantity": order.quantity,
        "filled_quantity": filled,
        "leaves_quantity": 0 if final else order.quantity - filled,
        "average_price": None,
        "status": status,
        "exec_type": ExecType.STATUS,
        "final": final,
        "reason": None,
        "deny_reasons": (),
        "position_after": order.side.sign * filled,
        "working_after": 0 if final else order.side.sign * (order.quantity - filled),
        "decided_at_ns": order.decided_at_ns,
    }
    return built(OrderEvent, fields, changes)


def account_mark(at_ns: int = T0, **changes: Any) -> AccountMark:
    """Return a valuation of alpha on the perpetual in an account that has lost nothing."""
    fields = {
        "key": "main",
        "event_time_ns": at_ns,
        "available_at_ns": at_ns,
        "event_id": f"account-mark-{at_ns}",
        "account": "main",
        "strategy": "alpha",
        "instrument": PERP,
        "mark_id": f"mark-{PERP}-{at_ns}",
        "grid_time_ns": at_ns,
        "mid": 100 * ONE,
        "position": 0,
        "working": 0,
        "unrealised_pnl": ZERO,
        "realised_pnl": ZERO,
        "fees": ZERO,
        "funding": ZERO,
        "equity": Decimal(10_000),
        "equity_peak": Decimal(10_000),
        "day_pnl": ZERO,
        "currency": "USD",
    }
    return built(AccountMark, fields, changes)


def fill(number: int, side: Side, quantity: int, price: int, **changes: Any) -> Fill:
    """Return a fill of alpha on the perpetual, with a fee of 0.03 and a decision mid of 100."""
    fields = {
        "key": "main",
        "event_id": f"fill-event-{number}",
        "fill_id": f"fill-{number}",
        "order_id": f"order-{number}",
        "venue_order_id": f"venue-{number}",
        "decision_id": f"decision-{number}",
        "account": "main",
        "strategy": "alpha",
        "instrument": PERP,
        "side": side,
        "price": price,
        "quantity": quantity,
        "fee": Decimal("0.03"),
        "fee_currency": "USD",
        "liquidity": Liquidity.TAKER,
        "slippage": notional(price - 100 * ONE, side.sign * quantity),
        "realised_pnl": ZERO,
        "position_after": 0,
        "postings": (),
    }
    return built(Fill, fields, changes)


def entry(expert: str, up: float | None, down: float | None) -> TallyEntry:
    """Return one expert's line of a tally; None abstains."""
    flat = None if up is None or down is None else 1 - up - down
    return TallyEntry(
        expert=expert, weight=0.5, skill=None, p_down=down, p_flat=flat, p_up=up, abstained=None, evidence={}
    )


def tally(number: int, at_ns: int = T0, up: float | None = 0.5, down: float | None = 0.2, **changes: Any) -> VoteTally:
    """Return a tally of the 1 s ballot opened at ``at_ns`` and closed 20 ms later."""
    fields = {
        "key": PERP,
        "event_time_ns": at_ns,
        "available_at_ns": at_ns + 20 * NS_PER_MS,
        "event_id": f"tally-{number}",
        "ballot_id": f"ballot-{number}",
        "snapshot_id": f"snapshot-{number}",
        "horizon_ns": NS_PER_S,
        "flat_band": ONE // 50,
        "grid_time_ns": at_ns,
        "mid": 100 * ONE,
        "p_down": down,
        "p_flat": None if up is None or down is None else 1 - up - down,
        "p_up": up,
        "disagreement": 0.01,
        "volatility": 0.0002,
        "spread": ONE // 50,
        "closed_by": "ALL",
        "late": (),
        "entries": (entry("momentum", up, down),),
        "context": {},
    }
    return built(VoteTally, fields, changes)


def alert(level: AlertLevel, key: str = PERP) -> AnomalyAlert:
    """Return a change of alert level."""
    return built(AnomalyAlert, {"key": key, "level": level, "kind": "jump", "score": 1.0}, {})


def command(action: ControlAction, **changes: Any) -> ControlCommand:
    """Return a global command of ann's."""
    fields = {
        "key": "c1",
        "event_id": "command-1",
        "command_id": "c1",
        "author": "ann",
        "reason": "test",
        "action": action,
        "scope": ScopeKind.GLOBAL,
        "target": "*",
    }
    return built(ControlCommand, fields, changes)


def reset(level: Level = Level.ACTIVE, scope: ScopeKind = ScopeKind.GLOBAL, target: str = "*") -> ControlOutcome:
    """Return execution's word that two people have set a level; they had seen whatever was latched."""
    fields = {
        "key": target,
        "event_id": f"reset-{scope}-{target}-{level}",
        "outcome": OutcomeKind.APPLIED,
        "command_id": "c2",
        "change_id": "change-1",
        "author": "ann",
        "reason": "looked at",
        "approved_by": ("ann", "bob"),
        "action": ControlAction.SET_LEVEL,
        "scope": scope,
        "target": target,
        "level": level,
        "proposed_at_ns": T0 + 3_600 * NS_PER_S,
    }
    return built(ControlOutcome, fields, {})
