"""The platform's money stages as Gymnasium environments: what a policy trains in is what it will act in.

Each step runs the real decider, risk, execution, simulated venue and feedback; an action is what the decider's policy
wants (a target of ``agents.decider.policy.TARGETS``), and the reward is made of the Experience that feedback tells. So
limits, sizing, partial fills, costs and the projection on what is allowed cannot differ between training and life.

``TradingEnvironment`` trades on tapes, whose tallies are made once and which no order moves. ``ImpactEnvironment``
trades on the full simulated exchange, where size moves the price, with all stages at every step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from agents.decider.encoding import (
    CONTEXT_FEATURES,
    CONTEXT_HIGH,
    CONTEXT_LOW,
    MAX_VOTES,
    VOTE_FEATURES,
    VOTE_HIGH,
    VOTE_LOW,
    encode,
)
from agents.decider.policy import TARGETS
from agents.reward.experience import Standing, rewarded
from agents.reward.shaping import RewardTerms
from agents.sim.committee import VoteSource, directional, reseated
from agents.sim.desk import Desk, Session
from agents.sim.engine import Engine
from agents.sim.impact import ImpactMarket, ImpactTerms
from agents.sim.replay_engine import ReplayEngine
from agents.sim.tape import Tape, TapeStep
from agents.voting.pool import PoolConfig
from schemas.event import Event
from schemas.market import BookSnapshot, Quality, QualityKind, Quote
from schemas.opinions import TallyEntry, VoteTally
from schemas.values import ZERO

Seen = dict[str, npt.NDArray[np.float32]]
Info = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentTerms:
    """How episodes are made.

    ``episode_steps``: decisions of an episode, None for a whole tape. ``dropout``: the chance of each expert to be
    away for an episode; one always stays. ``voters`` sit with the committee of a tape. ``reward`` shapes rewards,
    ``pool`` bounds the weights where the committee is another than the tape's. Raises ValueError for what is no such
    term.
    """

    episode_steps: int | None = 512
    dropout: float = 0.0
    voters: tuple[VoteSource, ...] = ()
    reward: RewardTerms = field(default_factory=RewardTerms)
    pool: PoolConfig = field(default_factory=PoolConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1 or (self.episode_steps is not None and self.episode_steps < 1):
            raise ValueError(f"An episode has 1 or more steps, and a dropout lies in [0, 1), not {self}.")


class Market(Protocol):
    """Where an episode trades: an engine for orders, and steps."""

    @property
    def engine(self) -> Engine:
        """What the session's venue matches with."""

    def next(self, session: Session) -> TapeStep:
        """Bring venue and display up to the next step, and return it."""


class TapeMarket:
    """A stretch of a tape as a market. ``index`` is that of the newest step."""

    def __init__(self, tape: Tape, start: int) -> None:
        self.tape = tape
        self.index = start - 1
        self.engine = ReplayEngine(tape.desk.fill_max, tape.desk.slippage)
        self._has_book = False
        self._standing = tape.alerts_before(start)
        self._later: tuple[BookSnapshot | Quote, ...] = ()

    def next(self, session: Session) -> TapeStep:
        """What was on its way meets the former display, then the next one is shown; first, what alerts still stand."""
        self.index += 1
        step = self.tape.step(self.index)
        if self._standing:
            step, self._standing = replace(step, alerts=(*self._standing, *step.alerts)), ()
        for shown in self._later:
            self._display(session, shown)
        session.pass_time(step.tally.grid_time_ns)
        shown_now = step.book or step.quote
        if shown_now is not None:
            self._display(session, shown_now)
        self._later = step.later
        return step

    def _display(self, session: Session, shown: BookSnapshot | Quote) -> None:
        """Show the venue what is displayed; a quote alone counts only once the book before it does not."""
        deep = type(shown) is BookSnapshot
        if self._has_book and not deep:
            session.display(_unsynchronised(shown))
        self._has_book = deep
        session.display(shown)


