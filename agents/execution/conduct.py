"""Execution's own eye on how strategies behave: what it has just said of orders and accounts may stop one.

Risk does the same from what it hears. Here it holds though risk be wrong: whoever is stopped sends nothing more until a
person sets the strategy's level anew.
"""

from agents.execution.moves import cancel
from agents.execution.turn import Turn
from agents.limits.conduct import stopped_by
from schemas.control import ControlCommand, ScopeKind
from schemas.decisions import DenyReason
from schemas.orders import AccountMark, ExecType, OrderEvent
from schemas.values import Level


def watch(turn: Turn) -> None:
    """Count what this turn has said, and stop every strategy that is beyond its limits by it."""
    for event in tuple(turn.outputs):
        if not isinstance(event, OrderEvent | AccountMark):
            continue
        account = turn.account(event.account)
        limits = turn.limits(event.account)
        if isinstance(event, AccountMark):
            account.conduct.take_account_mark(event)
        else:
            if event.exec_type in (ExecType.PENDING_NEW, ExecType.PENDING_REPLACE):
                account.conduct.count_sent(event.strategy, turn.at_ns, limits)
            account.conduct.take_order_event(event)
        turn.save_account(event.account, account)
        found = stopped_by(account.conduct, event, limits)
        if found is not None:
            _stop(turn, *found)


def forgive(turn: Turn, command: ControlCommand) -> None:
    """Begin anew with a strategy that a person has set free."""
    if command.scope is not ScopeKind.STRATEGY or command.level is Level.HALTED:
        return
    for name in turn.config.accounts:
        if f"account/{name}" in turn.state:
            account = turn.account(name)
            account.conduct.forgive(command.target)
            turn.save_account(name, account)


def _stop(turn: Turn, strategy: str, reason: DenyReason) -> None:
    scope = f"{ScopeKind.STRATEGY}|{strategy}"
    if turn.desk.levels.get(scope) is Level.HALTED:
        return
    turn.desk.levels[scope] = Level.HALTED
    turn.desk.causes[scope] = f"execution: {reason}"
    turn.desk.latched_ns[scope] = turn.at_ns
    turn.touch_desk()
    for name in sorted(turn.config.accounts):
        if f"account/{name}" not in turn.state:
            continue
        for order_id in list(turn.account(name).open_orders):
            order = turn.order(order_id)
            if order is not None and order.strategy == strategy:
                cancel(turn, order)
