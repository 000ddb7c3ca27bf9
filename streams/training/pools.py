"""The committee's tally made anew: with another voter, of one expert alone, with equal weights, or without its votes.

What would have been pooled had somebody else voted, too, is worked out by the voting stage's and the feedback stage's
own functions in the order in which a run calls them: each ballot is tallied before the scores of its own grid time are
known. With nobody else the tallies are the run's own, to the last bit, which a test holds.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from agents.feedback.ballots import keep_mark, open_ballot, settle
from agents.feedback.config import FeedbackConfig
from agents.feedback.state import InstrumentBallots
from agents.sim.committee import VoteSource
from agents.sim.tape import Tape
from agents.voting.ballot import Answer, Sheet
from agents.voting.calibration import CalibrationConfig, take_outcome
from agents.voting.pool import PoolConfig, Probabilities, disagreement, pooled
from agents.voting.tally import Closing, Tallying, let_in, tally
from agents.voting.weights import Weights, WeightsConfig, learn
from schemas.feedback import ExpertScore
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark, TallyEntry, VoteTally

TALLYING: Final = Tallying(PoolConfig(), WeightsConfig(), CalibrationConfig())
_BY_DEADLINE: Final = "DEADLINE"


def pooled_anew(tape: Tape, joining: Sequence[VoteSource] = ()) -> list[VoteTally]:
    """Return the tape's tallies as they would have been had ``joining`` voted from its first ballot on.

    The tape must reach back to the beginning of its run, where nobody had been scored. Those who join begin as any new
    expert does: at the prior weight, with their votes taken as they are said.
    """
    scoring = _Scoring(tape.desk.instrument)
    made: list[VoteTally] = []
    for index in range(len(tape)):
        step = tape.step(index)
        if step.tally.closed_by == _BY_DEADLINE:
            scoring.take_marks(step.marks)
        spoken = (voter.entry(tape, index) for voter in joining)
        answers = {
            entry.expert: _answer(step.tally, entry) for entry in (*step.tally.entries, *spoken) if entry is not None
        }
        let_in(TALLYING, scoring.weights, answers)
        new = tally(TALLYING, _closing(step.tally), _sheet(step.tally), answers, scoring.weights)
        made.append(_with(step.tally, _pool(new), new.disagreement, new.entries))
        scoring.take_tally(made[-1])
        if step.tally.closed_by != _BY_DEADLINE:
            scoring.take_marks(step.marks)
    return made


class _Scoring:
    """Feedback on one horizon, and what voting learns from it: weights and calibrators."""

    def __init__(self, instrument: InstrumentDefined) -> None:
        self.weights = Weights()
        self._instrument = instrument
        self._config = FeedbackConfig(instruments={instrument.key: instrument}, strategies={})
        self._keep_ns = max(instrument.horizons_ns) + 2 * self._config.grace_ns
        self._book = InstrumentBallots()
        self._now_ns = 0

    def take_tally(self, new: VoteTally) -> None:
        open_ballot(self._book, new)
        self._settle()

    def take_marks(self, marks: Iterable[MarketMark]) -> None:
        for mark in marks:
            self._now_ns = max(self._now_ns, mark.available_at_ns)
            if keep_mark(self._book, mark, self._keep_ns):
                self._settle()

    def _settle(self) -> None:
        for score in settle(self._book, self._instrument.key, self._now_ns, self._config):
            if isinstance(score, ExpertScore):
                self._learn(score)

    def _learn(self, score: ExpertScore) -> None:
        delay = score.horizon_ns // self._instrument.grid_ns
        counted = learn(TALLYING.weights, self.weights, score, delay)
        if counted and score.p_down is not None and score.p_flat is not None and score.p_up is not None:
            said = (score.p_down, score.p_flat, score.p_up)
            calibrator = self.weights.standings[score.expert].calibrator
            take_outcome(TALLYING.calibration, calibrator, said, score.outcome, overlap=delay)


def of_one(tallies: Iterable[VoteTally], expert: str) -> Iterator[VoteTally]:
    """Yield tallies whose pool is one expert's calibrated vote, and nobody else's; empty where it abstained."""
    for old in tallies:
        own = tuple(entry for entry in old.entries if entry.expert == expert)
        meant = _meant(own[0]) if own else None
        yield _with(old, meant or (None, None, None), 0.0 if meant else None, own)


def equally_weighed(tallies: Iterable[VoteTally]) -> Iterator[VoteTally]:
    """Yield tallies pooled, in log space and as calibrated, with the same weight for all who gave a direction."""
    for old in tallies:
        votes = [meant for entry in old.entries if (meant := _meant(entry)) is not None]
        share = [1 / max(1, len(votes))] * len(votes)
        pool = pooled(TALLYING.pool, votes, share) if votes else (None, None, None)
        entries = tuple(
            replace(entry, weight=0.0 if _meant(entry) is None else 1 / len(votes)) for entry in old.entries
        )
        yield _with(old, pool, disagreement(votes, share) if votes else None, entries)


def without_votes(tallies: Iterable[VoteTally]) -> Iterator[VoteTally]:
    """Yield tallies that keep their pool and tell nobody's vote: what a policy sees that sees the pool only."""
    for old in tallies:
        yield _with(old, _pool(old), old.disagreement, ())


def experts_in(tallies: Iterable[VoteTally]) -> list[str]:
    """Return who gave a direction at least once, by name."""
    return sorted({entry.expert for one in tallies for entry in one.entries if entry.p_up is not None})


def _meant(entry: TallyEntry) -> Probabilities | None:
    down, flat, up = entry.calibrated_down, entry.calibrated_flat, entry.calibrated_up
    return None if down is None or flat is None or up is None else (down, flat, up)


def _pool(old: VoteTally) -> tuple[float | None, float | None, float | None]:
    return old.p_down, old.p_flat, old.p_up


def _with(
    old: VoteTally,
    pool: tuple[float | None, float | None, float | None],
    apart: float | None,
    entries: tuple[TallyEntry, ...],
) -> VoteTally:
    down, flat, up = pool
    return replace(old, p_down=down, p_flat=flat, p_up=up, disagreement=apart, entries=entries)


def _answer(old: VoteTally, entry: TallyEntry) -> Answer:
    """An entry as the vote that it was. No expert of ours is fed by text; what is would need to be told here."""
    return Answer(
        expert=entry.expert,
        p_down=entry.p_down,
        p_flat=entry.p_flat,
        p_up=entry.p_up,
        abstained=entry.abstained,
        text_fed=False,
        evidence=entry.evidence,
        context={},
        available_at_ns=old.available_at_ns,
        expires_at_ns=old.available_at_ns,
    )


def _closing(old: VoteTally) -> Closing:
    return Closing(
        instrument=old.key,
        ballot_id=old.ballot_id,
        horizon_ns=old.horizon_ns,
        flat_band=old.flat_band,
        closed_by=old.closed_by,
        closed_at_ns=old.available_at_ns,
        late=old.late,
    )


def _sheet(old: VoteTally) -> Sheet:
    return Sheet(
        snapshot_id=old.snapshot_id,
        grid_time_ns=old.grid_time_ns,
        deadline_ns=old.available_at_ns,
        event_time_ns=old.event_time_ns,
        available_at_ns=old.available_at_ns,
        mid=old.mid,
        volatility=old.volatility,
        spread=old.spread,
    )
