"""What the hard limits look at, made from execution's own books: a second opinion, not a copy of risk's."""

from typing import Final

from agents.execution.orders import OrderState
from agents.execution.positions import average_price
from agents.execution.state import AccountState, ExecutionConfig, InstrumentState
from agents.execution.turn import Turn
from agents.limits.exposure import AccountExposure, ExposureLine, ExposureView, LineKey
from agents.limits.working import WorkingOrder, may_rest
from agents.stage import ShardState
from schemas.control import ScopeKind
from schemas.decisions import OrderApproved
from schemas.orders import OrderStatus
from schemas.values import Level

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
        working[order_id] = working_order(order)
        line_key = (order.strategy, order.instrument)
        line = lines.get(line_key) or ExposureLine(strategy=order.strategy, instrument=order.instrument)
        lines[line_key] = line.after(order.side, order.exposed_quantity)
    level, source = _level(turn, approval)
    known = _known_instruments(turn)
    return ExposureView(
        instruments=turn.config.instruments,
        marks={name: item.mark for name, item in known.items() if item.mark is not None},
        lines=lines,
        working=working,
        equity=account.equity,
        equity_peak=account.equity_peak,
        day_pnl=account.equity - account.day_start_equity,
        messages_ns=account.messages_ns,
        contents_ns=account.contents_ns,
        level=level,
        level_source=source,
        conduct=account.conduct,
        ranges={name: item.mids for name, item in known.items()},
        clock_ns=turn.desk.clock_ns,
        orders_of_day=account.orders_of_day,
        override_until=turn.book().under_override,
    )


def _known_instruments(turn: Turn) -> dict[str, InstrumentState]:
    found: dict[str, InstrumentState] = {}
    for name in turn.config.instruments:
        known = turn.state.get(f"instrument/{name}")
        if known is not None:
            found[name] = known
    return found


def exposures(config: ExecutionConfig, state: ShardState) -> dict[str, AccountExposure]:
    """Return the exposure of every account, from its books; of one without books, that of its capital."""
    found: dict[str, AccountExposure] = {}
    for name, terms in config.accounts.items():
        account: AccountState | None = state.get(f"account/{name}")
        exposure = found[name] = AccountExposure.opened_with(terms.capital)
        if account is None:
            continue
        exposure.equity, exposure.equity_peak = account.equity, account.equity_peak
        exposure.day_pnl = account.equity - account.day_start_equity
        for key, position in account.positions.items():
            strategy, _, instrument = key.partition("|")
            exposure.positions.setdefault(strategy, {})[instrument] = position.quantity
            price = average_price(position, config.instruments[instrument].multiplier)
            if price is not None:
                exposure.entry_prices.setdefault(strategy, {})[instrument] = price
        exposure.working = {name: working_order(state[f"order/{name}"]) for name in account.open_orders}
    return found


def holdings(config: ExecutionConfig, state: ShardState) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return (account, strategy, instrument) -> (signed quantity, average price) of every open position."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for name in config.accounts:
        account: AccountState | None = state.get(f"account/{name}")
        for key, position in account.positions.items() if account is not None else ():
            strategy, _, instrument = key.partition("|")
            price = average_price(position, config.instruments[instrument].multiplier)
            if price is not None:
                found[name, strategy, instrument] = (position.quantity, price)
    return found


def working_order(order: OrderState) -> WorkingOrder:
    """Return an open order as the limits see it."""
    return WorkingOrder(
        order_id=order.order_id,
        strategy=order.strategy,
        instrument=order.instrument,
        side=order.side,
        leaves=order.exposed_quantity,
        limit_price=order.exposed_price,
        rests=may_rest(order.order_type, order.time_in_force),
        unknown=order.status is OrderStatus.UNKNOWN,
        seen=True,
        cancelling=order.status is OrderStatus.PENDING_CANCEL,
        stop_price=None if order.triggered or order.filled_quantity else order.stop_price,
        leg=order.leg,
        parent_order_id=order.parent_order_id,
        filled=order.filled_quantity,
        amend_id=None if order.amend is None else order.amend.amend_id,
        amend_quantity=0 if order.amend is None else order.amend.quantity,
        amend_price=None if order.amend is None else order.amend.limit_price,
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
