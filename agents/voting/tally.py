"""A closed ballot and the weights of the day into one tally: pool, disagreement, and who said what at what weight."""

from dataclasses import dataclass

from agents.voting.ballot import Answer, Sheet
from agents.voting.calibration import CalibrationConfig, calibrated, calibration_error
from agents.voting.pool import PoolConfig, Probabilities, bounded_weights, disagreement, pooled
from agents.voting.weights import Weights, WeightsConfig, join, skill, weights_of
from schemas.opinions import TallyEntry, VoteTally


@dataclass(frozen=True, kw_only=True)
class Closing:
    """What a tally says beside the answers: which ballot, why it closed, when (ns), and for whom if out of turn."""

    instrument: str
    ballot_id: str
    horizon_ns: int
    flat_band: int
    closed_by: str
    closed_at_ns: int
    late: tuple[str, ...] = ()
    advice_for: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class Tallying:
    """The settings a tally is made under."""

    pool: PoolConfig
    weights: WeightsConfig
    calibration: CalibrationConfig


def let_in(settings: Tallying, weights: Weights, answers: dict[str, Answer]) -> bool:
    """Give every expert that says a direction for the first time its prior weight; return whether there was one."""
    new = sorted(name for name, said in answers.items() if said.p_up is not None and name not in weights.standings)
    for name in new:
        join(settings.weights, weights, name)
    return bool(new)


def tally(
    settings: Tallying, closing: Closing, sheet: Sheet, answers: dict[str, Answer], weights: Weights
) -> VoteTally:
    """Return the pooled answer: of the votes as calibrated. Every expert that gives a direction was let in before."""
    voters = sorted(name for name, said in answers.items() if said.p_up is not None)
    votes = [_meant(settings, answers[name], weights) for name in voters]
    counting: dict[str, float] = {}
    pool: tuple[float | None, float | None, float | None] = (None, None, None)
    apart: float | None = None
    if voters:
        raw = weights_of(settings.weights, weights, voters)
        bounded = bounded_weights(settings.pool, raw, [answers[name].text_fed for name in voters])
        counting = dict(zip(voters, bounded, strict=True))
        pool, apart = pooled(settings.pool, votes, bounded), disagreement(votes, bounded)
    meant = dict(zip(voters, votes, strict=True))
    entries = tuple(
        _entry(settings, answers[name], (counting.get(name, 0.0), meant.get(name)), weights) for name in sorted(answers)
    )
    context = {
        f"{name}.{key}": value for name in sorted(answers) for key, value in sorted(answers[name].context.items())
    }
    return VoteTally(
        key=closing.instrument,
        event_time_ns=sheet.event_time_ns,
        available_at_ns=max(sheet.available_at_ns, closing.closed_at_ns),
        ballot_id=closing.ballot_id,
        snapshot_id=sheet.snapshot_id,
        horizon_ns=closing.horizon_ns,
        flat_band=closing.flat_band,
        grid_time_ns=sheet.grid_time_ns,
        mid=sheet.mid,
        p_down=pool[0],
        p_flat=pool[1],
        p_up=pool[2],
        disagreement=apart,
        volatility=sheet.volatility,
        spread=sheet.spread,
        closed_by=closing.closed_by,
        late=closing.late,
        entries=entries,
        context=context,
        advice_for=closing.advice_for,
        request_id=closing.request_id,
    )


def _meant(settings: Tallying, said: Answer, weights: Weights) -> Probabilities:
    assert said.p_down is not None
    assert said.p_flat is not None
    assert said.p_up is not None
    calibrator = weights.standings[said.expert].calibrator
    return calibrated(settings.calibration, calibrator, (said.p_down, said.p_flat, said.p_up))


def _entry(
    settings: Tallying, said: Answer, counted: tuple[float, Probabilities | None], weights: Weights
) -> TallyEntry:
    weight, meant = counted
    standing = weights.standings.get(said.expert)
    down, flat, up = meant or (None, None, None)
    return TallyEntry(
        expert=said.expert,
        weight=weight,
        skill=skill(settings.weights, standing),
        p_down=said.p_down,
        p_flat=said.p_flat,
        p_up=said.p_up,
        abstained=said.abstained,
        evidence=said.evidence,
        calibrated_down=down,
        calibrated_flat=flat,
        calibrated_up=up,
        calibration_error=None if standing is None else calibration_error(settings.calibration, standing.calibrator),
    )
