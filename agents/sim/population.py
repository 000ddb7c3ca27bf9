"""Who trades in the simulated market besides us: makers, noise traders, informed and momentum traders.

One *crowd* per instrument, in one matching book. Everything it does in a step is a function of its state and of the
step's own generator.
"""

from collections import deque
from typing import Final

from agents.sim.generator import Generator
from agents.sim.matching import Incoming, Match, MatchingBook
from agents.sim.regimes import FairValue, Regime
from schemas.market import InstrumentDefined
from schemas.values import UNITS_PER_ONE, Side, TimeInForce

CROWD: Final = ""
"""The owner of every order that is not an account's."""

LEVELS: Final = 6
_MAKERS: Final = ((0.30, 1), (0.18, 2), (0.10, 3), (1.0, 15))
"""(rate, half spread in ticks) of each maker. The last one never lags and keeps both sides of the book alive."""
_LEAN_TICKS: Final = 6.0
_NOISE_LIFE_STEPS: Final = 40
_MOMENTUM_STEPS: Final = 20


class Maker:
    """A market maker: it follows the fair value by ``rate`` per step and quotes ``half`` ticks around its view."""

    __slots__ = ("half", "orders", "quoted", "rate", "view")

    def __init__(self, rate: float, half: int, view: float) -> None:
        self.rate = rate
        self.half = half
        self.view = view
        self.quoted: float | None = None
        self.orders: list[str] = []


class Crowd:
    """All other traders of one instrument. ``matches`` collects every meeting since it was last emptied."""

    def __init__(self, terms: InstrumentDefined, price: int, steps_per_s: float) -> None:
        self.book = MatchingBook()
        self.fair = FairValue(value=float(price), anchor=float(price))
        self.matches: list[Match] = []
        self._tick = terms.tick_size
        self._lot = terms.lot_size
        # One size unit is worth about 6,000 of the quote currency, whatever the instrument costs.
        self._size = max(1, round(6_000 * UNITS_PER_ONE / price * UNITS_PER_ONE / terms.lot_size))
        self._step_s = 1.0 / steps_per_s
        self._makers = [Maker(rate, half, float(price)) for rate, half in _MAKERS]
        self._serial = 0
        self._noise: deque[tuple[int, str]] = deque()
        self._mids: deque[float] = deque(maxlen=_MOMENTUM_STEPS)
        self._steps = 0

    def step(self, draws: Generator, fixed: Regime | None) -> None:
        """Let everybody act once."""
        self._steps += 1
        self.fair.advance(draws, self._step_s, fixed)
        self._expire_noise()
        for maker in self._makers:
            self._quote(maker, draws)
        self._trade_on_value(draws)
        self._trade_noise(draws)
        self._trade_on_momentum(draws)

    @property
    def mid(self) -> float | None:
        """Return the mid in units of 1e-8, or None without two sides."""
        bid, ask = self.book.best(Side.BUY), self.book.best(Side.SELL)
        return None if bid is None or ask is None else (bid + ask) / 2

    def _next_id(self) -> str:
        self._serial += 1
        return str(self._serial)

    def _quote(self, maker: Maker, draws: Generator) -> None:
        maker.view += maker.rate * (self.fair.value - maker.view)
        moved = maker.quoted is None or abs(maker.view - maker.quoted) >= self._tick
        eaten = sum(1 for order_id in maker.orders if self.book.order(order_id) is None)
        if not moved and eaten < 2 and draws.uniform() > 0.05:
            return
        maker.quoted = maker.view
        for order_id in maker.orders:
            self.book.cancel(order_id)
        maker.orders.clear()
        terms = self.fair.terms
        lean = max(-0.9, min(0.9, (self.fair.value - maker.view) / (_LEAN_TICKS * self._tick)))
        half = round(maker.half * terms.spread)
        centre = round(maker.view / self._tick)
        for level in range(LEVELS):
            away = half + level * (1 + level // 3)
            self._rest(maker, Side.BUY, centre - away, terms.depth * (1.0 + lean), draws)
            self._rest(maker, Side.SELL, centre + away, terms.depth * (1.0 - lean), draws)

    def _rest(self, maker: Maker, side: Side, ticks: int, weight: float, draws: Generator) -> None:
        # A maker never takes: behind a stale quote it queues up one tick away, so neither side ever stays empty.
        other = self.book.best(Side.SELL if side is Side.BUY else Side.BUY)
        if other is not None:
            edge = other // self._tick
            ticks = min(ticks, edge - 1) if side is Side.BUY else max(ticks, edge + 1)
        quantity = self._lot * max(1, int(self._size * weight * (0.5 + draws.uniform())))
        order_id = self._next_id()
        order = Incoming(order_id, CROWD, side, quantity, ticks * self._tick, TimeInForce.POST_ONLY)
        if self.book.place(order).resting:
            maker.orders.append(order_id)

    def _take(self, side: Side, quantity: int, price: int | None) -> None:
        order = Incoming(self._next_id(), CROWD, side, quantity, price, TimeInForce.IOC)
        self.matches.extend(self.book.place(order).matches)

    def _random_quantity(self, draws: Generator, weight: float) -> int:
        return self._lot * max(1, int(self._size * weight * draws.uniform()))

    def _trade_on_value(self, draws: Generator) -> None:
        """Take what lies on the wrong side of the fair value, a part of it at a time."""
        value = self.fair.value
        bid, ask = self.book.best(Side.BUY), self.book.best(Side.SELL)
        if ask is not None and value > ask + self._tick and draws.uniform() < 0.6:
            self._take(Side.BUY, self._random_quantity(draws, 2.0), int(value) // self._tick * self._tick)
        elif bid is not None and value < bid - self._tick and draws.uniform() < 0.6:
            self._take(Side.SELL, self._random_quantity(draws, 2.0), -(int(-value) // self._tick) * self._tick)

    def _trade_noise(self, draws: Generator) -> None:
        for _ in range(draws.count(20.0 * self._step_s)):
            side = Side.BUY if draws.below(2) else Side.SELL
            if draws.below(2):
                self._take(side, self._random_quantity(draws, 0.5), None)
                continue
            best = self.book.best(side)
            if best is not None:
                order_id = self._next_id()
                price = best - (1 if side is Side.BUY else -1) * draws.below(8) * self._tick
                quantity = self._random_quantity(draws, 1.0)
                self.book.place(Incoming(order_id, CROWD, side, quantity, price, TimeInForce.POST_ONLY))
                self._noise.append((self._steps + _NOISE_LIFE_STEPS, order_id))

    def _expire_noise(self) -> None:
        while self._noise and self._noise[0][0] <= self._steps:
            self.book.cancel(self._noise.popleft()[1])

    def _trade_on_momentum(self, draws: Generator) -> None:
        """Follow the move of the last second when it is larger than the spread is usually."""
        mid = self.mid
        if mid is None:
            return
        self._mids.append(mid)
        move = mid - self._mids[0]
        if abs(move) > 8 * self._tick and draws.uniform() < 0.1:
            self._take(Side.BUY if move > 0 else Side.SELL, self._random_quantity(draws, 1.0), None)
