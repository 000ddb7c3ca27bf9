"""The exchange without its sockets: the venue, its record on disk, and where its market comes from."""

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Final, Literal

import msgspec

from agents.market.stage import Ingestion, IngestionConfig
from agents.sim.engine import VenueOrder
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.regimes import Regime
from agents.sim.replay_engine import ReplayEngine, Slippage
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_books import books_of
from agents.sim.venue_record import HISTORY_MAX, Queued, Restored, encode_batch, encode_line, restore
from agents.sim.venue_state import Fault, VenueChanges, VenueTerms
from agents.stage import ShardState
from infra.feeds.capture import open_capture
from infra.venues.wire import AmendBody, BooksBody, CancelBody, QueryBody, SubmitBody
from schemas.event import Event, Heartbeat
from schemas.feed import FeedRecord
from schemas.market import BookSnapshot, InstrumentDefined
from schemas.orders import VenueReport
from schemas.reconciliation import VenueBooks
from schemas.values import NS_PER_MS, NS_PER_S

_MIDS_EVERY_NS: Final = NS_PER_S


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings file of the exchange process (JSON).

    ``mode`` ``full``: our orders meet a simulated population, and time is the wall clock. ``replay``: they meet the
    capture in ``captures``, and time is what the clients say it is. ``record`` is the file of the exchange's own
    record; without one a killed exchange forgets. ``fill_max`` (units of 1e-8) serves quotes without sizes. ``excess``
    is what takers of a replay pay beyond a quote without depth, as a fraction of its price. Above ``requests_per_s``
    (0: no limit) requests are told to come again; with both key files only signed ones are heard.
    ``fences_epochs``: it refuses whoever has been replaced, as no real venue can.
    """

    mode: Literal["full", "replay"]
    instruments: tuple[InstrumentDefined, ...]
    name: str = "SIM"
    seed: int = 1
    regime: Regime | None = None
    start_prices: dict[str, int] = {}
    step_ns: int = 50 * NS_PER_MS
    latency_ns: int = 5 * NS_PER_MS
    jitter_ns: int = 5 * NS_PER_MS
    receive_window_ns: int = 2 * NS_PER_S
    clock_ahead_max_ns: int = NS_PER_S
    fences_epochs: bool = True
    faults: tuple[Fault, ...] = ()
    requests_per_s: int = 0
    api_key_file: str | None = None
    secret_file: str | None = None
    captures: tuple[str, ...] = ()
    fill_max: dict[str, int] = {}
    excess: dict[str, Decimal] = {}
    record: str | None = None
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        names = {item.key for item in self.instruments}
        if self.mode == "full" and not names <= set(self.start_prices):
            raise ValueError("mode 'full' needs a start price for each instrument")
        if self.mode == "replay" and not self.captures:
            raise ValueError("mode 'replay' needs captures")


class RecordDamaged(Exception):
    """The exchange's own record cannot be read, in one clear sentence."""


