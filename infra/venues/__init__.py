"""Where orders go: the port that every venue adapter fits, and that the order manager's shell talks to."""

from collections.abc import AsyncIterator
from typing import Protocol

from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks


class VenuePort(Protocol):
    """A venue. No method raises for what the venue or the network does: that comes as a report, or not at all.

    ``epoch`` is the claim under which a request is sent; a venue that can, refuses an older one than it has seen.
    """

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        """Send an order once. Later than ``not_after_ns`` it is not sent, which is reported as NOT_SENT.

        What is not known to have arrived is reported as TIMED_OUT, never as rejected.
        """

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        """Ask for a cancel."""

    async def amend(self, request: AmendRequested, *, epoch: int, now_ns: int) -> None:
        """Give a working order new terms, once. Later than ``not_after_ns`` it is not sent: REPLACE_REJECTED.

        What the venue cannot do is REPLACE_REJECTED, too; what is not known to have arrived is TIMED_OUT.
        """

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        """Ask what became of an order; without an answer there is no report, and the order manager asks again."""

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        """Return all that the venue has of us, of one moment at or after ``now_ns``; None without a whole answer.

        Silence is never taken for empty books: the order manager asks again.
        """

    async def tell_time(self, now_ns: int) -> bool:
        """Move the clock of a venue that keeps none of its own (a replayed capture); return whether it heard."""

    def reports(self) -> AsyncIterator[VenueReport]:
        """Yield reports as they come, from the venue and of our own sending; ends after ``close``."""

    async def close(self) -> None:
        """Let go of everything; requests under way are given up."""
