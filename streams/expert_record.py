"""What each expert has been worth: calibration, regret and profit, from scored ballots and nothing else.

The record of a run and a backtest in memory give the same ballots, so that the command and the measurements say the
same thing. A ballot is judged by its own outcome only, and every profit uses mids in the order they came.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from agents.decider.baseline import MEAN_BEYOND_BAND, moving_cost
from agents.decider.policy import TARGETS
from agents.feedback.regret import Losses, Path, best_fixed, best_shifting
from agents.feedback.scoring import PROBABILITY_FLOOR, Forecast, brier, calibration_error, log_loss
from schemas.values import NS_PER_S

POOL: Final = "(pool)"
"""The committee's own row among those of the experts."""
PERIODS: Final = 4
_FULL_CONVICTION: Final = 0.3
_BP: Final = 1e4
_NATS: Final = -math.log(PROBABILITY_FLOOR)


@dataclass(frozen=True, slots=True)
class Said:
    """One expert's word on a ballot: as it was said and as it was pooled, both None when it abstained."""

    said: Forecast | None
    meant: Forecast | None


@dataclass(frozen=True, slots=True)
class ScoredBallot:
    """A ballot and its end. ``mid`` and ``spread`` are in one unit, whichever; ``outcome`` is -1, 0 or +1."""

    grid_time_ns: int
    mid: float
    spread: float | None
    volatility: float | None
    pool: Forecast | None
    entries: dict[str, Said]
    outcome: int
    base_loss: float
    pool_loss: float


@dataclass(frozen=True, slots=True)
class Profit:
    """What an opinion would have earned, in basis points of the budget.

    ``signal_bp`` holds what the conviction says at every ballot and pays nothing; ``net_bp`` moves as the baseline
    policy does and pays half the spread and the taker's fee, ``turnover`` budgets in all. None: no cost is known.
    """

    signal_bp: float
    net_bp: float | None
    turnover: float | None


def scored_ballot(row: dict[str, Any]) -> ScoredBallot | None:
    """Return a row of the record; None without a mid, where nothing could be earned."""
    if row["mid"] is None:
        return None
    return ScoredBallot(
        grid_time_ns=row["grid_time_ns"],
        mid=float(row["mid"]),
        spread=None if row["spread"] is None else float(row["spread"]),
        volatility=row["volatility"],
        pool=_forecast(row, "p"),
        entries={entry["expert"]: _said(entry) for entry in row["entries"]},
        outcome=row["outcome"],
        base_loss=row["base_loss"],
        pool_loss=row["pool_loss"],
    )


def _said(entry: dict[str, Any]) -> Said:
    said = _forecast(entry, "p")
    return Said(said, _forecast(entry, "calibrated") or said)


def _forecast(row: dict[str, Any], prefix: str) -> Forecast | None:
    down, flat, up = (row.get(f"{prefix}_{name}") for name in ("down", "flat", "up"))
    return None if down is None or flat is None or up is None else (down, flat, up)


def losses_of(ballots: Sequence[ScoredBallot], experts: Sequence[str]) -> Losses:
    """Return the loss of each expert (columns) on each ballot (rows) as it was pooled; the pool's if it abstained."""
    table = np.empty((len(ballots), len(experts)))
    for row, ballot in enumerate(ballots):
        for column, name in enumerate(experts):
            said = ballot.entries.get(name)
            known = None if said is None else said.meant
            loss = ballot.pool_loss if known is None else log_loss(known, ballot.outcome, PROBABILITY_FLOOR)
            table[row, column] = loss
    return table


def quality(votes: Sequence[tuple[Forecast, int]]) -> dict[str, float] | None:
    """Return Brier score, log-loss in nats and calibration error of votes and their outcomes; None without any."""
    if not votes:
        return None
    return {
        "brier": sum(brier(forecast, outcome) for forecast, outcome in votes) / len(votes),
        "log_loss": sum(log_loss(forecast, outcome, PROBABILITY_FLOOR) for forecast, outcome in votes)
        * _NATS
        / len(votes),
        "ece": calibration_error(votes),
    }


def profit(
    ballots: Sequence[ScoredBallot], opinions: Sequence[Forecast | None], horizon_ns: int, taker_fee_rate: float | None
) -> Profit:
    """Return what acting on one opinion per ballot alone would have earned, from mid to mid of the next ballot."""
    made = list(earnings(ballots, opinions, horizon_ns, taker_fee_rate))
    signal = sum(one.signal for one in made) * _BP
    if taker_fee_rate is None:
        return Profit(signal, None, None)
    return Profit(signal, sum(one.net for one in made) * _BP, sum(one.turnover for one in made))


class Earned(NamedTuple):
    """What came from the last ballot to this one and was paid at it, in budgets; ``signal`` free of any cost."""

    signal: float
    net: float
    turnover: float