def _unsynchronised(shown: Event) -> Quality:
    at_ns = shown.available_at_ns
    return Quality(key=shown.key, event_time_ns=at_ns, available_at_ns=at_ns, kind=QualityKind.UNSYNCHRONISED)


class _Environment(gymnasium.Env[Seen, np.int64]):
    """One step after the other. ``_begin`` makes the market of an episode, and says how many steps it has."""

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, terms: EnvironmentTerms, seed: int) -> None:
        votes = (MAX_VOTES, len(VOTE_FEATURES))
        self.observation_space: gymnasium.spaces.Dict = gymnasium.spaces.Dict(  # type: ignore[assignment]
            {
                "votes": gymnasium.spaces.Box(
                    np.minimum(np.broadcast_to(VOTE_LOW, votes), 0), np.broadcast_to(VOTE_HIGH, votes), dtype=np.float32
                ),
                "present": gymnasium.spaces.Box(0.0, 1.0, (MAX_VOTES,), np.float32),
                "context": gymnasium.spaces.Box(CONTEXT_LOW, CONTEXT_HIGH, (len(CONTEXT_FEATURES),), np.float32),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(len(TARGETS))
        self.terms = terms
        self._first_seed: int | None = seed
        self._away: frozenset[str] | None = None
        self._left = 0
        self.observe: Callable[[Event], None] | None = None
        """Who sees each event of the episodes to come that would have gone to a topic."""

    def _begin(self, options: Mapping[str, Any]) -> tuple[Desk, Market, int]:
        raise NotImplementedError

    def _session_on(self, desk: Desk, engine: Engine) -> Session:
        return Session(desk, engine, self.observe)

    def _shown(self, observation: Mapping[str, float | None]) -> Seen:
        return padded(observation)

    def _guests(self) -> list[TallyEntry]:
        return []

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Seen, Info]:
        """Begin an episode with a fresh account; without a seed the next of those that follow the constructor's."""
        if seed is None:
            seed = self._first_seed
        self._first_seed = None
        super().reset(seed=seed)
        desk, self._market, self._left = self._begin(options or {})
        self.session = self._session_on(desk, self._market.engine)
        self._standing = Standing()
        self._away = None
        seen = self._next()
        self.session.take_experiences()
        return seen, {"away": sorted(self._away or ())}

    def step(self, action: np.int64 | int) -> tuple[Seen, float, bool, bool, Info]:
        """Let the decider want a target, and return what it sees at the next tally and what this decision earned.

        ``info``: ``target`` as decided and ``effective`` as held, shares of the budget; ``net_return``, a share of the
        budget; ``pnl``, ``fees`` and ``slippage``, exact money of the account (Decimal).
        """
        assert self._left > 0, "the episode is over: reset the environment"
        decision = self.session.decide(TARGETS[int(action)])
        seen = self._next()
        reward, info = self._earned()
        info["target"] = decision.target
        self._left -= 1
        return seen, reward, False, self._left == 0, info

    def _next(self) -> Seen:
        session = self.session
        step = self._market.next(session)
        for alert in step.alerts:
            session.publish(alert)
        for mark in step.marks:
            session.publish(mark)
        return self._shown(session.consider(self._seated(step.tally)))

    def _seated(self, tally: VoteTally) -> VoteTally:
        if self._away is None:
            self._away = self._draw_away(tally)
        guests = self._guests()
        return reseated(tally, self._away, guests, self.terms.pool) if guests or self._away else tally

    def _draw_away(self, tally: VoteTally) -> frozenset[str]:
        """Return who is away for the episode, of those who give a direction on its first tally (or else of all)."""
        names = sorted(directional(tally)) or sorted(entry.expert for entry in tally.entries)
        if not self.terms.dropout or not names:
            return frozenset()
        absent = self.np_random.random(len(names)) < self.terms.dropout
        stays = names[int(self.np_random.integers(len(names)))]
        return frozenset(name for name, away in zip(names, absent, strict=True) if away and name != stays)

    def _earned(self) -> tuple[float, Info]:
        """Return the reward of what was told of past decisions; of a step without a mid nothing is told before one."""
        reward, pnl, fees, slippage = 0.0, ZERO, ZERO, ZERO
        budget = self.session.desk.budget
        for experience in self.session.take_experiences():
            self._standing, worth = rewarded(self._standing, experience, budget, self.terms.reward)
            reward += worth
            pnl += experience.pnl
            fees += experience.fees
            slippage += experience.slippage
        net = pnl - fees - slippage
        info: Info = {
            "net_return": float(net / budget),
            "pnl": pnl,
            "fees": fees,
            "slippage": slippage,
            "effective": self._standing.effective,
        }
        return reward, info


class TradingEnvironment(_Environment):
    """Episodes over random stretches of tapes, drawn in proportion to their lengths.

    Options of ``reset``: ``tape`` and ``start`` (indices) instead of a draw, ``steps`` instead of the terms' length.
    Raises ValueError for tapes that are too short.
    """

    def __init__(self, tapes: Sequence[Tape], terms: EnvironmentTerms, seed: int) -> None:
        super().__init__(terms, seed)
        self.tapes = tuple(tapes)
        needed = 1 + (terms.episode_steps or 1)
        if not self.tapes or min(map(len, self.tapes)) < needed:
            raise ValueError(f"An episode needs a tape of {needed} or more steps.")

    def _begin(self, options: Mapping[str, Any]) -> tuple[Desk, Market, int]:
        wanted: int | None = options.get("steps", self.terms.episode_steps)
        starts = [max(1, len(tape) - (wanted or len(tape) - 1)) for tape in self.tapes]
        draw = int(self.np_random.integers(sum(starts)))
        chosen = 0
        while draw >= starts[chosen]:
            draw -= starts[chosen]
            chosen += 1
        if "tape" in options:
            chosen = int(options["tape"])
            draw = int(self.np_random.integers(starts[chosen]))
        start = int(options.get("start", draw))
        tape = self.tapes[chosen]
        steps = len(tape) - 1 - start if wanted is None else wanted
        if start < 0 or not 0 < steps < len(tape) - start:
            raise ValueError(f"Tape {chosen} has {len(tape)} steps: none has {steps} steps from {start} on.")
        self._tape_market = TapeMarket(tape, start)
        return tape.desk, self._tape_market, steps

    def _guests(self) -> list[TallyEntry]:
        tape, index = self._tape_market.tape, self._tape_market.index
        said = (voter.entry(tape, index) for voter in self.terms.voters)
        return [entry for entry in said if entry is not None]


class ImpactEnvironment(_Environment):
    """Episodes on the full simulated exchange, each with a market of its own: size moves the price. Slow.

    Nobody knows what comes, so that no voters of a tape can sit here (ValueError), and an episode has an end.
    """

    def __init__(self, market: ImpactTerms, terms: EnvironmentTerms, seed: int) -> None:
        if terms.voters or terms.episode_steps is None:
            raise ValueError("On the exchange itself an episode has a length, and none but its own experts vote.")
        super().__init__(terms, seed)
        self._terms = market

    def _begin(self, options: Mapping[str, Any]) -> tuple[Desk, Market, int]:
        market = ImpactMarket(self._terms, int(self.np_random.integers(2**31)))
        return self._terms.desk, market, int(options.get("steps", self.terms.episode_steps))


def padded(observation: Mapping[str, float | None]) -> Seen:
    """Return what a network is shown of an observation: its votes as rows, those that are none as zeros."""
    votes, context = encode(observation)
    count = len(votes)
    assert count <= MAX_VOTES, f"{count} directional votes are more than the {MAX_VOTES} that training pads to"
    rows = np.zeros((MAX_VOTES, len(VOTE_FEATURES)), dtype=np.float32)
    rows[:count] = votes
    present = np.zeros(MAX_VOTES, dtype=np.float32)
    present[:count] = 1.0
    return {"votes": rows, "present": present, "context": context}
