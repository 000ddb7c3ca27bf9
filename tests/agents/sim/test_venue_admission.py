"""Whose requests the simulated venue takes, and until when: by the time they carry, and by the claim they come from."""

from typing import Any

import pytest
from venue_trading import simulated

from agents.sim.instruments import BTCUSD
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import VenueTerms
from schemas.orders import CancelRequested, OrderStatus, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.values import NS_PER_MS, NS_PER_S, OrderType, Side, TimeInForce, units

LATER_NS = 50 * NS_PER_MS
"""Longer than anything travels."""


class Venue:
    """A venue with a market, and one line for each request."""

    def __init__(self, **terms: Any) -> None:
        trading = simulated(2, ())
        trading.pass_time(100)
        instruments = trading.desk.config.instruments
        self.venue = SimulatedVenue(VenueTerms(instruments=instruments, name="SIM", **terms), trading.engine)
        self.now_ns = trading.desk.now_ns

    def send(self, order_id: str, epoch: int, sent_ns: int | None = None, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "key": "main",
            "event_time_ns": self.now_ns,
            "available_at_ns": self.now_ns,
            "order_id": order_id,
            "client_order_id": f"{order_id}-{epoch}",
            "instrument": BTCUSD.key,
            "side": Side.BUY,
            "order_type": OrderType.LIMIT,
            "time_in_force": TimeInForce.GTC,
            "limit_price": units("50000"),
            "quantity": units("0.01"),
            "not_after_ns": self.now_ns + 1,
        }
        window_ns = changes.pop("window_ns", None)
        request = SubmitRequested(**fields | changes)
        action = self.venue.submit(request, self.now_ns, epoch, self.now_ns if sent_ns is None else sent_ns)
        action.window_ns = window_ns

    def hear(self) -> list[VenueReport]:
        self.now_ns += LATER_NS
        return self.venue.advance(self.now_ns)

    def ask(self, order_id: str, client_order_id: str, epoch: int = 0) -> VenueReport:
        names: dict[str, Any] = {
            "order_id": order_id,
            "client_order_id": client_order_id,
            "instrument": BTCUSD.key,
        }
        times = {"event_time_ns": self.now_ns, "available_at_ns": self.now_ns}
        return self.venue.query(QueryRequested(key="main", attempt=1, epoch=epoch, **names, **times), self.now_ns)

    def cancel(self, order_id: str, epoch: int) -> None:
        names: dict[str, Any] = {
            "order_id": order_id,
            "client_order_id": f"{order_id}-1",
            "instrument": BTCUSD.key,
        }
        times = {"event_time_ns": self.now_ns, "available_at_ns": self.now_ns}
        self.venue.cancel(CancelRequested(key="main", **names, **times), self.now_ns, epoch)


@pytest.mark.parametrize(
    ("sent_ms_ago", "window_ms", "refusal"),
    [
        (0, None, None),
        (1_900, None, None),
        (2_000, None, "outside the receive window"),
        (900, 1_000, None),
        (1_000, 1_000, "outside the receive window"),
        (2_000, 60_000, "outside the receive window"),
        (-900, None, None),
        (-1_100, None, "from the future"),
    ],
)
def test_what_was_sent_too_long_ago_or_is_yet_to_be_sent_is_refused(
    sent_ms_ago: int, window_ms: int | None, refusal: str | None
) -> None:
    venue = Venue()
    window_ns = None if window_ms is None else window_ms * NS_PER_MS
    venue.send("o1", 1, venue.now_ns - sent_ms_ago * NS_PER_MS, window_ns=window_ns)
    (report,) = venue.hear()
    assert (report.reason, report.kind) == (
        refusal,
        ReportKind.ACCEPTED if refusal is None else ReportKind.REJECTED,
    )


def test_whoever_asks_fences_off_the_former_holder() -> None:
    venue = Venue()
    assert venue.ask("o1", "o1-1", epoch=2).kind is ReportKind.NOT_FOUND
    venue.send("o1", 1)
    (report,) = venue.hear()
    assert (report.status, report.reason) == (OrderStatus.REJECTED, "fenced: epoch 1 is below 2")


def test_a_venue_that_knows_no_epochs_has_its_window_alone() -> None:
    venue = Venue(fences_epochs=False)
    venue.ask("o1", "o1-1", epoch=2)
    venue.send("o1", 1)
    venue.send("o2", 1, venue.now_ns - 3 * NS_PER_S)
    told = {report.order_id: report.kind for report in venue.hear()}
    assert told == {"o1": ReportKind.ACCEPTED, "o2": ReportKind.REJECTED}


def test_a_former_holder_cancels_nothing() -> None:
    venue = Venue()
    venue.send("o1", 1)
    venue.hear()
    venue.ask("o1", "o1-1", epoch=2)
    venue.cancel("o1", 1)
    (refused,) = venue.hear()
    assert (refused.kind, refused.reason) == (
        ReportKind.CANCEL_REJECTED,
        "fenced: somebody else holds the shard",
    )
    venue.cancel("o1", 2)
    (canceled,) = venue.hear()
    assert canceled.kind is ReportKind.CANCELED


def test_an_order_is_asked_about_by_the_id_that_it_was_sent_with() -> None:
    venue = Venue()
    venue.send("o1", 1)
    venue.hear()
    assert venue.ask("o1", "o1-1").kind is ReportKind.STATUS
    assert venue.ask("o1", "o1-2").kind is ReportKind.NOT_FOUND
    assert venue.ask("o1", "").kind is ReportKind.STATUS, "whoever has forgotten finds it by our id"


def test_a_request_twice_is_one_order_and_counted_and_another_id_is_another_order() -> None:
    venue = Venue()
    for epoch in (1, 1, 2):
        venue.send("o1", epoch)
        venue.hear()
    orders = {order.client_order_id: order.requests for order in venue.venue.state.orders.values()}
    assert orders == {"o1-1": 2, "o1-2": 1}