def earnings(
    ballots: Sequence[ScoredBallot],
    opinions: Sequence[Forecast | None],
    horizon_ns: int,
    taker_fee_rate: float | None,
    *,
    restricted: Sequence[bool] | None = None,
) -> Iterator[Earned]:
    """Yield what each ballot brought to whoever acts on one opinion per ballot as the baseline policy does.

    An abstention keeps what is held; what is held at the last one is closed, and pays for that. Where it is
    ``restricted``, only less of what is held may be wanted, as under a HIGH alert.
    """
    held = exposure = one_way = 0.0
    for number, (ballot, opinion) in enumerate(zip(ballots, opinions, strict=True)):
        change = ballot.mid / ballots[number - 1].mid - 1 if number else 0.0
        signal, net, was = exposure * change, held * change, held
        if opinion is not None:
            exposure = max(-1.0, min(1.0, (opinion[2] - opinion[0]) / _FULL_CONVICTION))
            if taker_fee_rate is not None and ballot.spread is not None and ballot.volatility:
                one_way = ballot.spread / ballot.mid / 2 + taker_fee_rate
                target = min(TARGETS, key=lambda target, wanted=exposure: (abs(target - wanted), abs(target)))  # type: ignore[misc]
                if restricted is not None and restricted[number]:
                    target = max(min(0.0, held), min(max(0.0, held), target))
                sigma = ballot.volatility * math.sqrt(horizon_ns / NS_PER_S)
                gain = (target - held) * (opinion[2] - opinion[0]) * MEAN_BEYOND_BAND * sigma
                if gain > moving_cost(held, target, one_way):
                    held = target
        turnover = abs(held - was)
        if number == len(ballots) - 1:
            turnover += abs(held)
        yield Earned(signal, net - turnover * one_way, turnover)


def experts_of(ballots: Sequence[ScoredBallot]) -> list[str]:
    """Return who gave a direction at least once, by name."""
    return sorted({name for ballot in ballots for name, said in ballot.entries.items() if said.said is not None})


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The best that could have been: the best expert and the best sequence of experts, by the losses as pooled."""

    experts: list[str]
    losses: Losses
    fixed: Path
    shifting: Path

    @classmethod
    def of(cls, ballots: Sequence[ScoredBallot], shifts: int) -> "Hindsight | None":
        """Return it for at most so many shifts; None when nobody gave a direction."""
        experts = experts_of(ballots)
        if not experts:
            return None
        losses = losses_of(ballots, experts)
        return cls(experts, losses, best_fixed(losses), best_shifting(losses, shifts))

    def regret(self, total: float) -> dict[str, float]:
        """Return by how much a whole loss is above either."""
        return {"regret_fixed": total - self.fixed.loss, "regret_shifting": total - self.shifting.loss}

    def told(self, ballots: Sequence[ScoredBallot]) -> dict[str, Any]:
        """Return who they are, with the time (ns) of each shift."""
        shifts = [
            {"expert": self.experts[expert], "from_ns": ballots[at].grid_time_ns}
            for at, expert in ((0, self.shifting.first), *self.shifting.changes)
        ]
        return {"best_fixed": self.experts[self.fixed.first], "best_shifting": shifts}


def rows_of(
    ballots: Sequence[ScoredBallot], horizon_ns: int, taker_fee_rate: float | None, shifts: int
) -> dict[str, dict[str, Any]]:
    """Return by expert, and for the pool, what it was worth; the same keys for all, None for what it has not.

    ``*_before`` is of votes as they were said, ``*_after`` as they were pooled. Regret is in units of the scaled loss.
    """
    hindsight = Hindsight.of(ballots, shifts)
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted({name for ballot in ballots for name in ballot.entries}):
        words = [ballot.entries.get(name) for ballot in ballots]
        before = [None if word is None else word.said for word in words]
        after = [None if word is None else word.meant for word in words]
        rows[name] = _row(ballots, before, after) | _earned(profit(ballots, after, horizon_ns, taker_fee_rate))
        if hindsight is not None and name in hindsight.experts:
            rows[name] |= hindsight.regret(float(hindsight.losses[:, hindsight.experts.index(name)].sum()))
    pool = [ballot.pool for ballot in ballots]
    rows[POOL] = _row(ballots, pool, pool) | _earned(profit(ballots, pool, horizon_ns, taker_fee_rate))
    if hindsight is not None:
        rows[POOL] |= hindsight.regret(sum(ballot.pool_loss for ballot in ballots)) | hindsight.told(ballots)
    return rows


def _row(
    ballots: Sequence[ScoredBallot], before: Sequence[Forecast | None], after: Sequence[Forecast | None]
) -> dict[str, Any]:
    voted = [number for number, forecast in enumerate(before) if forecast is not None]
    row: dict[str, Any] = {"ballots": len(ballots), "abstained": len(ballots) - len(voted)}
    row |= _compared(ballots, before, after)
    row["base_log_loss"] = sum(ballots[number].base_loss for number in voted) * _NATS / len(voted) if voted else None
    row |= {"regret_fixed": None, "regret_shifting": None, "over_time": []}
    for period in range(PERIODS):
        begin, end = (len(ballots) * bound // PERIODS for bound in (period, period + 1))
        if begin < end:
            told = {"from_ns": ballots[begin].grid_time_ns, "ballots": end - begin}
            part = slice(begin, end)
            row["over_time"].append(told | _compared(ballots[part], before[part], after[part]))
    return row


def _compared(
    ballots: Sequence[ScoredBallot], before: Sequence[Forecast | None], after: Sequence[Forecast | None]
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for when, opinions in (("before", before), ("after", after)):
        votes = [(word, ballot.outcome) for word, ballot in zip(opinions, ballots, strict=True) if word is not None]
        found = quality(votes)
        told |= {f"{name}_{when}": None if found is None else found[name] for name in ("brier", "log_loss", "ece")}
    return told


def _earned(earned: Profit) -> dict[str, Any]:
    return {"signal_bp": earned.signal_bp, "net_bp": earned.net_bp, "turnover": earned.turnover}
