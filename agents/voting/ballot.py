"""The life of a ballot: opened by a snapshot, answered by votes, closed when all that live have answered or in time.

Votes and snapshots come on two topics, so a vote may come first: it is kept, within bounds, until its snapshot can
no longer come in time. *Now* is given by the caller. Whoever sent any vote, in time or late, for one of the last
ballots is live; a ballot waits for those that were live when it opened, and for its deadline when nobody was.
Everything a foreign expert can make up (names, ballot ids, evidence) is bounded here.
"""

from dataclasses import dataclass

import msgspec

from schemas.opinions import AbstainReason, FeatureSnapshot, Question, Vote
from schemas.values import NS_PER_MS


@dataclass(frozen=True)
class BallotConfig:
    """Bounds on what is kept per (instrument, horizon). ``early_keep_ns`` is the deadline of a ballot."""

    live_ballots: int = 20
    experts_max: int = 64
    early_max: int = 1024
    early_keep_ns: int = 500 * NS_PER_MS
    open_max: int = 256
    evidence_max: int = 32
    evidence_name_max: int = 64

    def __post_init__(self) -> None:
        """Refuse bounds under which no ballot could be held."""
        assert min(self.live_ballots, self.experts_max, self.early_max, self.open_max) >= 1


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of a vote. Times in ns."""

    expert: str
    p_down: float | None
    p_flat: float | None
    p_up: float | None
    abstained: AbstainReason | None
    text_fed: bool
    evidence: dict[str, float | None]
    context: dict[str, float]
    available_at_ns: int
    expires_at_ns: int


class Sheet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a tally takes over from its snapshot. Times in ns, mid and spread in units of 1e-8."""

    snapshot_id: str
    grid_time_ns: int
    deadline_ns: int
    event_time_ns: int
    available_at_ns: int
    mid: int | None
    volatility: float | None
    spread: int | None


class OpenBallot(msgspec.Struct, kw_only=True):
    """One ballot: for whom it waits, who has answered, and once it is closed whether by ``ALL`` or ``DEADLINE``."""

    ballot_id: str
    flat_band: int
    sheet: Sheet
    awaiting: list[str]
    answers: dict[str, Answer] = {}
    closed_by: str = ""


class Committee(msgspec.Struct, kw_only=True):
    """The ballots of one (instrument, horizon).

    ``opened`` counts ballots; ``recent`` maps the last ones to their number and ``voters`` each expert to the newest
    number it voted for. ``newest`` is each expert's last vote in time. ``refused`` counts votes beyond the bounds.
    """

    opened: int = 0
    open: dict[str, OpenBallot] = {}
    recent: dict[str, int] = {}
    voters: dict[str, int] = {}
    newest: dict[str, Answer] = {}
    early: dict[str, dict[str, Answer]] = {}
    early_count: int = 0
    refused: int = 0
    flat_band: int = 0


def sheet_of(snapshot: FeatureSnapshot) -> Sheet:
    """Return what the tallies of a snapshot's ballots say of the market."""
    spread = snapshot.features.get("spread")
    return Sheet(
        snapshot_id=snapshot.event_id,
        grid_time_ns=snapshot.grid_time_ns,
        deadline_ns=snapshot.deadline_ns,
        event_time_ns=snapshot.event_time_ns,
        available_at_ns=snapshot.available_at_ns,
        mid=snapshot.mid,
        volatility=snapshot.features.get("volatility"),
        spread=None if spread is None else round(spread),
    )


def answer_of(config: BallotConfig, vote: Vote) -> Answer:
    """Return what is kept of a vote; evidence beyond the bounds is left out."""
    evidence = vote.evidence
    if len(evidence) > config.evidence_max or any(len(name) > config.evidence_name_max for name in evidence):
        short = ((name, value) for name, value in evidence.items() if len(name) <= config.evidence_name_max)
        evidence = dict(item for item, _ in zip(short, range(config.evidence_max), strict=False))
    return Answer(
        expert=vote.expert,
        p_down=vote.p_down,
        p_flat=vote.p_flat,
        p_up=vote.p_up,
        abstained=vote.abstained,
        text_fed=vote.text_fed,
        evidence=evidence,
        context=vote.context,
        available_at_ns=vote.available_at_ns,
        expires_at_ns=vote.expires_at_ns,
    )


def live_experts(config: BallotConfig, committee: Committee) -> list[str]:
    """Return who sent any vote for one of the last ballots, by name."""
    oldest = committee.opened - config.live_ballots
    return sorted(name for name, number in committee.voters.items() if number > oldest)


