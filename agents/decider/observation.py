"""What a policy sees, by name; it is stored with each decision, so the trainer learns from the very same numbers.

The committee enters as a set: three numbers per expert under its name, so an expert more or less changes no other
number. A missing input is None, never 0.
"""

from typing import Final

from agents.decider.state import InstrumentOutlook, LineState
from schemas.opinions import AlertLevel, MarketMark, VoteTally
from schemas.values import NS_PER_S, UNITS_PER_ONE

_ALERTS: Final = {AlertLevel.NORMAL: 0.0, AlertLevel.ELEVATED: 1.0, AlertLevel.HIGH: 2.0}


def observe(
    tally: VoteTally, mark: MarketMark, outlook: InstrumentOutlook, line: LineState, now_ns: int
) -> dict[str, float | None]:
    """Return the named numbers: probabilities, fractions of the mid, seconds, and quantities in whole units."""
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
    for entry in tally.entries:
        seen[f"vote.{entry.expert}.p_down"] = entry.p_down
        seen[f"vote.{entry.expert}.p_up"] = entry.p_up
        seen[f"vote.{entry.expert}.weight"] = entry.weight
    for name, value in tally.context.items():
        seen[f"context.{name}"] = value
    return seen


def _spread(tally: VoteTally, mark: MarketMark) -> float | None:
    if tally.spread is not None and tally.mid:
        return tally.spread / tally.mid
    if mark.bid_price is None or mark.ask_price is None or not mark.mid:
        return None
    return (mark.ask_price - mark.bid_price) / mark.mid
