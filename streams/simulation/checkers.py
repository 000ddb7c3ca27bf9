"""All that must hold when a run has come to rest, whatever was done to it."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from schemas.decisions import Decision
from schemas.event import Event, Heartbeat
from schemas.feedback import BallotVoided, ExpertScore
from schemas.opinions import FeatureSnapshot, Vote, VoteTally
from schemas.topics import DECISION, EXPERT_VOTE, FEATURE_SNAPSHOT, FEEDBACK_SCORE, VOTE_TALLY
from streams.simulation.database import ShardRows
from streams.simulation.money import money_violations
from streams.simulation.obedience import kill_violations, obedience_violations
from streams.simulation.plan import PARTITIONS
from streams.simulation.taken import TakenLanes
from streams.simulation.truth import ShardTruth
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
    yield from obedience_violations(taken, world.database.commands)
    yield from _connections(taken)
    yield from _ballots(taken)
    yield from money_violations(taken, world.venue, world.plan.run)


def _shards(world: "World", taken: TakenLanes) -> Iterator[Violation]:
    refused = set(taken.refused)
    for (stage, shard), rows in sorted(world.database.shards.items()):
        hosting = world.hostings.get(stage)
        if hosting is None:
            continue  # The feed cannot be asked again: its outputs are the input of all others.
        truth = ShardTruth(hosting, shard, rows, world.log, taken)
        found = truth.violation() or _stretch(world, ShardTruth(hosting, shard, rows, world.log, taken), rows)
        if found is not None:
            yield found
        refused |= truth.refused
        yield from kill_violations(truth.story)
    for place in sorted(refused ^ taken.letters, key=str):
        sides = ("a dead letter", "none") if place in refused else ("none", "a dead letter")
        yield Violation("every refused record is a dead letter", str(place), *sides)


def _stretch(world: "World", truth: ShardTruth, rows: ShardRows) -> Violation | None:
    """Recompute from one of the snapshots; each has been compared with the truth where it was kept."""
    if not rows.snapshots:
        return None
    batches = sorted(rows.snapshots)
    truth.begin_with(rows.snapshots[batches[world.plan.seed % len(batches)]])
    return truth.violation()


def _connections(taken: TakenLanes) -> Iterator[Violation]:
    """No generation of the feed is used twice: what two processes wrote never has one number."""
    for (source, lane), records in taken.by_source.items():
        if source.startswith("ingestion/") and len({record.offset for record in records}) != len(records):
            yield Violation("a number is used once", f"{source} on {lane}", "distinct offsets", shortened(records))


def _ballots(taken: TakenLanes) -> Iterator[Violation]:
    """Votes, tallies, scores and decisions are there once each, and only of ballots that were opened."""
    opened, awaited = _opened(taken)
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
    for ballot in sorted((opened | awaited & closed) ^ closed):
        place = "opened, never tallied" if ballot in opened else "tallied, never opened"
        yield Violation("every ballot is tallied", ballot, "opened and tallied", place)
    said = {(vote.ballot_id, vote.expert): vote for vote in votes}
    for tally in tallies:
        for entry in tally.entries:
            vote = said.get((tally.ballot_id, entry.expert))
            if vote is None or (vote.p_up, vote.p_flat, vote.p_down) != (entry.p_up, entry.p_flat, entry.p_down):
                yield Violation("a tally counts what was said", tally.ballot_id, shortened(vote), shortened(entry))


def _opened(taken: TakenLanes) -> tuple[set[str], set[str]]:
    """Return the ballots that must be closed, and those whose deadline had not come when time ended."""
    opened: set[str] = set()
    awaited: set[str] = set()
    for partition in range(PARTITIONS):
        lanes = [taken.events.get((topic.name, partition), []) for topic in (FEATURE_SNAPSHOT, EXPERT_VOTE)]
        beats = [[event.available_at_ns for event in lane if isinstance(event, Heartbeat)] for lane in lanes]
        ended_ns = min(max(times, default=0) for times in beats)
        for event in lanes[0]:
            if isinstance(event, FeatureSnapshot):
                ballots = opened if event.deadline_ns <= ended_ns else awaited
                ballots.update(question.ballot_id for question in event.questions)
    return opened, awaited


def _scored(event: Event) -> tuple[str, str]:
    assert isinstance(event, ExpertScore | BallotVoided)
    return event.ballot_id, event.expert if isinstance(event, ExpertScore) else ""


def _once(promise: str, names: list[object]) -> Iterator[Violation]:
    for name, times in Counter(names).items():
        if times > 1:
            yield Violation(promise, str(name), "once", f"{times} times")
