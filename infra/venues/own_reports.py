"""What a venue's client tells of a request from its own knowledge: that it was not sent, or that nobody answered.

The identity of such a report is a function of the request, since each request is sent once.
"""

from schemas.event import stamp_identity
from schemas.orders import AmendRequested, CancelRequested, ReportKind, SubmitRequested, VenueReport

VenueRequest = SubmitRequested | CancelRequested | AmendRequested


def own_report(request: VenueRequest, kind: ReportKind, now_ns: int, reason: str) -> VenueReport:
    """Return the report, made now."""
    report = VenueReport(
        key=request.key,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        order_id=request.order_id,
        instrument=request.instrument,
        kind=kind,
        reason=reason,
        amend_id=request.amend_id if isinstance(request, AmendRequested) else None,
    )
    stamp_own(report, request, kind)
    return report


def stamp_own(report: VenueReport, request: VenueRequest, kind: ReportKind) -> None:
    """Give a report its identity."""
    stamp_identity(report, request.event_id, f"venue-client/{kind}", 0)
