"""The full exchange as a market for training: our orders meet the population's in one book, and size moves the price.

Nothing can be worked out beforehand here: what we do changes the market, the market the votes, the votes the tally.
So ingestion, experts, voting and scoring run at every step, which makes it a hundred times slower than a tape. It is
for finding out what a policy's own size costs it, and for the last mile of training, not for the first.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from msgspec import structs

from agents.pipeline import Pipeline
from agents.sim.desk import Desk, Session
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.population_feed import population_records
from agents.sim.tape import TapeStep, still_standing
from agents.sim.tape_recorder import TapeRecorder
from agents.stage import Stage
from schemas.event import Event, derive_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactTerms:
    """A market to be simulated, the stages that make tallies of it, and the desk that trades there.

    ``stages`` are ingestion, experts, voting and feedback. ``market``: of each episode, but for its seed. Before one
    begins, ``warm_up_steps`` pass, in which experts and voting learn what is usual.
    """

    desk: Desk
    stages: tuple[Stage, ...]
    market: MarketTerms
    warm_up_steps: int = 60


class ImpactMarket:
    """One simulated market from its beginning on, as steps of a tape that is written while it is read."""

    def __init__(self, terms: ImpactTerms, seed: int) -> None:
        self._terms = replace(terms.market, seed=seed)
        self.engine = PopulationEngine(SimulatedMarket(self._terms))
        self._ready: deque[TapeStep] = deque()
        recorder = TapeRecorder(terms.desk, self._ready.append, later_ns=0)
        self._pipeline = Pipeline(terms.stages, perform=_refuse, observe=recorder.observe)
        self._source = f"impact/{seed}"
        self._warm_up_steps = terms.warm_up_steps
        self._position = 0
        self._records: Iterator[tuple[Event, ...]] | None = None

    def next(self, session: Session) -> TapeStep:
        """Let everybody act until the next tally, and return the step that it ends; the first is after the warm-up."""
        if self._records is None:
            names = [item.key for item in self._terms.instruments]
            self._records = population_records(self.engine, names, self._terms.start_ns, session.pass_time)
            passed = [self._step(self._records) for _ in range(self._warm_up_steps)]
            standing = still_standing(alert for step in passed for alert in step.alerts)
            first = self._step(self._records)
            return structs.replace(first, alerts=(*standing, *first.alerts))
        return self._step(self._records)

    def _step(self, records: Iterator[tuple[Event, ...]]) -> TapeStep:
        while not self._ready:
            for ordinal, event in enumerate(next(records)):
                structs.force_setattr(event, "event_id", derive_id(f"{self._source}/{self._position}", "feed", ordinal))
                self._pipeline.feed("ingestion", event)
            self._position += 1
        return self._ready.popleft()


def _refuse(request: Event) -> tuple[Event, ...]:
    raise AssertionError(f"these stages ask no venue: {type(request).__name__}")
