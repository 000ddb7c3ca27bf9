"""All that must hold when a run has come to rest, whatever was done to it."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from schemas.decisions import Decision
from schemas.event import Event
from schemas.feedback import BallotVoided, ExpertScore
from schemas.opinions import FeatureSnapshot, Vote, VoteTally
from schemas.topics import DECISION, EXPERT_VOTE, FEATURE_SNAPSHOT, FEEDBACK_SCORE, VOTE_TALLY
from streams.simulation.money import money_violations
from streams.simulation.truth import ShardTruth, TakenLanes
from streams.simulation.violations import Violation, shortened

if TYPE_CHECKING:
    from streams.simulation.world import World


def violations(world: "World") -> Iterator[Violation]:
    """Yield every promise that the run has not kept."""
    for sentence in world.happened.broken:
        yield Violation("only faults end a process", "a worker", "no broken invariant", sentence)
    if world.happened.broken:
        return  # A run that has not come to rest is rightly incomplete.
    taken = TakenLanes(world.log)
    yield from taken.violations
    yield from _shards(world, taken)
    yield from _connections(taken)
    yield from _ballots(taken)
    yield from money_violations(taken, world.venue, world.plan.run)


def _shards(world: "World", taken: TakenLanes) -> Iterator[Violation]:
    for (stage, shard), rows in sorted(world.database.shards.items()):
        hosting = world.hostings.get(stage)
        if hosting is None:
            continue  # The feed cannot be asked again: its outputs are the input of all others.
        found = ShardTruth(hosting, shard, rows, world.log, taken).violation()
        if found is not None:
            yield found


def _connections(taken: TakenLanes) -> Iterator[Violation]:
    """No generation of the feed is used twice: what two processes wrote never has one number."""
    for (source, lane), records in taken.by_source.items():
        if source.startswith("ingestion/") and len({record.offset for record in records}) != len(records):
            yield Violation("a number is used once", f"{source} on {lane}", "distinct offsets", shortened(records))


def _ballots(taken: TakenLanes) -> Iterator[Violation]:
    """Votes, tallies, scores and decisions are there once each, and only of ballots that were opened."""
    opened = {
        question.ballot_id
        for event in taken.of(FEATURE_SNAPSHOT.name)
        if isinstance(event, FeatureSnapshot)
        for question in event.questions
    }
    tallies = [event for event in taken.of(VOTE_TALLY.name) if isinstance(event, VoteTally)]
    votes = [event for event in taken.of(EXPERT_VOTE.name) if isinstance(event, Vote)]
    scores = [event for event in taken.of(FEEDBACK_SCORE.name) if isinstance(event, ExpertScore | BallotVoided)]
    decisions = [event for event in taken.of(DECISION.name) if isinstance(event, Decision)]
    yield from _once("a vote is given once", [(vote.ballot_id, vote.expert) for vote in votes])
    yield from _once("a ballot is tallied once", [tally.ballot_id for tally in tallies])
    yield from _once("a decision is made once", [decision.decision_id for decision in decisions])
    yield from _once("a ballot is scored once", [_scored(score) for score in scores])
    yield from _once("an event has one id", [event.event_id for event in (*tallies, *votes, *scores, *decisions)])
    closed = {tally.ballot_id for tally in tallies}
    for ballot in sorted(opened ^ closed):
        place = "opened, never tallied" if ballot in opened else "tallied, never opened"
        yield Violation("every ballot is tallied", ballot, "opened and tallied", place)
    said = {(vote.ballot_id, vote.expert): vote for vote in votes}
    for tally in tallies:
        for entry in tally.entries:
            vote = said.get((tally.ballot_id, entry.expert))
            if vote is None or (vote.p_up, vote.p_flat, vote.p_down) != (entry.p_up, entry.p_flat, entry.p_down):
                yield Violation("a tally counts what was said", tally.ballot_id, shortened(vote), shortened(entry))


def _scored(event: Event) -> tuple[str, str]:
    assert isinstance(event, ExpertScore | BallotVoided)
    return event.ballot_id, event.expert if isinstance(event, ExpertScore) else ""


def _once(promise: str, names: list[object]) -> Iterator[Violation]:
    for name, times in Counter(names).items():
        if times > 1:
            yield Violation(promise, str(name), "once", f"{times} times")
