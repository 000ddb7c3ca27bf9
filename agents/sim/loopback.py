"""The simulated venue in the same process: what a backtest, a training run and a simulation test trade against.

The caller gives every market event to ``on_market`` and every *now* to ``advance``, feeds the reports it gets back
to execution, and hands execution's requests to ``perform``. Nothing here knows a clock or a thread.
"""

from collections.abc import Sequence

from agents.sim.venue import SimulatedVenue
from agents.sim.venue_books import books_of
from schemas.event import Event
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks


class Loopback:
    """A venue port that answers in simulated time."""

    def __init__(self, venue: SimulatedVenue, epoch: int = 1) -> None:
        self.venue = venue
        self._epoch = epoch

    def perform(self, request: Event) -> Sequence[VenueReport | VenueBooks]:
        """Carry out a request made at its ``available_at_ns``; only a question is answered at once."""
        now_ns = request.available_at_ns
        if isinstance(request, SubmitRequested):
            self.venue.submit(request, now_ns, self._epoch)
            return ()
        if isinstance(request, CancelRequested):
            self.venue.cancel(request, now_ns, self._epoch)
            return ()
        if isinstance(request, AmendRequested):
            self.venue.amend(request, now_ns, self._epoch)
            return ()
        if isinstance(request, BooksRequested):
            return (books_of(self.venue.state, request, now_ns),)
        assert isinstance(request, QueryRequested), f"no venue performs {type(request).__name__}"
        return (self.venue.query(request, now_ns),)

    def on_market(self, event: Event) -> None:
        """Show the venue a market event, before any stage sees it."""
        self.venue.on_market(event)

    def advance(self, now_ns: int) -> Sequence[VenueReport]:
        """Return the reports that have come back by ``now_ns``, in order; each has its time and its identity."""
        return self.venue.advance(now_ns)
