"""Ballots from tally to score, whichever comes first: the tally or the mark at its horizon.

Tally and mark come by two topics. A ballot is settled by the set of marks up to the first grid mark at or after
its horizon, and ballots of one horizon in the order of their tallies; neither depends on which topic was ahead.
"""

from collections.abc import Sequence

from agents.feedback.config import FeedbackConfig
from agents.feedback.scoring import Forecast, base_rate, log_loss, outcome_of
from agents.feedback.state import InstrumentBallots, KeptMark, OpenBallot, OpenVote
from schemas.event import Event
from schemas.feedback import BallotVoided, ExpertScore, VoidReason
from schemas.opinions import MarketMark, MarkQuality, TallyEntry, VoteTally


def open_ballot(book: InstrumentBallots, tally: VoteTally) -> None:
    """Put a tallied ballot into the queue of its horizon."""
    ballot = OpenBallot(
        ballot_id=tally.ballot_id,
        horizon_ns=tally.horizon_ns,
        grid_time_ns=tally.grid_time_ns,
        available_at_ns=tally.available_at_ns,
        flat_band=tally.flat_band,
        mid=tally.mid,
        pool=_forecast(tally),
        votes=tuple(
            OpenVote(expert=entry.expert, forecast=_forecast(entry), calibrated=_calibrated(entry))
            for entry in tally.entries
        ),
    )
    book.queues.setdefault(str(tally.horizon_ns), []).append(ballot)


def _forecast(said: TallyEntry | VoteTally) -> Forecast | None:
    if said.p_down is None or said.p_flat is None or said.p_up is None:
        return None
    return said.p_down, said.p_flat, said.p_up


def _calibrated(entry: TallyEntry) -> Forecast | None:
    if entry.calibrated_down is None or entry.calibrated_flat is None or entry.calibrated_up is None:
        return None
    return entry.calibrated_down, entry.calibrated_flat, entry.calibrated_up


def keep_mark(book: InstrumentBallots, mark: MarketMark, keep_ns: int) -> bool:
    """Keep a mark that a ballot may need, forget those older than ``keep_ns``; return whether it was kept."""
    gap = mark.quality is MarkQuality.GAP
    if not mark.on_grid and not gap:
        return False
    time_ns = mark.grid_time_ns if mark.on_grid else mark.available_at_ns
    book.marks.append(KeptMark(time_ns=time_ns, on_grid=mark.on_grid, mid=mark.mid, gap=gap))
    old = 0
    while book.marks[old].time_ns < time_ns - keep_ns:
        old += 1
    if old:
        book.forgotten_ns = max(book.forgotten_ns, book.marks[old - 1].time_ns)
        del book.marks[:old]
    return True


def settle(book: InstrumentBallots, instrument: str, now_ns: int, config: FeedbackConfig) -> list[Event]:
    """Score or void every ballot that can be, from the head of each queue."""
    events: list[Event] = []
    newest_ns = _newest_grid_ns(book)
    for queue in book.queues.values():
        settled = 0
        for ballot in queue:
            if newest_ns < ballot.due_ns and now_ns <= ballot.due_ns + config.grace_ns:
                break  # Its end has not come, and may still come: most looks end here.
            verdict = _verdict(book, ballot, instrument, now_ns, config)
            if verdict is None:
                break
            events += verdict
            settled += 1
        del queue[:settled]
    return events


def overdue(book: InstrumentBallots, now_ns: int, config: FeedbackConfig) -> bool:
    """Return whether the oldest ballot of any horizon has waited past its grace."""
    return any(queue and now_ns > queue[0].due_ns + config.grace_ns for queue in book.queues.values())


def _newest_grid_ns(book: InstrumentBallots) -> int:
    """Return the newest grid time that is kept, 0 without one; grid times rise."""
    return next((mark.time_ns for mark in reversed(book.marks) if mark.on_grid), 0)


def _verdict(
    book: InstrumentBallots, ballot: OpenBallot, instrument: str, now_ns: int, config: FeedbackConfig
) -> Sequence[Event] | None:
    inside: list[KeptMark] = []
    for mark in book.marks:
        if mark.time_ns <= ballot.grid_time_ns:
            continue
        inside.append(mark)
        if mark.on_grid and mark.time_ns >= ballot.due_ns:
            break
    else:
        if now_ns <= ballot.due_ns + config.grace_ns:
            return None
        return (_voided(ballot, instrument, VoidReason.NO_MARK, now_ns),)
    end = inside[-1]
    at_ns = max(ballot.available_at_ns, end.time_ns)
    if ballot.grid_time_ns < book.forgotten_ns:
        # The tally came so late that marks inside its horizon may be gone: nothing can be said of it any more.
        return (_voided(ballot, instrument, VoidReason.NO_MARK, at_ns),)
    if any(mark.gap for mark in inside):
        return (_voided(ballot, instrument, VoidReason.GAP, at_ns),)
    if ballot.mid is None or end.mid is None or any(mark.mid is None for mark in inside):
        return (_voided(ballot, instrument, VoidReason.NO_MID, at_ns),)
    counts = book.counts.setdefault(str(ballot.horizon_ns), [0, 0, 0])
    scores = _scores(ballot, instrument, end.mid - ballot.mid, base_rate(counts), (at_ns, config.probability_floor))
    counts[outcome_of(end.mid - ballot.mid, ballot.flat_band) + 1] += 1
    return scores


def _voided(ballot: OpenBallot, instrument: str, reason: VoidReason, at_ns: int) -> BallotVoided:
    return BallotVoided(
        key=instrument,
        event_time_ns=ballot.due_ns,
        available_at_ns=at_ns,
        ballot_id=ballot.ballot_id,
        horizon_ns=ballot.horizon_ns,
        reason=reason,
    )


def _scores(
    ballot: OpenBallot, instrument: str, move: int, base: Forecast, when_and_floor: tuple[int, float]
) -> list[ExpertScore]:
    at_ns, floor = when_and_floor
    outcome = outcome_of(move, ballot.flat_band)
    base_loss = log_loss(base, outcome, floor)
    # When nobody gave a direction the pool knew no more than the base rate.
    pool_loss = base_loss if ballot.pool is None else log_loss(ballot.pool, outcome, floor)
    scores = []
    for vote in ballot.votes:
        down, flat, up = vote.forecast or (None, None, None)
        score = ExpertScore(
            key=instrument,
            event_time_ns=ballot.due_ns,
            available_at_ns=at_ns,
            ballot_id=ballot.ballot_id,
            expert=vote.expert,
            horizon_ns=ballot.horizon_ns,
            outcome=outcome,
            move=move,
            loss=pool_loss if vote.forecast is None else log_loss(vote.forecast, outcome, floor),
            base_loss=base_loss,
            pool_loss=pool_loss,
            abstained=vote.forecast is None,
            p_down=down,
            p_flat=flat,
            p_up=up,
            calibrated_loss=None if vote.calibrated is None else log_loss(vote.calibrated, outcome, floor),
        )
        scores.append(score)
    return scores
