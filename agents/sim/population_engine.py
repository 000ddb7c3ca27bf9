"""Matching mode *full*: an account's orders meet the simulated population in the same book."""

from agents.sim.engine import Arrival, MakerFill, Taken, Terms, VenueOrder, rests_in_book
from agents.sim.last_prices import LastPrices
from agents.sim.market import SimulatedMarket
from agents.sim.matching import Incoming
from agents.sim.population import CROWD
from schemas.event import Event
from schemas.market import BookSnapshot, Trade
from schemas.values import TimeInForce


class PopulationEngine:
    """The simulated market as an engine. ``take_events`` returns the market data that came of it."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.prices = LastPrices()
        self._market = market
        self._events: list[Event] = []
        self._fills: list[MakerFill] = []

    @property
    def next_time_ns(self) -> int | None:
        """Return when the market's next step is due."""
        return self._market.next_time_ns

    def advance(self) -> None:
        """Let the population make its next step."""
        self._take(self._market.advance())

    def on_market(self, event: Event) -> None:
        """Refuse: this engine is the market."""
        raise AssertionError(f"a simulated market takes no {type(event).__name__} from outside")

    def place(self, order: VenueOrder, now_ns: int) -> Arrival:
        """Match an order against whoever is there."""
        crowd = self._market.crowd(order.instrument)
        placed = crowd.book.place(_incoming(order))
        crowd.matches.extend(placed.matches)
        self._say(order.instrument, now_ns)
        taken = [Taken(match.price, match.quantity) for match in placed.matches]
        return Arrival(taken, placed.resting > 0, placed.refused)

    def cancel(self, order: VenueOrder, now_ns: int) -> None:
        """Take a resting order out of the book."""
        self._market.crowd(order.instrument).book.cancel(f"a/{order.order_id}")
        self._say(order.instrument, now_ns)

    def amend(self, order: VenueOrder, former: Terms, now_ns: int) -> Arrival:
        """Make an order smaller where it lies, or take it out and match it anew."""
        book, name = self._market.crowd(order.instrument).book, f"a/{order.order_id}"
        if former.keep_place(order):
            book.reduce(name, order.leaves_quantity)
            self._say(order.instrument, now_ns)
            return Arrival([], True)
        if order.time_in_force is TimeInForce.POST_ONLY and book.would_take(_incoming(order)):
            return Arrival([], True, "a post-only order would take")
        book.cancel(name)
        return self.place(order, now_ns)

    def take_maker_fills(self) -> list[MakerFill]:
        """Return the fills of resting orders since the last call."""
        found, self._fills = self._fills, []
        return found

    def take_events(self) -> list[Event]:
        """Return the market data since the last call, in order."""
        found, self._events = self._events, []
        return found

    def snapshot(self, instrument: str, time_ns: int) -> BookSnapshot:
        """Return the whole book now, for a reader that asks."""
        return self._market.snapshot(instrument, time_ns)

    def mid(self, instrument: str) -> int | None:
        """Return the mid in units of 1e-8."""
        mid = self._market.crowd(instrument).mid
        return None if mid is None else int(mid)

    def _say(self, instrument: str, now_ns: int) -> None:
        self._take(self._market.drain(instrument, now_ns))

    def _take(self, events: list[Event]) -> None:
        self._events.extend(events)
        for event in events:
            if isinstance(event, Trade):
                self.prices.trade(event.key, event.price)
        for _, match, time_ns in self._market.take_account_matches():
            assert match.maker_owner != CROWD
            self._fills.append(MakerFill(match.maker_id[2:], match.price, match.quantity, time_ns))


def _incoming(order: VenueOrder) -> Incoming:
    """Return an order as it meets the book."""
    time_in_force = order.time_in_force
    if not rests_in_book(order) and time_in_force is not TimeInForce.FOK:
        time_in_force = TimeInForce.IOC
    name = f"a/{order.order_id}"
    return Incoming(name, order.account, order.side, order.leaves_quantity, order.limit_price, time_in_force)
