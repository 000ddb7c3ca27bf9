"""What a policy sees, by name; it is stored with each decision, so the trainer learns from the very same numbers.

The committee enters as a set: the same numbers per expert under its name, so an expert more or less changes no other
number. A missing input is None, never 0.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from agents.costs.estimate import CostEstimate
from agents.decider.allowed import Allowed
from agents.decider.state import InstrumentOutlook, LineState
from agents.reward.shaping import Moments
from schemas.opinions import AlertLevel, MarketMark, VoteTally
from schemas.values import NS_PER_S, UNITS_PER_ONE

VOTE_PREFIX: Final = "vote."
VOTE_FIELDS: Final = ("p_down", "p_up", "calibrated_down", "calibrated_up", "weight", "skill", "calibration_error")
"""What is told of each expert: said, meant (what was pooled), its weight, its skill and calibration so far."""

_ALERTS: Final = {AlertLevel.NORMAL: 0.0, AlertLevel.ELEVATED: 1.0, AlertLevel.HIGH: 2.0}


class Standing(NamedTuple):
    """What is known of a line beside its state.

    ``exposure`` is the notional held as a share of the line's budget and ``moments`` those of its net returns; None
    without a budget, or before the first valuation.
    """

    allowed: Allowed
    costs: CostEstimate
    exposure: float | None = None
    moments: Moments | None = None


def observe(
    tally: VoteTally, outlook: InstrumentOutlook, line: LineState, now_ns: int, standing: Standing
) -> dict[str, float | None]:
    """Return the named numbers: probabilities, fractions of the mid or of the budget, seconds, whole units."""
    mark = outlook.mark
    assert mark is not None, "without any mark there is nothing to see"
    seen: dict[str, float | None] = {
        "p_down": tally.p_down,
        "p_flat": tally.p_flat,
        "p_up": tally.p_up,
        "conviction": None if tally.p_up is None or tally.p_down is None else tally.p_up - tally.p_down,
        "disagreement": tally.disagreement,
        "volatility": tally.volatility,
        "spread_relative": _spread(tally, mark),
        "horizon_s": tally.horizon_ns / NS_PER_S,
        "target": line.target,
        "position": line.position / UNITS_PER_ONE,
        "working": line.working / UNITS_PER_ONE,
        "unrealised_pnl": line.unrealised_pnl,
        "alert": _ALERTS[outlook.alert],
        "mark_age_s": (now_ns - mark.newest_time_ns) / NS_PER_S,
    }
    seen.update(_of(standing))
    for entry in tally.entries:
        said = (entry.p_down, entry.p_up, entry.calibrated_down, entry.calibrated_up)
        trusted = (entry.weight, entry.skill, entry.calibration_error)
        seen.update(zip(vote_keys(entry.expert), (*said, *trusted), strict=True))
    for name, value in tally.context.items():
        seen[f"context.{name}"] = value
    return seen


@lru_cache(maxsize=1024)
def vote_keys(expert: str) -> tuple[str, ...]:
    """Return the names under which an expert's numbers are seen, one for each of ``VOTE_FIELDS``."""
    return tuple(f"{VOTE_PREFIX}{expert}.{name}" for name in VOTE_FIELDS)


def _of(standing: Standing) -> dict[str, float | None]:
    moments, allowed = standing.moments, standing.allowed
    return {
        "exposure": standing.exposure,
        "allowed.low": allowed.low,
        "allowed.high": allowed.high,
        "moment.mean": None if moments is None else moments.mean,
        "moment.square": None if moments is None else moments.square,
        "cost.excess": standing.costs.excess,
        "cost.fee": standing.costs.fee,
    }


def _spread(tally: VoteTally, mark: MarketMark) -> float | None:
    if tally.spread is not None and tally.mid:
        return tally.spread / tally.mid
    if mark.bid_price is None or mark.ask_price is None or not mark.mid:
        return None
    return (mark.ask_price - mark.bid_price) / mark.mid