def open_ballot(config: BallotConfig, committee: Committee, sheet: Sheet, question: Question) -> list[OpenBallot]:
    """Open the ballot of a question; return what closed by it: itself, if all had voted early, or one too many."""
    if question.ballot_id in committee.recent:
        return []
    live = live_experts(config, committee)
    committee.opened += 1
    committee.flat_band = question.flat_band
    committee.recent[question.ballot_id] = committee.opened
    if len(committee.recent) > config.live_ballots:
        del committee.recent[next(iter(committee.recent))]
    ballot = OpenBallot(ballot_id=question.ballot_id, flat_band=question.flat_band, sheet=sheet, awaiting=live)
    committee.open[ballot.ballot_id] = ballot
    early = committee.early.pop(ballot.ballot_id, {})
    committee.early_count -= len(early)
    closed = []
    for answer in early.values():
        closed += take_answer(config, committee, ballot.ballot_id, answer)
    if len(committee.open) > config.open_max:
        closed.append(_close(committee, next(iter(committee.open)), "DEADLINE"))
    return closed


def take_answer(config: BallotConfig, committee: Committee, ballot_id: str, answer: Answer) -> list[OpenBallot]:
    """Count a vote for a ballot; return the ballot if that closed it. The first vote of an expert counts."""
    number = committee.recent.get(ballot_id)
    ballot = committee.open.get(ballot_id)
    if number is None and ballot is None:
        _keep_early(config, committee, ballot_id, answer)
        return []
    if not _admitted(config, committee, answer.expert):
        committee.refused += 1
        return []
    if number is not None:
        committee.voters[answer.expert] = max(number, committee.voters.get(answer.expert, 0))
    if ballot is None or answer.expert in ballot.answers:
        return []
    ballot.answers[answer.expert] = answer
    committee.newest[answer.expert] = answer
    if answer.expert in ballot.awaiting:
        ballot.awaiting.remove(answer.expert)
        if not ballot.awaiting:
            return [_close(committee, ballot_id, "ALL")]
    return []


def close_due(config: BallotConfig, committee: Committee, now_ns: int) -> list[OpenBallot]:
    """Close what has reached its deadline by ``now_ns``, in the order of opening, and forget early votes too old."""
    due = [name for name, ballot in committee.open.items() if ballot.sheet.deadline_ns <= now_ns]
    for ballot_id in list(committee.early):
        waiting = committee.early[ballot_id]
        newest_ns = max(answer.available_at_ns for answer in waiting.values())
        if newest_ns + config.early_keep_ns < now_ns:
            committee.early_count -= len(waiting)
            del committee.early[ballot_id]
    return [_close(committee, ballot_id, "DEADLINE") for ballot_id in due]


def has_due(config: BallotConfig, committee: Committee, now_ns: int) -> bool:
    """Return whether ``close_due`` would change anything, so that an idle committee is not written again."""
    if any(ballot.sheet.deadline_ns <= now_ns for ballot in committee.open.values()):
        return True
    return any(
        all(answer.available_at_ns + config.early_keep_ns < now_ns for answer in waiting.values())
        for waiting in committee.early.values()
    )


def unexpired_answers(config: BallotConfig, committee: Committee, now_ns: int) -> dict[str, Answer]:
    """Return each live expert's newest vote that still holds at ``now_ns``."""
    live = live_experts(config, committee)
    newest = committee.newest
    return {name: newest[name] for name in live if name in newest and newest[name].expires_at_ns >= now_ns}


def _close(committee: Committee, ballot_id: str, closed_by: str) -> OpenBallot:
    ballot = committee.open.pop(ballot_id)
    ballot.closed_by = closed_by
    return ballot


def _admitted(config: BallotConfig, committee: Committee, expert: str) -> bool:
    if expert in committee.voters or len(committee.voters) < config.experts_max:
        return True
    live = set(live_experts(config, committee))
    for name in [name for name in committee.voters if name not in live]:
        del committee.voters[name]
        committee.newest.pop(name, None)
    return len(committee.voters) < config.experts_max


def _keep_early(config: BallotConfig, committee: Committee, ballot_id: str, answer: Answer) -> None:
    waiting = committee.early.setdefault(ballot_id, {})
    if answer.expert in waiting:
        return
    waiting[answer.expert] = answer
    committee.early_count += 1
    if committee.early_count > config.early_max:
        oldest_id = next(iter(committee.early))
        oldest = committee.early[oldest_id]
        del oldest[next(iter(oldest))]
        if not oldest:
            del committee.early[oldest_id]
        committee.early_count -= 1
        committee.refused += 1
