"""What contestants came to on the same days: one row each, intervals by whole days, and deflated ratios.

Profit is net of fees and slippage, in basis points of the budget, per day (or per run of the simulated market); nothing
is annualised. A day is drawn again as a whole. Ratios are of buckets of some minutes, since single steps hang together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agents.statistics.intervals import Interval, day_block_interval
from agents.statistics.paths import max_drawdown, turnover
from agents.statistics.sharpe import deflated_sharpe, probabilistic_sharpe, shape_of, sharpe_ratio

Floats = npt.NDArray[np.float64]
BUCKET_S: Final = 600.0
_BP: Final = 1e4
NULL: Final = "null"


@dataclass(frozen=True, slots=True)
class Day:
    """One contestant on one day, step by step: net returns and held exposures [T], as shares of the budget.

    ``fees`` and ``slippage`` are the day's, as shares of the budget; ``step_s`` is how long a step lasts.
    """

    label: str
    net_returns: Floats
    exposures: Floats
    fees: float
    slippage: float
    step_s: float

    @property
    def net_bp(self) -> float:
        """The day's net profit in basis points of the budget."""
        return float(self.net_returns.sum()) * _BP

    def told(self) -> dict[str, Any]:
        """Return the day's figures for people and programs."""
        return {
            "day": self.label,
            "steps": len(self.net_returns),
            "net_bp": self.net_bp,
            "fees_bp": self.fees * _BP,
            "slippage_bp": self.slippage * _BP,
            "turnover": turnover(self.exposures.tolist()),
            "max_drawdown_bp": max_drawdown(self.net_returns.tolist()) * _BP,
            "held_at_end": float(self.exposures[-1]),
        }


def in_buckets(days: Sequence[Day], bucket_s: float = BUCKET_S) -> list[float]:
    """Return the net returns of whole buckets; what is left at a day's end is a bucket of its own."""
    found: list[float] = []
    for day in days:
        size = max(1, round(bucket_s / day.step_s))
        found += [float(day.net_returns[at : at + size].sum()) for at in range(0, len(day.net_returns), size)]
    return found


def standings(days: Mapping[str, Sequence[Day]], trials: int) -> dict[str, dict[str, Any]]:
    """Return a row for each contestant, by name, all of whom have the same days.

    ``trials``: how many configurations were tried before these were shown, whether they are shown or not. The variance
    of the ratios over trials is that of the contestants who traded, and no less than chance gives who has no skill.
    """
    buckets = {name: in_buckets(own) for name, own in days.items()}
    ratios = {name: sharpe_ratio(returns) for name, returns in buckets.items()}
    traded = [ratio for name, ratio in ratios.items() if any(buckets[name])]
    variance = float(np.var(traded, ddof=1)) if len(traded) > 1 else 0.0
    rows = {}
    for name, own in days.items():
        nets = [day.net_bp for day in own]
        shape, count = shape_of(buckets[name]), len(buckets[name])
        spread = max(variance, 1 / max(1, count - 1))
        rows[name] = {
            "days": [day.told() for day in own],
            "net_bp": sum(nets),
            "net_bp_a_day": day_block_interval(nets)._asdict(),
            "fees_bp": sum(day.fees for day in own) * _BP,
            "turnover": sum(turnover(day.exposures.tolist()) for day in own),
            "max_drawdown_bp": max_drawdown(np.concatenate([day.net_returns for day in own]).tolist()) * _BP,
            "buckets": count,
            "sharpe": ratios[name],
            "probabilistic_sharpe": probabilistic_sharpe(ratios[name], count, shape),
            "deflated_sharpe": deflated_sharpe(ratios[name], count, shape, trials, spread),
        }
    return rows


def leads(days: Mapping[str, Sequence[Day]], contestant: str) -> dict[str, Interval]:
    """Return by how many basis points a day the contestant was ahead of each other one, interval by whole days."""
    mine = [day.net_bp for day in days[contestant]]
    return {
        name: day_block_interval([one - day.net_bp for one, day in zip(mine, own, strict=True)])
        for name, own in days.items()
        if name != contestant
    }


HEADER: Final = (
    "contestant",
    "net bp",
    "a day",
    "95 % low",
    "high",
    "days won",
    "fees bp",
    "turnover",
    "fall bp",
    "Sharpe",
    "PSR",
    "DSR",
)


def table_rows(rows: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    """Return the rows of a table under ``HEADER``."""
    return [
        [
            name,
            row["net_bp"],
            *(row["net_bp_a_day"][part] for part in ("mean", "low", "high")),
            f"{sum(day['net_bp'] > 0 for day in row['days'])}/{len(row['days'])}",
            row["fees_bp"],
            row["turnover"],
            row["max_drawdown_bp"],
            *(f"{row[part]:.3f}" for part in ("sharpe", "probabilistic_sharpe", "deflated_sharpe")),
        ]
        for name, row in rows.items()
    ]


def verdicts(contestant: str, ahead: Mapping[str, Interval]) -> list[str]:
    """Return a plain sentence for each comparison: ahead, behind, or not to be told apart."""
    sentences = []
    for name, (low, mean, high) in ahead.items():
        word = "is ahead of" if low > 0 else "is BEHIND" if high < 0 else "cannot be told from"
        sentences.append(f"{contestant} {word} {name}: {mean:+.2f} bp a day (95 % from {low:+.2f} to {high:+.2f}).")
    return sentences
