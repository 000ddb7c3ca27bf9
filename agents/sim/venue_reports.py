"""How the simulated venue words what it has to say."""

from decimal import Decimal

from agents.sim.engine import VenueOrder
from schemas.event import stamp_identity
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, ReportKind, VenueFill, VenueReport


def order_report(order: VenueOrder, kind: ReportKind, time_ns: int, reason: str | None = None) -> VenueReport:
    """Return a report on an order as it stands."""
    return VenueReport(
        key=order.account,
        event_time_ns=time_ns,
        available_at_ns=time_ns,
        order_id=order.order_id,
        instrument=order.instrument,
        kind=kind,
        venue_order_id=order.venue_order_id,
        status=order.status,
        filled_quantity=order.filled_quantity,
        reason=reason,
        triggered=order.triggered,
        quantity=order.quantity,
        limit_price=order.limit_price,
    )


def amend_report(
    order: VenueOrder | None, request: AmendRequested, time_ns: int, refused: str | None = None
) -> VenueReport:
    """Return what became of a change, with the terms that the order has now."""
    return VenueReport(
        key=request.key,
        event_time_ns=time_ns,
        available_at_ns=time_ns,
        order_id=request.order_id,
        instrument=request.instrument,
        kind=ReportKind.REPLACED if refused is None else ReportKind.REPLACE_REJECTED,
        venue_order_id=None if order is None else order.venue_order_id,
        reason=refused,
        amend_id=request.amend_id,
        status=None if order is None else order.status,
        filled_quantity=None if order is None else order.filled_quantity,
        quantity=None if order is None else order.quantity,
        limit_price=None if order is None else order.limit_price,
    )


def bust_report(order: VenueOrder, fill: VenueFill, time_ns: int) -> VenueReport:
    """Return the word that an execution was taken back."""
    return VenueReport(
        key=order.account,
        event_time_ns=time_ns,
        available_at_ns=time_ns,
        order_id=order.order_id,
        instrument=order.instrument,
        kind=ReportKind.TRADE_CANCEL,
        venue_order_id=order.venue_order_id,
        status=order.status,
        filled_quantity=order.filled_quantity,
        refers_to=fill.fill_id,
    )


def trade_report(order: VenueOrder, fill: VenueFill) -> VenueReport:
    """Return the report of one execution."""
    return VenueReport(
        key=order.account,
        event_time_ns=fill.event_time_ns,
        available_at_ns=fill.event_time_ns,
        order_id=order.order_id,
        instrument=order.instrument,
        kind=ReportKind.TRADE,
        venue_order_id=order.venue_order_id,
        status=order.status,
        filled_quantity=order.filled_quantity,
        fill_id=fill.fill_id,
        last_price=fill.price,
        last_quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        liquidity=fill.liquidity,
    )


def funding_report(account: str, instrument: str, total: Decimal, time_ns: int) -> VenueReport:
    """Return what an account has paid in funding on an instrument by now, in all."""
    return VenueReport(
        key=account,
        event_time_ns=time_ns,
        available_at_ns=time_ns,
        order_id="",
        instrument=instrument,
        kind=ReportKind.FUNDING,
        funding_total=total,
    )


def answer(request: QueryRequested, order: VenueOrder | None, name: str, now_ns: int) -> VenueReport:
    """Return the answer to a question: STATUS with every fill, or NOT_FOUND. It has its identity already."""
    report = VenueReport(
        key=request.key if order is None else order.account,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        order_id=request.order_id,
        instrument=request.instrument,
        kind=ReportKind.NOT_FOUND if order is None else ReportKind.STATUS,
        venue_order_id=None if order is None else order.venue_order_id,
        status=None if order is None else order.status,
        filled_quantity=None if order is None else order.filled_quantity,
        reason=None if order is None else order.reason,
        triggered=order is not None and order.triggered,
        fills=() if order is None else tuple(order.fills),
        quantity=None if order is None else order.quantity,
        limit_price=None if order is None else order.limit_price,
    )
    stamp_identity(report, request.event_id, f"{name}/status/{now_ns}", request.attempt)
    return report


def cancel_refusal(
    request: CancelRequested, order: VenueOrder | None, time_ns: int, *, fenced: bool = False
) -> VenueReport:
    """Return why there is nothing to cancel, or nothing that this client may cancel any more (``fenced``)."""
    too_late = "unknown order" if order is None else f"too late: {order.status}"
    return VenueReport(
        key=request.key,
        event_time_ns=time_ns,
        available_at_ns=time_ns,
        order_id=request.order_id,
        instrument=request.instrument,
        kind=ReportKind.CANCEL_REJECTED,
        venue_order_id=None if order is None else order.venue_order_id,
        reason="fenced: somebody else holds the shard" if fenced else too_late,
    )


def number_report(report: VenueReport, name: str, sequence: int) -> None:
    """Give a report the identity that its place in the venue's stream of reports means, however often it is sent."""
    stamp_identity(report, f"{name}/{sequence}", "report", 0)
