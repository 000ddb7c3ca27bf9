"""The same stages in one process over a capture or the simulated market: a backtest with no broker and no clock.

Orders meet the same simulated venue as in a live demo: takers walk the recorded depth at decision time plus
latency, makers wait behind the displayed queue. Nothing here is faster than causality: reports come back late.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import force_setattr

from agents.pipeline import Pipeline
from agents.sim.engine import Engine
from agents.sim.instruments import START_PRICES
from agents.sim.loopback import Loopback
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.population_feed import population_records
from agents.sim.regimes import Regime
from agents.sim.replay_engine import ReplayEngine, Slippage
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import Fault, VenueTerms
from infra.settings import SettingsError
from schemas.event import Event, Heartbeat, derive_id
from schemas.feed import FeedRecord
from schemas.values import NS_PER_MS, NS_PER_S, units
from streams.composition import Run, build_stage
from streams.cost_priors import slippage_of
from streams.offline.backtest_report import BacktestReport

Observe = Callable[[Event], None]
_SIMULATED_START_NS: Final = 1_700_000_000 * NS_PER_S
STAGES_IN_PROCESS: Final = ("ingestion", "experts", "voting", "decider", "risk", "execution", "feedback")


class Backtest:
    """One run of all stages in this process. ``pipeline`` and ``venue`` may be looked at afterwards.

    ``faults`` are what the venue does wrong on purpose. Without some of the ``stages`` the others run alone.
    """

    def __init__(
        self,
        run: Run,
        observe: Observe | None = None,
        faults: tuple[Fault, ...] = (),
        stages: Sequence[str] = STAGES_IN_PROCESS,
    ) -> None:
        self.report = BacktestReport()
        self._run = run
        self._simulated: PopulationEngine | None = None
        self.venue = SimulatedVenue(venue_terms(run, faults), self._engine())
        self._loopback = Loopback(self.venue)
        self.pipeline = Pipeline(
            [build_stage(run, name) for name in stages],
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

    def _engine(self) -> Engine:
        if self._run.on_capture:
            return ReplayEngine(*quote_fills(self._run))
        self._simulated = PopulationEngine(SimulatedMarket(market_terms(self._run)))
        return self._simulated

    def records(self, seconds: float) -> Iterator[FeedRecord]:
        """Yield the run's feed: the whole capture, or ``seconds`` of the simulated market."""
        if self._run.capture is not None:
            yield from self._run.capture.records()
            return
        assert self._simulated is not None
        end_ns = _SIMULATED_START_NS + int(seconds * NS_PER_S)
        feed = population_records(self._simulated, self._run.fed, _SIMULATED_START_NS, self._advance, end_ns)
        for position, events in enumerate(feed):
            yield FeedRecord(position=position, events=events)

    def _advance(self, now_ns: int) -> None:
        self._report(self._loopback.advance(now_ns))

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


def venue_terms(run: Run, faults: tuple[Fault, ...] = ()) -> VenueTerms:
    """Return the simulated venue of a run."""
    settings = run.settings
    return VenueTerms(
        instruments=run.instruments,
        name="SIM",
        seed=settings.run.seed,
        latency_ns=settings.venue.latency_ms * NS_PER_MS,
        receive_window_ns=settings.venue.receive_window_ms * NS_PER_MS,
        faults=faults,
    )


def market_terms(run: Run) -> MarketTerms:
    """Return the simulated market of a run. Raises SettingsError where the run has another feed."""
    settings = run.settings
    if settings.feed.kind != "simulated":
        raise SettingsError(f"A live feed ({settings.feed.kind}) cannot be back-tested; give a capture.")
    return MarketTerms(
        instruments=tuple(run.instruments[name] for name in sorted(run.fed)),
        start_prices={name: START_PRICES[name] for name in run.fed},
        seed=settings.run.seed,
        start_ns=_SIMULATED_START_NS,
        regime=None if settings.sim.regime == "mixed" else Regime[settings.sim.regime.upper()],
    )


def quote_fills(run: Run) -> tuple[dict[str, int], Mapping[str, Slippage]]:
    """Return, by instrument, what fills at a quote without sizes, and what takers pay beyond one without depth."""
    caps = {name: item.quote_fill_max for name, item in run.settings.instruments.items()}
    fill_max = {name: units(cap) for name, cap in caps.items() if cap is not None}
    return fill_max, slippage_of(run.cost_priors, run.instruments)
