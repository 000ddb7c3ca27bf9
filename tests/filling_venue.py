"""A venue for stages in one process: what it says of an order, as the reports that execution reads."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from schemas.event import derive_id
from schemas.orders import ReportKind, SubmitRequested, VenueReport


def reports(request: SubmitRequested, filled: int, fee: str, *, expires: bool = False) -> Iterator[VenueReport]:
    """Yield that an order was accepted, filled so far at its price for this fee, and perhaps that the rest expired."""
    base: dict[str, Any] = {
        "key": "main",
        "event_time_ns": request.available_at_ns,
        "available_at_ns": request.available_at_ns,
        "order_id": request.order_id,
        "instrument": request.instrument,
        "venue_order_id": f"v-{request.order_id}",
    }
    trade = {
        "kind": ReportKind.TRADE,
        "fill_id": f"f-{request.order_id}",
        "last_price": request.limit_price,
        "last_quantity": filled,
        "fee": Decimal(fee),
        "fee_currency": "USD",
    }
    kinds: list[dict[str, Any]] = [{"kind": ReportKind.ACCEPTED}, trade]
    if expires:
        kinds.append({"kind": ReportKind.EXPIRED})
    for number, changes in enumerate(kinds):
        yield VenueReport(**base | changes, event_id=derive_id(request.event_id, "venue", number))
