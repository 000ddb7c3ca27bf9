"""Matching mode *replay*: an account's orders meet recorded market data, which they cannot move.

A taker walks the displayed depth and what it takes is gone until the level is next reported; a maker waits behind
the quantity displayed at its price, and is filled by trades at or through its price and by quotes that pass it. Of
a feed without depth the quote's sizes are used, and without sizes a configured maximum fills at the quote. What lies
behind such a quote nobody has recorded: there a taker pays what trading has been found to cost beyond it.
"""

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

import msgspec

from agents.sim.engine import Arrival, MakerFill, Taken, Terms, VenueOrder, bound_of, rests_in_book
from agents.sim.last_prices import LastPrices
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote, Trade
from schemas.values import ZERO, Side, TimeInForce

_DISTRUST = (QualityKind.RESYNC, QualityKind.UNSYNCHRONISED, QualityKind.GAP)


class _Queued(msgspec.Struct):
    order: VenueOrder
    ahead: int


class _Tape:
    """What is displayed of one instrument. ``taken`` is what our takers took of it since it was reported."""

    __slots__ = ("ask", "ask_quantity", "bid", "bid_quantity", "depth", "queue", "synchronised", "taken")

    def __init__(self) -> None:
        self.depth: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self.synchronised = False
        self.bid: int | None = None
        self.ask: int | None = None
        self.bid_quantity: int | None = None
        self.ask_quantity: int | None = None
        self.taken: dict[tuple[Side, int], int] = {}
        self.queue: dict[str, _Queued] = {}


class Slippage(NamedTuple):
    """What a taker has paid beyond the quote, as a fraction of the price; and the tick that prices are whole of."""

    excess: Decimal
    tick_size: int

    def worse(self, price: int, side: Side) -> int:
        """Return an offer of ``side`` as a taker finds it: worse by the excess, to the next whole tick."""
        ticks = (price * max(self.excess, ZERO) / self.tick_size).to_integral_value(ROUND_CEILING)
        return price + int(ticks) * self.tick_size * (1 if side is Side.SELL else -1)


