"""The simulated market: a pure function of (seed, step) that speaks like a real one.

Each step gives, per instrument, the trades, one depth update in Binance's spot style (``first_update_id`` is the
last one's ``last_update_id`` + 1, absolute quantities, 0 removes) and a quote when the top changed; a whole book at
the start, every minute, and on demand. What an account trades changes the book as anyone's trade would.
"""

from dataclasses import dataclass
from typing import Final

from agents.sim.generator import seeded
from agents.sim.matching import Match
from agents.sim.population import CROWD, Crowd
from agents.sim.regimes import Regime
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quote, Trade
from schemas.values import NS_PER_MS, NS_PER_S, Side

SNAPSHOT_LEVELS: Final = 100
_GAP_NS: Final = 1_000
"""Between two events of one step, so that no two have the same time."""


@dataclass(frozen=True, kw_only=True)
class MarketTerms:
    """What is simulated. ``regime`` keeps to one regime; None lets them alternate. Prices in units of 1e-8."""

    instruments: tuple[InstrumentDefined, ...]
    start_prices: dict[str, int]
    seed: int
    start_ns: int
    step_ns: int = 50 * NS_PER_MS
    snapshot_every_ns: int = 60 * NS_PER_S
    regime: Regime | None = None


class _Tape:
    """One instrument's side of the market: the crowd, and the numbers that its events carry."""

    def __init__(self, terms: InstrumentDefined, price: int, steps_per_s: float) -> None:
        self.key = terms.key
        self.crowd = Crowd(terms, price, steps_per_s)
        self.update_id = 0
        self.trade_id = 0
        self.top: tuple[int | None, int, int | None, int] | None = None


class SimulatedMarket:
    """The market at its newest step. ``advance`` makes the next one."""

    def __init__(self, terms: MarketTerms) -> None:
        self.terms = terms
        self.step = 0
        rate = NS_PER_S / terms.step_ns
        self._tapes = {
            item.key: _Tape(item, terms.start_prices[item.key], rate) for item in sorted(terms.instruments, key=_by_key)
        }
        self._account_matches: list[tuple[str, Match, int]] = []

    @property
    def next_time_ns(self) -> int:
        """Return when the next step is due."""
        return self.terms.start_ns + self.step * self.terms.step_ns

    def crowd(self, instrument: str) -> Crowd:
        """Return one instrument's traders and book. Raises KeyError for an instrument that is not simulated."""
        return self._tapes[instrument].crowd

    def advance(self) -> list[Event]:
        """Make one step and return its events, all instruments together, in the order of their times."""
        time_ns = self.next_time_ns
        events: list[Event] = []
        every = self.terms.snapshot_every_ns // self.terms.step_ns
        for tape in self._tapes.values():
            tape.crowd.step(seeded(self.terms.seed, tape.key, self.step), self.terms.regime)
            self._drain(tape, time_ns, events)
            if self.step % every == 0:
                events.append(self._snapshot(tape, time_ns + len(events) * _GAP_NS))
        self.step += 1
        return events

    def snapshot(self, instrument: str, time_ns: int) -> BookSnapshot:
        """Return the whole book as of the newest event."""
        return self._snapshot(self._tapes[instrument], time_ns)

    def drain(self, instrument: str, time_ns: int) -> list[Event]:
        """Return the events of what an account just did, so that everyone sees it before the next step."""
        events: list[Event] = []
        self._drain(self._tapes[instrument], time_ns, events)
        return events

    def take_account_matches(self) -> list[tuple[str, Match, int]]:
        """Return (instrument, match, time) of every match with an account's resting order since the last call."""
        found, self._account_matches = self._account_matches, []
        return found

    def _drain(self, tape: _Tape, time_ns: int, events: list[Event]) -> None:
        matches, tape.crowd.matches = tape.crowd.matches, []
        merged: list[list[object]] = []
        for match in matches:
            if match.maker_owner != CROWD:
                self._account_matches.append((tape.key, match, time_ns))
            last = merged[-1] if merged else None
            if last is not None and last[0] == match.taker_id and last[1] == match.price:
                last[2] += match.quantity  # type: ignore[operator]
            else:
                merged.append([match.taker_id, match.price, match.quantity, match.taker_side])
        for _, price, quantity, side in merged:
            at_ns = time_ns + len(events) * _GAP_NS
            tape.trade_id += 1
            events.append(
                Trade(
                    key=tape.key,
                    event_time_ns=at_ns,
                    available_at_ns=at_ns,
                    trade_id=str(tape.trade_id),
                    price=price,  # type: ignore[arg-type]
                    quantity=quantity,  # type: ignore[arg-type]
                    aggressor=side,  # type: ignore[arg-type]
                )
            )
        self._say_depth(tape, time_ns, events)

    def _say_depth(self, tape: _Tape, time_ns: int, events: list[Event]) -> None:
        changed = tape.crowd.book.take_changed()
        if not changed:
            return
        first = tape.update_id + 1
        tape.update_id += len(changed)
        bids = [(price, quantity) for side, price, quantity in changed if side is Side.BUY]
        asks = [(price, quantity) for side, price, quantity in changed if side is Side.SELL]
        at_ns = time_ns + len(events) * _GAP_NS
        events.append(
            DepthUpdate(
                key=tape.key,
                event_time_ns=at_ns,
                available_at_ns=at_ns,
                first_update_id=first,
                last_update_id=tape.update_id,
                bid_prices=tuple(price for price, _ in bids),
                bid_quantities=tuple(quantity for _, quantity in bids),
                ask_prices=tuple(price for price, _ in asks),
                ask_quantities=tuple(quantity for _, quantity in asks),
            )
        )
        book = tape.crowd.book
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        bid_quantity = 0 if bid is None else book.quantity_at(Side.BUY, bid)
        ask_quantity = 0 if ask is None else book.quantity_at(Side.SELL, ask)
        top = (bid, bid_quantity, ask, ask_quantity)
        if top == tape.top:
            return
        tape.top = top
        at_ns += _GAP_NS
        events.append(
            Quote(
                key=tape.key,
                event_time_ns=at_ns,
                available_at_ns=at_ns,
                bid_price=bid,
                bid_quantity=None if bid is None else bid_quantity,
                ask_price=ask,
                ask_quantity=None if ask is None else ask_quantity,
                update_id=tape.update_id,
            )
        )

    def _snapshot(self, tape: _Tape, time_ns: int) -> BookSnapshot:
        bids = tape.crowd.book.levels(Side.BUY, SNAPSHOT_LEVELS)
        asks = tape.crowd.book.levels(Side.SELL, SNAPSHOT_LEVELS)
        return BookSnapshot(
            key=tape.key,
            event_time_ns=time_ns,
            available_at_ns=time_ns,
            update_id=tape.update_id,
            bid_prices=tuple(price for price, _ in bids),
            bid_quantities=tuple(quantity for _, quantity in bids),
            ask_prices=tuple(price for price, _ in asks),
            ask_quantities=tuple(quantity for _, quantity in asks),
        )


def _by_key(item: InstrumentDefined) -> str:
    return item.key
