"""One strategy on one instrument from tally to reward: the real stages of the money, with a policy that is told what
to want, and the simulated venue behind them.

Whoever trains a policy must give an action before it learns what came of it, and wants to see what the policy would
see before it gives one. Both are had from the stages as they are. The decider is asked for advice on a tally, which
changes nothing, and tells what a decision would have seen. And feedback is told that a decision will follow, under the
id and with the observation that it will have, which is all that it needs to close the one before; what is then
decided takes its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from msgspec.structs import replace

from agents.decider.policy import Observation, Policy, PolicyAnswer, PolicyContext
from agents.pipeline import Pipeline
from agents.sim.engine import Engine
from agents.sim.loopback import Loopback
from agents.sim.replay_engine import Slippage
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import VenueTerms
from agents.stage import ShardState, Stage, run_step
from schemas.decisions import Decision, DecisionOutcome
from schemas.event import Event
from schemas.feedback import Experience
from schemas.market import InstrumentDefined
from schemas.opinions import VoteTally


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Who trades: one strategy on one instrument, by a run's settings.

    ``decider`` makes the stage around a policy; ``stages`` are risk, execution and feedback. ``budget`` is what
    target 1 puts on the instrument, in the account's currency. ``fill_max`` (units of 1e-8) and ``slippage`` serve
    displays without sizes and without depth.
    """

    strategy: str
    account: str
    instrument: InstrumentDefined
    horizon_ns: int
    budget: Decimal
    decider: Callable[[Policy], Stage]
    stages: tuple[Stage, ...]
    venue: VenueTerms
    fill_max: Mapping[str, int]
    slippage: Mapping[str, Slippage]


class ToldPolicy:
    """A policy that wants what it was told. It is the one policy with a state: somebody else's will."""

    name: Final = "told"

    def __init__(self) -> None:
        self.target = 0.0

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:  # noqa: ARG002
        """Return the target that was told last."""
        return PolicyAnswer(self.target)


class Session:
    """The stages at work from a fresh account on. ``observe`` sees each event that would have gone to a topic."""

    def __init__(self, desk: Desk, engine: Engine, observe: Callable[[Event], None] | None = None) -> None:
        self.desk = desk
        self._policy = ToldPolicy()
        self._decider = desk.decider(self._policy)
        self._loopback = Loopback(SimulatedVenue(desk.venue, engine))
        self._pipeline = Pipeline((self._decider, *desk.stages), perform=self._loopback.perform, observe=self._see)
        self._observe = observe
        self._experiences: list[Experience] = []
        self._tally: VoteTally | None = None
        self._decided: Decision | None = None

    def _see(self, event: Event) -> None:
        kind = type(event)
        if kind is Experience:
            self._experiences.append(event)  # type: ignore[arg-type]
        elif kind is Decision:
            self._decided = event  # type: ignore[assignment]
        if self._observe is not None:
            self._observe(event)

    def pass_time(self, now_ns: int) -> None:
        """Let the venue act until ``now_ns``, and execution hear of it."""
        for report in self._loopback.advance(now_ns):
            self._pipeline.feed("execution", report)

    def display(self, event: Event) -> None:
        """Show the venue a market event."""
        self._loopback.on_market(event)

    def publish(self, event: Event) -> None:
        """Put an alert or a mark before the stages that read it; a mark comes after all that the venue did before."""
        self._pipeline.publish(event)

    def consider(self, tally: VoteTally) -> dict[str, float | None]:
        """Put a tally before the stages and return what a decision on it will see. It changes nothing but that what
        the decision before has earned is known now.
        """
        self._tally = tally
        # Feedback keeps the grid time; the votes of a tape have been scored when it was made.
        self._pipeline.feed("feedback", replace(tally, entries=()))
        asked = replace(tally, advice_for=self.desk.strategy)
        _, answers = run_step(self._decider, self._pipeline.state("decider"), asked)
        (advice,) = answers
        assert type(advice) is Decision, "the decider answers a question with a decision marked as advice"
        self._pipeline.feed("feedback", replace(advice, outcome=DecisionOutcome.NO_TRADE))
        return advice.observation

    def decide(self, target: float) -> Decision:
        """Let the decider decide on the tally considered, its policy wanting ``target``; return the decision."""
        assert self._tally is not None, "nothing has been considered"
        self._policy.target = target
        self._decided = None
        self._pipeline.feed("decider", self._tally)
        assert self._decided is not None, "the decider decides on every tally of its horizon"
        return self._decided

    def take_experiences(self) -> list[Experience]:
        """Return what has been learnt of past decisions since the last call."""
        found, self._experiences = self._experiences, []
        return found

    @property
    def equity(self) -> Decimal:
        """What the account is worth by execution's books at the newest mark."""
        account: Any = self._pipeline.state("execution")[f"account/{self.desk.account}"]
        return Decimal(account.equity)

    def state(self, stage: str) -> ShardState:
        """Return the state of a stage, for whoever looks into it."""
        return self._pipeline.state(stage)
