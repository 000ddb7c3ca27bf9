"""The last step before the venue: an approved order becomes an intent, or is denied once and for all."""

from agents.execution.amending import amend_order, expect_terms
from agents.execution.control import cancel_scope, level_key, refuse_loosening, set_level
from agents.execution.exposure import view_for
from agents.execution.moves import cancel, finish
from agents.execution.orders import OrderState
from agents.execution.reconciliation import withheld
from agents.execution.turn import Turn
from agents.limits.changes import loosens_level
from agents.limits.checks import check_order, failed
from agents.limits.exposure import content_key
from schemas.client_ids import client_order_id
from schemas.control import ControlAction, ControlCommand
from schemas.decisions import DenyReason, OrderApproved
from schemas.orders import ExecType, OrderStatus, SubmitRequested
from schemas.values import Level


def take_approval(turn: Turn, approval: OrderApproved) -> None:
    """Cancel what is to be cancelled, then send the order or deny it. An order seen before is ignored."""
    if turn.order(approval.order_id) is not None:
        return
    for order_id in approval.cancels:
        order = turn.order(order_id)
        if order is not None:
            cancel(turn, order)
    if approval.quantity == 0:
        return
    amended = turn.order(approval.amends) if approval.amends is not None else None
    if amended is not None:
        amend_order(turn, amended, approval, _refusals(turn, approval))
        return
    if approval.account not in turn.config.accounts or approval.instrument not in turn.config.instruments:
        raise AssertionError(f"approval of {approval.order_id} names an account or instrument that is not configured")
    order = _intent(turn, approval)
    reasons = _refusals(turn, approval)
    if reasons:
        order.status = OrderStatus.DENIED
        finish(turn, order)
        turn.save_order(order)
        turn.say_order(order, ExecType.DENIED, ",".join(reasons), denied=reasons)
        return
    order.client_order_id = client_order_id(order.order_id, turn.desk.epoch)
    account = turn.account(approval.account)
    account.open_orders.append(order.order_id)
    turn.count_message(approval.account)
    account.contents_ns[content_key(approval)] = approval.available_at_ns
    account.orders_of_day.add(approval.strategy, turn.at_ns)
    turn.save_order(order)
    turn.say_order(order, ExecType.PENDING_NEW, None)
    turn.outputs.append(_request(turn, approval, order))


def _request(turn: Turn, approval: OrderApproved, order: OrderState) -> SubmitRequested:
    return SubmitRequested(
        key=order.account,
        event_time_ns=approval.event_time_ns,
        available_at_ns=turn.at_ns,
        order_id=order.order_id,
        instrument=order.instrument,
        side=order.side,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        limit_price=order.limit_price,
        quantity=order.quantity,
        not_after_ns=order.not_after_ns,
        stop_price=order.stop_price,
        client_order_id=order.client_order_id,
        strategy=order.strategy,
        commands_through=turn.desk.commands_through,
        reduce_only=approval.reduce_only,
    )


def adopt_approval(turn: Turn, approval: OrderApproved) -> bool:
    """Take up an order of which only the approval is known: the venue may have it, and will be asked. False if known.

    It is for a database that was set back: the order was sent, or not, by a life of this stage that nobody remembers.
    """
    if approval.amends is not None:
        expect_terms(turn, approval)
        return False
    if approval.quantity == 0 or turn.order(approval.order_id) is not None:
        return False
    order = _intent(turn, approval)
    order.status = OrderStatus.UNKNOWN
    turn.account(approval.account).open_orders.append(order.order_id)
    turn.save_account(approval.account, turn.account(approval.account))
    turn.save_order(order)
    return True


def _intent(turn: Turn, approval: OrderApproved) -> OrderState:
    return OrderState(
        order_id=approval.order_id,
        decision_id=approval.decision_id,
        account=approval.account,
        strategy=approval.strategy,
        instrument=approval.instrument,
        side=approval.side,
        order_type=approval.order_type,
        time_in_force=approval.time_in_force,
        limit_price=approval.limit_price,
        quantity=approval.quantity,
        decision_mid=approval.decision_mid,
        decided_at_ns=approval.decided_at_ns,
        created_at_ns=turn.at_ns,
        not_after_ns=min(approval.expires_at_ns, turn.at_ns + turn.config.submit_limit_ns),
        timer_ns=turn.at_ns + turn.config.ack_timeout_ns,
        stop_price=approval.stop_price,
        parent_order_id=approval.parent_order_id,
        leg=approval.leg,
    )


def _refusals(turn: Turn, approval: OrderApproved) -> tuple[DenyReason, ...]:
    """Return every reason why the order must not leave: the same limits that risk checked, on our own state."""
    view = view_for(turn, approval)
    reasons = failed(check_order(approval, view, turn.limits(approval.account), turn.at_ns))
    if withheld(turn, approval, view):
        reasons = (DenyReason.RECONCILING, *reasons)
    terms = turn.config.strategies.get(approval.strategy)
    known = terms is not None and terms.account == approval.account and approval.instrument in terms.instruments
    if not known and DenyReason.NOT_PERMITTED not in reasons:
        reasons = (DenyReason.NOT_PERMITTED, *reasons)
    return reasons


def take_command(turn: Turn, command: ControlCommand) -> None:
    """Carry out what a person ordered of the orders themselves.

    CANCEL cancels; SET_LEVEL is remembered, and HALTED cancels what works in its scope. FLATTEN cancels what was there
    when it was ordered; closing needs sizes and is risk's. Commands come here from the rows alone, in their order;
    whoever starts reads all of them again, and what was carried out is not carried out again. A level that allows more
    is not one person's to set.
    """
    if command.change or command.action is ControlAction.SET_LIMITS:
        return  # It is decided where its signatures were seen, when it comes from the rows (``take_examined``).
    if command.ordinal:
        if command.ordinal <= turn.desk.commands_through:
            return
        turn.desk.commands_through = command.ordinal
        turn.touch_desk()
    if command.action is ControlAction.SET_LEVEL and command.level is not None:
        if loosens_level(turn.desk.levels.get(level_key(command), Level.ACTIVE), command.level):
            refuse_loosening(turn, command)
        else:
            set_level(turn, command, command.level)
    elif command.action is ControlAction.FLATTEN:
        # Risk may have heard of it first: the orders that close are younger than the command, and stay.
        cancel_scope(turn, command, until_ns=command.event_time_ns)
    elif command.action is ControlAction.CANCEL:
        order = turn.order(command.target)
        if order is not None:
            cancel(turn, order)
        else:
            cancel_scope(turn, command)
