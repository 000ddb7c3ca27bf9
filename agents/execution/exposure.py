"""What the hard limits look at, made from execution's own books: a second opinion, not a copy of risk's."""

from typing import Final

from agents.execution.orders import OrderState
from agents.execution.turn import Turn
from agents.limits.exposure import ExposureLine, ExposureView, LineKey, WorkingOrder
from schemas.control import ScopeKind
from schemas.decisions import OrderApproved
from schemas.orders import OrderStatus
from schemas.values import Level, TimeInForce

_SEVERITY: Final = {Level.ACTIVE: 0, Level.REDUCING: 1, Level.HALTED: 2}


def view_for(turn: Turn, approval: OrderApproved) -> ExposureView:
    """Return the view that an approved order is judged on; it does not count the order itself."""
    account = turn.account(approval.account)
    working: dict[str, WorkingOrder] = {}
    lines: dict[LineKey, ExposureLine] = {}
    for key, position in account.positions.items():
        strategy, _, instrument = key.partition("|")
        lines[strategy, instrument] = ExposureLine(strategy=strategy, instrument=instrument, position=position.quantity)
    for order_id in account.open_orders:
        order: OrderState = turn.state[f"order/{order_id}"]
        working[order_id] = _working(order)
        line_key = (order.strategy, order.instrument)
        line = lines.get(line_key) or ExposureLine(strategy=order.strategy, instrument=order.instrument)
        lines[line_key] = line.after(order.side, order.leaves_quantity)
    level, source = _level(turn, approval)
    return ExposureView(
        instruments=turn.config.instruments,
        marks={
            name: known.mark
            for name in turn.config.instruments
            if (known := turn.state.get(f"instrument/{name}")) is not None and known.mark is not None
        },
        lines=lines,
        working=working,
        equity=account.equity,
        equity_peak=account.equity_peak,
        day_pnl=account.equity - account.day_start_equity,
        messages_ns=account.messages_ns,
        contents_ns=account.contents_ns,
        level=level,
        level_source=source,
    )


def _working(order: OrderState) -> WorkingOrder:
    return WorkingOrder(
        order_id=order.order_id,
        strategy=order.strategy,
        instrument=order.instrument,
        side=order.side,
        leaves=order.leaves_quantity,
        limit_price=order.limit_price,
        rests=order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY),
        unknown=order.status is OrderStatus.UNKNOWN,
        seen=True,
        cancelling=order.status is OrderStatus.PENDING_CANCEL,
    )


def _level(turn: Turn, approval: OrderApproved) -> tuple[Level, str]:
    """Return the strictest level that people have set for the order's scopes, and where."""
    scopes = (
        f"{ScopeKind.GLOBAL}|*",
        f"{ScopeKind.ACCOUNT}|{approval.account}",
        f"{ScopeKind.STRATEGY}|{approval.strategy}",
        f"{ScopeKind.INSTRUMENT}|{approval.instrument}",
    )
    found, source = Level.ACTIVE, ""
    for scope in scopes:
        level = turn.desk.levels.get(scope, Level.ACTIVE)
        if _SEVERITY[level] > _SEVERITY[found]:
            found, source = level, scope
    return found, source
