"""The same stages in one process over a capture or the simulated market: a backtest with no broker and no clock.

Orders meet the same simulated venue as in a live demo: takers walk the recorded depth at decision time plus
latency, makers wait behind the displayed queue. Nothing here is faster than causality: reports come back late.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from msgspec.structs import force_setattr

from agents.pipeline import Pipeline
from agents.sim.engine import Engine
from agents.sim.instruments import START_PRICES
from agents.sim.loopback import Loopback
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.regimes import Regime
from agents.sim.replay_engine import ReplayEngine
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import Fault, VenueTerms
from infra.settings import SettingsError
from schemas.event import Event, Heartbeat, derive_id
from schemas.feed import FeedRecord
from schemas.market import Quality, QualityKind
from schemas.values import NS_PER_MS, NS_PER_S, units
from streams.composition import Run, build_stage
from streams.cost_priors import slippage_of
from streams.offline.backtest_report import BacktestReport

Observe = Callable[[Event], None]
_SIMULATED_START_NS: Final = 1_700_000_000 * NS_PER_S
_BEAT_NS: Final = 100 * NS_PER_MS
STAGES_IN_PROCESS: Final = ("ingestion", "experts", "voting", "decider", "risk", "execution", "feedback")


class Backtest:
    """One run of all stages in this process. ``pipeline`` and ``venue`` may be looked at afterwards.

    ``faults`` are what the venue does wrong on purpose.
    """

    def __init__(self, run: Run, observe: Observe | None = None, faults: tuple[Fault, ...] = ()) -> None:
        self.report = BacktestReport()
        self._run = run
        self._simulated: PopulationEngine | None = None
        self._faults = faults
        self.venue = SimulatedVenue(self._venue_terms(), self._engine())
        self._loopback = Loopback(self.venue)
        self.pipeline = Pipeline(
            [build_stage(run, name) for name in STAGES_IN_PROCESS],
            perform=self._loopback.perform,
            observe=self._both(observe),
        )
        self._source = f"backtest/{run.capture.name}" if run.capture is not None else "backtest/simulated"
        self._newest_ns = 0

    def _both(self, observe: Observe | None) -> Observe:
        if observe is None:
            return self.report.observe

        def see(event: Event) -> None:
            self.report.observe(event)
            observe(event)

        return see

    def _venue_terms(self) -> VenueTerms:
        settings = self._run.settings
        return VenueTerms(
            instruments=self._run.instruments,
            name="SIM",
            seed=settings.run.seed,
            latency_ns=settings.venue.latency_ms * NS_PER_MS,
            receive_window_ns=settings.venue.receive_window_ms * NS_PER_MS,
            faults=self._faults,
        )

    def _engine(self) -> Engine:
        run, settings = self._run, self._run.settings
        if run.on_capture:
            caps = {name: item.quote_fill_max for name, item in settings.instruments.items()}
            fill_max = {name: units(cap) for name, cap in caps.items() if cap is not None}
            return ReplayEngine(fill_max, slippage_of(run.cost_priors, run.instruments))
        if settings.feed.kind != "simulated":
            raise SettingsError(f"A live feed ({settings.feed.kind}) cannot be back-tested; give a capture.")
        terms = MarketTerms(
            instruments=tuple(run.instruments[name] for name in sorted(run.fed)),
            start_prices={name: START_PRICES[name] for name in run.fed},
            seed=settings.run.seed,
            start_ns=_SIMULATED_START_NS,
            regime=None if settings.sim.regime == "mixed" else Regime[settings.sim.regime.upper()],
        )
        self._simulated = PopulationEngine(SimulatedMarket(terms))
        return self._simulated

    def records(self, seconds: float) -> Iterator[FeedRecord]:
        """Yield the run's feed: the whole capture, or ``seconds`` of the simulated market."""
        if self._run.capture is not None:
            yield from self._run.capture.records()
            return
        assert self._simulated is not None
        end_ns = _SIMULATED_START_NS + int(seconds * NS_PER_S)
        beat_ns = _SIMULATED_START_NS
        for position, event in enumerate(self._simulated_events(end_ns)):
            beats: list[Event] = []
            while beat_ns + _BEAT_NS <= event.available_at_ns:
                beat_ns += _BEAT_NS
                beats.append(_heartbeat(beat_ns, "simulated"))
            yield FeedRecord(position=position, events=(*beats, event))

    def _simulated_events(self, end_ns: int) -> Iterator[Event]:
        engine = self._simulated
        assert engine is not None
        for name in sorted(self._run.fed):
            opening: dict[str, Any] = {"event_time_ns": _SIMULATED_START_NS, "available_at_ns": _SIMULATED_START_NS}
            yield Quality(key=name, kind=QualityKind.RESYNC, **opening)
        while (now_ns := engine.next_time_ns or 0) <= end_ns:
            # The venue moves the market: its orders meet the same book, in the order of time.
            self._report(self._loopback.advance(now_ns))
            yield from engine.take_events()

    def take(self, record: FeedRecord) -> None:
        """Follow one record of the feed to quiescence."""
        for ordinal, event in enumerate(record.events):
            force_setattr(event, "event_id", derive_id(f"{self._source}/{record.position}", "feed", ordinal))
            if event.available_at_ns > self._newest_ns:
                self._newest_ns = event.available_at_ns
            if self._simulated is None:
                self._report(self._loopback.advance(self._newest_ns))
                if type(event) is not Heartbeat:
                    self._loopback.on_market(event)
            self.pipeline.feed("ingestion", event)
        self.report.messages += 1

    def _report(self, reports: Iterable[Event]) -> None:
        for report in reports:
            self.pipeline.feed("execution", report)

    def close(self) -> None:
        """Tell ingestion that nothing more comes."""
        beat = _heartbeat(self._newest_ns, "closing")
        force_setattr(beat, "event_id", derive_id(self._source, "closing", 0))
        self.pipeline.feed("ingestion", beat)


def backtest(
    run: Run, *, seconds: float = 60.0, observe: Observe | None = None, progress: Callable[[int], Any] | None = None
) -> BacktestReport:
    """Run to the end of the capture, or for ``seconds`` of the simulated market, and report.

    ``observe`` sees every event that would have gone to a topic; ``progress`` is told every record's time (ns).
    """
    test = Backtest(run, observe)
    for record in test.records(seconds):
        test.take(record)
        if progress is not None and record.events:
            progress(record.events[-1].available_at_ns)
    test.close()
    return test.report


def _heartbeat(now_ns: int, clock: str) -> Heartbeat:
    return Heartbeat(key="market.event", event_time_ns=now_ns, available_at_ns=now_ns, clock=clock)
