"""A committee of made-up experts over a made-up market whose truth is known: real voting, real feedback, nothing else.

At each second the next move is drawn from a chance that is known; each expert is a function from that chance to what it
says, so that how good and how calibrated it is is known, too.
"""

import random
from collections.abc import Callable, Mapping

from market_inputs import definition
from snapshot_stories import INSTRUMENT, START_NS, make_snapshot

from agents.feedback.config import FeedbackConfig
from agents.feedback.stage import Feedback
from agents.pipeline import Pipeline
from agents.voting.stage import Voting, VotingConfig
from schemas.event import Event, Heartbeat, derive_id
from schemas.opinions import AbstainReason, MarketMark, MarkQuality, Vote
from schemas.values import NS_PER_S

Said = tuple[float, float, float]
Opinion = Callable[[Said, random.Random], Said | None]
"""What an expert says, given the true chances of the next move, or None to abstain."""

MID = 60_000 * 10**8
_FEATURES: dict[str, float | None] = {"volatility": 5e-5, "spread": 10.0**6}
_MOVE = 5 * 10**8
HORIZON_NS = NS_PER_S


def sharpened(truth: Said, power: float) -> Said:
    """Overstate (power above 1) or understate what is true."""
    down, flat, up = (value**power for value in truth)
    total = down + flat + up
    return (down / total, flat / total, up / total)


def uniform(truth: Said, generator: random.Random) -> Said:
    """Know nothing, and say so."""
    del truth, generator
    return (1 / 3, 1 / 3, 1 / 3)


def informed(power: float = 1.0) -> Opinion:
    """Return an expert that knows the true chances and overstates them by ``power``."""
    return lambda truth, _: sharpened(truth, power)


def silent(truth: Said, generator: random.Random) -> None:
    """Abstain."""
    del truth, generator


def tell(experts: Mapping[str, Opinion], steps: int, seed: int = 7) -> list[Event]:
    """Return every event of so many seconds in order: marks, snapshots, votes, tallies and scores."""
    events: list[Event] = []
    instruments = {INSTRUMENT: definition(INSTRUMENT)}
    stages = [Voting(VotingConfig(instruments=instruments)), Feedback(FeedbackConfig(instruments, {}))]
    pipeline = Pipeline(stages, perform=lambda _: (), observe=events.append)
    generator, mid = random.Random(seed), MID
    events.append(instruments[INSTRUMENT])
    for step in range(steps):
        lean = generator.gauss(0.0, 0.8)
        truth = sharpened((0.33 * 2.0**-lean, 0.33, 0.33 * 2.0**lean), 1.0)
        pipeline.publish(_mark(step, mid))
        snapshot = make_snapshot(step, mid, _FEATURES)
        pipeline.publish(snapshot)
        ballot_id = snapshot.questions[0].ballot_id
        for name, opinion in experts.items():
            pipeline.publish(_vote(step, name, ballot_id, opinion(truth, generator)))
        for topic in ("feature.snapshot", "expert.vote"):
            at_ns = START_NS + step * NS_PER_S + NS_PER_S // 2
            beat = Heartbeat(key=topic, event_time_ns=at_ns, available_at_ns=at_ns, event_id=f"{topic}|{step}")
            pipeline.publish(beat)
        mid += _MOVE * (generator.choices((-1, 0, 1), truth)[0])
    return events


def _mark(step: int, mid: int) -> MarketMark:
    at_ns = START_NS + step * NS_PER_S
    return MarketMark(
        key=INSTRUMENT,
        event_time_ns=at_ns,
        available_at_ns=at_ns,
        event_id=derive_id("story", "mark", step),
        mid=mid,
        bid_price=mid - 10**6,
        ask_price=mid + 10**6,
        bid_quantity=None,
        ask_quantity=None,
        volume=None,
        newest_time_ns=at_ns,
        quality=MarkQuality.GOOD,
        on_grid=True,
        grid_time_ns=at_ns,
    )


def _vote(step: int, expert: str, ballot_id: str, said: Said | None) -> Vote:
    at_ns = START_NS + step * NS_PER_S
    down, flat, up = said or (None, None, None)
    return Vote(
        key=INSTRUMENT,
        event_time_ns=at_ns,
        available_at_ns=at_ns,
        event_id=derive_id(expert, "vote", step),
        ballot_id=ballot_id,
        expert=expert,
        horizon_ns=HORIZON_NS,
        expires_at_ns=at_ns + HORIZON_NS,
        p_down=down,
        p_flat=flat,
        p_up=up,
        abstained=None if said else AbstainReason.CONTEXT_ONLY,
    )