class ExchangeCore:
    """Requests in, reports and market data out; every change is on disk before anyone is told of it."""

    def __init__(self, config: ExchangeConfig, now_ns: int) -> None:
        self.config = config
        definitions = {item.key: item for item in config.instruments}
        restored = _restored(config)
        self.history: list[tuple[int, VenueReport]] = restored.history
        self._record: IO[bytes] | None = (
            Path(config.record).open("ab") if config.record else None  # noqa: SIM115 - open as long as the process
        )
        self._changes = VenueChanges()
        self._mids, self._mids_due_ns = restored.mids, 0
        self._population: PopulationEngine | None = None
        self._capture: Iterator[FeedRecord] = iter(())
        self._ahead: FeedRecord | None = None
        self._ingestion, self._state = Ingestion(IngestionConfig(instruments=definitions)), ShardState()
        self.now_ns = now_ns if config.mode == "full" else restored.state.now_ns
        for action in restored.state.actions:
            # It arrives only now, after the outage, and is judged by the receive window as of now.
            action.due_ns = max(action.due_ns, self.now_ns)
        engine = self._replay() if config.mode == "replay" else self._simulate(now_ns)
        terms = VenueTerms(
            instruments=definitions,
            name=config.name,
            seed=config.seed,
            latency_ns=config.latency_ns,
            jitter_ns=config.jitter_ns,
            receive_window_ns=config.receive_window_ns,
            clock_ahead_max_ns=config.clock_ahead_max_ns,
            fences_epochs=config.fences_epochs,
            faults=config.faults,
        )
        self.venue = SimulatedVenue(terms, engine, restored.state, self._changes)
        self._read_capture_until(self.now_ns)
        self.venue.readmit(self.now_ns)
        self._write_down()

    @property
    def next_due_ns(self) -> int | None:
        """Return when something happens next of its own accord."""
        return self.venue.next_due_ns

    @property
    def disconnects(self) -> int:
        """Return how often the script has asked that all connections be dropped."""
        return self.venue.state.disconnects

    def submit(self, body: SubmitBody) -> None:
        """Take an order request; it is on disk when this returns."""
        action = self.venue.submit(body.request, self._time(body.now_ns), body.epoch, body.now_ns)
        action.window_ns = body.window_ns
        self._append(encode_line(Queued(action)))

    def cancel(self, body: CancelBody) -> None:
        """Take a request to cancel; it is on disk when this returns."""
        action = self.venue.cancel(body.request, self._time(body.now_ns), body.epoch)
        self._append(encode_line(Queued(action)))

    def amend(self, body: AmendBody) -> None:
        """Take a request to change an order; it is on disk when this returns."""
        action = self.venue.amend(body.request, self._time(body.now_ns), body.epoch, body.now_ns)
        action.window_ns = body.window_ns
        self._append(encode_line(Queued(action)))

    def query(self, body: QueryBody) -> VenueReport:
        """Return what is known of an order now."""
        return self.venue.query(body.request, self._time(body.now_ns))

    def books(self, body: BooksBody) -> VenueBooks:
        """Return all that whoever asks wants to know of the orders and positions, as of now."""
        return books_of(self.venue.state, body.request, self._time(body.now_ns))

    def orders(self) -> list[VenueOrder]:
        """Return all orders ever taken, by the order of arrival."""
        return list(self.venue.state.orders.values())

    def advance(self, now_ns: int) -> tuple[list[tuple[int, VenueReport]], list[Event]]:
        """Move time on; return the numbered reports that are to be sent, and the market data."""
        self.now_ns = max(self.now_ns, now_ns)
        self._read_capture_until(self.now_ns)
        first = self.venue.state.report_sequence + 1
        numbered = list(enumerate(self.venue.advance(self.now_ns), first))
        self._write_down()
        self.history.extend(numbered)
        if len(self.history) > 2 * HISTORY_MAX:
            del self.history[:-HISTORY_MAX]
        return numbered, self._population.take_events() if self._population is not None else []

    def snapshot(self, instrument: str) -> BookSnapshot | None:
        """Return the whole book of a simulated instrument; None where there is none."""
        if self._population is None or instrument not in {item.key for item in self.config.instruments}:
            return None
        return self._population.snapshot(instrument, self.now_ns)

    def close(self) -> None:
        """Close the record."""
        if self._record is not None:
            self._record.close()

    def _time(self, now_ns: int) -> int:
        """A simulated market lives on its own clock; a replay is told the time by every request."""
        if self.config.mode == "replay":
            self.now_ns = max(self.now_ns, now_ns)
        return self.now_ns

    def _simulate(self, now_ns: int) -> PopulationEngine:
        config = self.config
        terms = MarketTerms(
            instruments=config.instruments,
            start_prices={**config.start_prices, **self._mids},
            seed=config.seed,
            start_ns=now_ns,
            step_ns=config.step_ns,
            regime=config.regime,
        )
        self._population = PopulationEngine(SimulatedMarket(terms))
        # The first step makes the book, so that whoever connects first finds one.
        self._population.advance()
        return self._population

    def _replay(self) -> ReplayEngine:
        self._capture = open_capture([Path(name) for name in self.config.captures]).records()
        self._ahead = next(self._capture, None)
        ticks = {item.key: item.tick_size for item in self.config.instruments}
        paid = {name: Slippage(excess, ticks[name]) for name, excess in self.config.excess.items() if name in ticks}
        return ReplayEngine(self.config.fill_max, paid)

    def _read_capture_until(self, now_ns: int) -> None:
        """Show the venue the capture up to ``now_ns``, as ingestion lets it through."""
        while self._ahead is not None and _time_of(self._ahead) <= now_ns:
            for raw in self._ahead.events:
                for event in self._ingestion.step(self._state, raw)[1]:
                    if type(event) is not Heartbeat:
                        self.venue.on_market(event)
            self._ahead = next(self._capture, None)

    def _write_down(self) -> None:
        """Append what has changed in one write; newest mids about once a second."""
        mids: dict[str, int] = {}
        if self._record is not None and self.now_ns >= self._mids_due_ns:
            self._mids_due_ns = self.now_ns + _MIDS_EVERY_NS
            for item in self.config.instruments:
                mid = self.venue.engine.mid(item.key)
                if mid is not None:
                    mids[item.key] = mid // item.tick_size * item.tick_size
        if self._changes or mids:
            self._append(encode_batch(self.venue.state, self._changes, mids))
        self._changes.clear()

    def _append(self, lines: bytes) -> None:
        if self._record is not None:
            self._record.write(lines)
            self._record.flush()


def _time_of(record: FeedRecord) -> int:
    return record.events[-1].available_at_ns if record.events else 0


def _restored(config: ExchangeConfig) -> Restored:
    """Return what the record adds up to, once a last line that a kill cut short is cut off altogether."""
    if config.record is None or not Path(config.record).exists():
        return restore((), config.name)
    path = Path(config.record)
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    try:
        return restore(content[:whole].splitlines(keepends=True), config.name)
    except (msgspec.DecodeError, KeyError) as error:
        raise RecordDamaged(f"The exchange's record {path} is damaged: {error}.") from None