class ReplayEngine:
    """Recorded market data as an engine. ``fill_max`` (units of 1e-8, by instrument) serves quotes without sizes.

    ``slippage``, by instrument, is what takers pay where the record has no depth; without it they pay the quote.
    """

    def __init__(self, fill_max: Mapping[str, int], slippage: Mapping[str, Slippage] | None = None) -> None:
        self._slippage = slippage or {}
        self.prices = LastPrices()
        self._fill_max = fill_max
        self._tapes: dict[str, _Tape] = {}
        self._fills: list[MakerFill] = []

    @property
    def next_time_ns(self) -> int | None:
        """Return None: recorded data comes from outside."""
        return None

    def advance(self) -> None:
        """Refuse: there is nothing to do of its own accord."""
        raise AssertionError("a replay acts only on what it is told")

    def on_market(self, event: Event) -> None:
        """Take the next market event; the types that say nothing of prices are ignored."""
        tape = self._tape(event.key)
        kind = type(event)
        if kind is DepthUpdate:
            self._take_depth(tape, event)  # type: ignore[arg-type]
        elif kind is Quote:
            self._take_quote(tape, event)  # type: ignore[arg-type]
        elif kind is Trade:
            self.prices.trade(event.key, event.price)  # type: ignore[attr-defined]
            if tape.queue:
                self._take_trade(tape, event)  # type: ignore[arg-type]
        elif kind is BookSnapshot:
            self._take_snapshot(tape, event)  # type: ignore[arg-type]
        elif kind is Quality and event.kind in _DISTRUST:  # type: ignore[attr-defined]
            tape.synchronised = False
            tape.taken.clear()

    def place(self, order: VenueOrder, now_ns: int) -> Arrival:  # noqa: ARG002 - the record has its own times
        """Walk what is displayed, and queue up with the rest where that is asked for."""
        tape = self._tape(order.instrument)
        offers = list(self._offers(order, tape))
        if order.time_in_force is TimeInForce.POST_ONLY and offers:
            return Arrival([], False, "a post-only order would take")
        available = sum(offer.quantity for offer in offers)
        if order.time_in_force is TimeInForce.FOK and available < order.leaves_quantity:
            return Arrival([], False)
        taken, left = [], order.leaves_quantity
        other = _other(order.side)
        for offer in offers:
            quantity = min(left, offer.quantity)
            if quantity:
                taken.append(Taken(offer.price, quantity))
                left -= quantity
                key = (other, offer.price)
                tape.taken[key] = tape.taken.get(key, 0) + quantity
        if not left or not rests_in_book(order):
            return Arrival(taken, False)
        assert order.limit_price is not None
        tape.queue[order.order_id] = _Queued(order, self._displayed(tape, order.side, order.limit_price))
        return Arrival(taken, True)

    def cancel(self, order: VenueOrder, now_ns: int) -> None:  # noqa: ARG002 - as above
        """Leave the queue."""
        self._tape(order.instrument).queue.pop(order.order_id, None)

    def amend(self, order: VenueOrder, former: Terms, now_ns: int) -> Arrival:
        """Keep the place in the queue, or join it anew at the end."""
        if former.keep_place(order):
            return Arrival([], True)
        tape = self._tape(order.instrument)
        if order.time_in_force is TimeInForce.POST_ONLY and any(self._offers(order, tape)):
            return Arrival([], True, "a post-only order would take")
        tape.queue.pop(order.order_id, None)
        return self.place(order, now_ns)

    def take_maker_fills(self) -> list[MakerFill]:
        """Return the fills of queued orders since the last call."""
        if not self._fills:
            return []
        found, self._fills = self._fills, []
        return found

    def mid(self, instrument: str) -> int | None:
        """Return the mid of what is displayed."""
        tape = self._tape(instrument)
        if tape.synchronised and tape.depth[Side.BUY] and tape.depth[Side.SELL]:
            return (max(tape.depth[Side.BUY]) + min(tape.depth[Side.SELL])) // 2
        return None if tape.bid is None or tape.ask is None else (tape.bid + tape.ask) // 2

    def _tape(self, instrument: str) -> _Tape:
        tape = self._tapes.get(instrument)
        if tape is None:
            tape = self._tapes[instrument] = _Tape()
        return tape

    def _take_snapshot(self, tape: _Tape, event: BookSnapshot) -> None:
        tape.depth[Side.BUY] = dict(zip(event.bid_prices, event.bid_quantities, strict=True))
        tape.depth[Side.SELL] = dict(zip(event.ask_prices, event.ask_quantities, strict=True))
        tape.synchronised = True
        tape.taken.clear()
        for queued in tape.queue.values():
            price = queued.order.limit_price or 0
            queued.ahead = min(queued.ahead, self._displayed(tape, queued.order.side, price))

    def _take_depth(self, tape: _Tape, event: DepthUpdate) -> None:
        if not tape.synchronised:
            return
        self._apply(tape, Side.BUY, event.bid_prices, event.bid_quantities)
        self._apply(tape, Side.SELL, event.ask_prices, event.ask_quantities)
        if tape.queue:
            best_ask = min((p for p, q in zip(event.ask_prices, event.ask_quantities, strict=True) if q), default=None)
            best_bid = max((p for p, q in zip(event.bid_prices, event.bid_quantities, strict=True) if q), default=None)
            self._pass(tape, best_bid, best_ask, event.available_at_ns)

    def _apply(self, tape: _Tape, side: Side, prices: tuple[int, ...], quantities: tuple[int, ...]) -> None:
        levels = tape.depth[side]
        levels.update(zip(prices, quantities, strict=True))
        if 0 in quantities:
            for price, quantity in zip(prices, quantities, strict=True):
                if quantity == 0 and levels.get(price) == 0:
                    del levels[price]
        if tape.taken:
            for price in prices:
                tape.taken.pop((side, price), None)
        for queued in tape.queue.values():
            # Whoever left the level is taken to have stood behind us only when the level shrinks below our place.
            if queued.order.side is side and queued.order.limit_price in prices:
                queued.ahead = min(queued.ahead, levels.get(queued.order.limit_price, 0))

    def _take_quote(self, tape: _Tape, event: Quote) -> None:
        tape.bid, tape.bid_quantity = event.bid_price, event.bid_quantity
        tape.ask, tape.ask_quantity = event.ask_price, event.ask_quantity
        if tape.taken and not tape.synchronised:
            tape.taken.clear()
        if tape.queue:
            self._pass(tape, event.bid_price, event.ask_price, event.available_at_ns)

    def _pass(self, tape: _Tape, bid: int | None, ask: int | None, time_ns: int) -> None:
        """Fill the orders that the other side's best price has reached: it cannot have passed them by."""
        for queued in list(tape.queue.values()):
            price, side = queued.order.limit_price or 0, queued.order.side
            reached = ask is not None and ask <= price if side is Side.BUY else bid is not None and bid >= price
            if reached:
                self._fill(tape, queued, queued.order.leaves_quantity, time_ns)

    def _take_trade(self, tape: _Tape, event: Trade) -> None:
        size = event.quantity if event.quantity is not None else self._fill_max.get(event.key, 0)
        for queued in list(tape.queue.values()):
            price, side = queued.order.limit_price or 0, queued.order.side
            through = event.price < price if side is Side.BUY else event.price > price
            if through:
                self._fill(tape, queued, min(queued.order.leaves_quantity, size), event.available_at_ns)
            elif event.price == price and event.aggressor is not side:
                reach = size - queued.ahead
                queued.ahead = max(queued.ahead - size, 0)
                if reach > 0:
                    self._fill(tape, queued, min(queued.order.leaves_quantity, reach), event.available_at_ns)

    def _fill(self, tape: _Tape, queued: _Queued, quantity: int, time_ns: int) -> None:
        pending = sum(fill.quantity for fill in self._fills if fill.order_id == queued.order.order_id)
        quantity = min(quantity, queued.order.leaves_quantity - pending)
        if quantity <= 0:
            return
        assert queued.order.limit_price is not None
        self._fills.append(MakerFill(queued.order.order_id, queued.order.limit_price, quantity, time_ns))
        if quantity + pending == queued.order.leaves_quantity:
            del tape.queue[queued.order.order_id]

    def _displayed(self, tape: _Tape, side: Side, price: int) -> int:
        if tape.synchronised:
            return tape.depth[side].get(price, 0)
        if side is Side.BUY:
            return (tape.bid_quantity or 0) if tape.bid == price else 0
        return (tape.ask_quantity or 0) if tape.ask == price else 0

    def _offers(self, order: VenueOrder, tape: _Tape) -> Iterator[Taken]:
        """Yield what the order may take, best first."""
        side, bound = _other(order.side), bound_of(order)
        for price, quantity in self._levels(order.instrument, tape, side):
            if bound is not None and (price > bound if side is Side.SELL else price < bound):
                return
            left = quantity - tape.taken.get((side, price), 0)
            if left > 0:
                yield Taken(price, left)

    def _levels(self, instrument: str, tape: _Tape, side: Side) -> list[tuple[int, int]]:
        if tape.synchronised:
            return sorted(tape.depth[side].items(), reverse=side is Side.BUY)
        price, quantity = (tape.ask, tape.ask_quantity) if side is Side.SELL else (tape.bid, tape.bid_quantity)
        if price is None:
            return []
        paid = self._slippage.get(instrument)
        shown = quantity if quantity is not None else self._fill_max.get(instrument, 0)
        return [(price if paid is None else paid.worse(price, side), shown)]


def _other(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY
