"""What the committee would be without each of its experts: `python -m benchmarks.ablation [CAPTURE ...]`, some minutes.

Every stage runs once over each market; then the pool is made anew without each expert in turn, its weights learning as
they go and as late as they did, and the baseline policy trades on either pool at the market's own cost. Differences are
paired, ballot by ballot, with a circular block bootstrap (blocks of twice the horizon, 30 ballots at least; fewer than
ten blocks give no interval). Experts that give no direction change no pool: the anomaly's alerts are judged by what
they keep the baseline from doing, the regime's context by who reads it.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.experts._registry import load
from agents.feedback.scoring import PROBABILITY_FLOOR
from agents.voting.pool import PoolConfig
from benchmarks.machine import describe
from benchmarks.vote_tapes import Series, answers, series_of
from schemas.event import Event
from schemas.opinions import AlertLevel, AnomalyAlert
from streams.expert_record import ScoredBallot, earnings, experts_of

SHARED: Final = Path(__file__).resolve().parents[1].parent / "shared/data"
CAPTURES: Final = (
    "binance/usdm-btcusdt-20240808.gz",
    "binance/spot-btcusdt-20240808.gz",
    "binance/spot-btcusdt-20240809.gz",
    "lean/tick/eurusd-fxcm-20140505-quote.zip",
)
SEEDS: Final = (7, 11)
RESAMPLES: Final = 2_000
BLOCKS_MIN: Final = 10
VOTERS_MIN: Final = 3
_INTRO: Final = """# What each expert is worth to the committee

Made by `python -m benchmarks.ablation > docs/experts-ablation.md`; do not edit. {machine}

Every stage runs once over each market. Then the pool is made anew without each expert in turn, its weights learning as
late as they did, and the baseline policy trades on either pool at the market's own cost. A row says what the expert
adds: the log-loss of the tally it saves for each ballot, and the profit before and after cost it adds over the whole
market, in basis points of the budget. In brackets 95 % of a paired circular block bootstrap (blocks of twice the
horizon, 30 ballots at least; with fewer than ten blocks nothing is claimed). Simulated: seeds {seeds}, {seconds:g} s
each, regimes mixed; `quant` was trained on other seeds of the same simulator, and on nothing recorded.

Where fewer than three voters would be left (EURUSD has no sizes), both pools have raw weights: a cap makes a lone voter
say less than it could, which is no merit of the other one.

Recorded: {captures}.
At their real cost the baseline policy hardly ever trades on them, so that net figures there say next to nothing. A
tally with a lower log-loss need not earn more: the baseline takes a sharper tally for a larger edge, and trades more.
"""
_BP: Final = 1e4
_NATS: Final = -math.log(PROBABILITY_FLOOR)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean or a sum of paired differences, with its 95 % block-bootstrap interval if there are blocks enough."""

    value: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """What the interval says of the expert whose gain this is."""
        if self.low is None or self.high is None:
            return "too short to tell"
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "no difference shown"

    def told(self, scale: float) -> str:
        """Return the figures in 1 / ``scale`` of their unit; 0 where nothing differed at all."""
        if not self.value and not self.low and not self.high:
            return "0"
        if self.low is None or self.high is None:
            return f"{self.value * scale:+.2f}"
        return f"{self.value * scale:+.2f} ({self.low * scale:+.2f} to {self.high * scale:+.2f})"


@dataclass(frozen=True, slots=True)
class Ablation:
    """What one expert adds on one market: log-loss saved (nats a ballot), profit, free and net (in budgets)."""

    market: str
    expert: str
    votes: int
    ballots: int
    log_loss: Interval
    signal: Interval
    net: Interval


def bootstrap(differences: Sequence[Floats], block: int, seed: int, *, total: bool) -> Interval:
    """Return the mean, or the sum, over stretches of paired differences, and its circular block-bootstrap interval.

    A block never runs over the end of its stretch into another one.
    """
    every = np.concatenate(differences) if differences else np.zeros(0)
    value = float(every.sum() if total else every.mean()) if len(every) else 0.0
    if sum(len(part) // block for part in differences) < BLOCKS_MIN:
        return Interval(value, None, None)
    draws = np.random.default_rng(seed)
    sums, count = np.zeros(RESAMPLES), 0
    for part in differences:
        blocks = max(1, round(len(part) / block))
        around = np.concatenate((part, part[: block - 1]))
        whole = np.convolve(around, np.ones(block), mode="valid")[: len(part)]
        sums += whole[draws.integers(len(part), size=(RESAMPLES, blocks))].sum(axis=1) * len(part) / (blocks * block)
        count += len(part)
    low, high = np.quantile(sums if total else sums / count, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def differences(series: Series, without: str) -> tuple[Floats, Floats, Floats]:
    """Return by ballot what the expert saves in log-loss (nats), adds to the free and to the net profit.

    Where fewer than ``VOTERS_MIN`` would be left, both pools have raw weights: what a cap makes of a lone voter is
    not what the other one was worth.
    """
    losses, signals, nets = [], [], []
    bounds = PoolConfig() if len(experts_of(series.ballots)) > VOTERS_MIN else None
    for left_out in (None, without):
        told = list(answers(series, bounds, left_out=left_out))
        losses.append(np.array([loss for _, loss in told]) * _NATS)
        made = list(
            earnings(series.ballots, [forecast for forecast, _ in told], series.horizon_ns, series.taker_fee_rate)
        )
        signals.append(np.array([one.signal for one in made]))
        nets.append(np.array([one.net for one in made]))
    return losses[1] - losses[0], signals[0] - signals[1], nets[0] - nets[1]


def block_of(series: Series) -> int:
    """Return how many ballots lie in one block: more than can share an outcome."""
    return max(30, 2 * series.delay)


def ablations(market: str, stretches: Sequence[Series]) -> Iterator[Ablation]:
    """Yield what each expert adds on stretches of one market and horizon."""
    names = sorted({name for series in stretches for name in experts_of(series.ballots)})
    if len(names) < 2:
        return
    block = block_of(stretches[0])
    for name in names:
        parts = [differences(series, name) for series in stretches]
        losses, signals, nets = ([part[index] for part in parts] for index in range(3))
        yield Ablation(
            market,
            name,
            sum(said is not None and said.said is not None for said in _words(stretches, name)),
            sum(len(series.ballots) for series in stretches),
            bootstrap(losses, block, 1, total=False),
            bootstrap(signals, block, 2, total=True),
            bootstrap(nets, block, 3, total=True),
        )


def _words(stretches: Sequence[Series], name: str) -> Iterator[object]:
    for series in stretches:
        for ballot in series.ballots:
            yield ballot.entries.get(name)


class Alerts:
    """When each instrument was under a HIGH alert, from the events of a run."""

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[int, bool]]] = {}

    def take(self, event: Event) -> None:
        """Keep the alerts of one event."""
        if isinstance(event, AnomalyAlert) and event.level is not AlertLevel.ELEVATED:
            self._changes.setdefault(event.key, []).append((event.available_at_ns, event.level is AlertLevel.HIGH))

    def during(self, instrument: str, ballots: Sequence[ScoredBallot]) -> list[bool]:
        """Return for each ballot whether its grid time lay under one."""
        changes, at, high, found = self._changes.get(instrument, []), 0, False, []
        for ballot in ballots:
            while at < len(changes) and changes[at][0] <= ballot.grid_time_ns:
                high, at = changes[at][1], at + 1
            found.append(high)
        return found


def restraint(series: Series, restricted: Sequence[bool]) -> tuple[Floats, int]:
    """Return by ballot what the alerts add to the baseline's net profit, and how many ballots lay under one."""
    said = [forecast for forecast, _ in answers(series, PoolConfig())]
    terms = (series.horizon_ns, series.taker_fee_rate)
    kept = [one.net for one in earnings(series.ballots, said, *terms, restricted=restricted)]
    free = [one.net for one in earnings(series.ballots, said, *terms)]
    return np.array(kept) - np.array(free), sum(restricted)


def _markets(captures: Iterable[Path], seconds: float) -> Iterator[tuple[str, list[tuple[Series, list[bool]]]]]:
    """Yield (market and horizon, stretches with where they were under a HIGH alert)."""
    found: dict[str, list[tuple[Series, list[bool]]]] = {}
    for name, feed, seed in [
        *(("simulated", "simulated", seed) for seed in SEEDS),
        *((path.name.partition(".")[0], str(path), SEEDS[0]) for path in captures),
    ]:
        alerts = Alerts()
        for series in series_of(feed, seconds, seed, alerts.take):
            under = alerts.during(series.instrument, series.ballots)
            market = series.instrument if feed == "simulated" else name
            series = replace(series, instrument=market)
            found.setdefault(series.name, []).append((series, under))
    yield from found.items()


def report(captures: Iterable[Path], seconds: float) -> Iterator[str]:
    """Yield the page's lines."""
    captures = list(captures)
    yield _INTRO.format(
        machine=f"{describe()}.",
        seeds=", ".join(map(str, SEEDS)),
        seconds=seconds,
        captures=", ".join(path.name for path in captures) or "nothing",
    )
    markets = list(_markets(captures, seconds))
    rows = [row for name, parts in markets for row in ablations(name, [series for series, _ in parts])]
    yield "| market | expert | votes of ballots | log-loss saved, nats / 1000 | it | free of cost, bp | net, bp |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.market} | {row.expert} | {row.votes} of {row.ballots} | {row.log_loss.told(1e3)}"
            f" | {row.log_loss.verdict} | {row.signal.told(_BP)} | {row.net.told(_BP)} |"
        )
    yield ""
    yield "## Where each expert does not help"
    yield ""
    for name in sorted({row.expert for row in rows}):
        yield f"- `{name}`: {_summary([row for row in rows if row.expert == name])}"
    silent = sorted(set(load()) - {row.expert for row in rows})
    yield f"- {', '.join(f'`{name}`' for name in silent)}: no direction, hence nothing in any pool."
    yield ""
    yield "## What HIGH alerts of `anomaly` keep the baseline policy from"
    yield ""
    yield "| market | ballots under a HIGH alert | net profit added, bp |"
    yield "|---|---|---|"
    for name, parts in markets:
        told = [restraint(series, under) for series, under in parts]
        gain = bootstrap([part for part, _ in told], block_of(parts[0][0]), 4, total=True)
        yield f"| {name} | {sum(count for _, count in told)} | {gain.told(_BP)} |"


def _summary(rows: Sequence[Ablation]) -> str:
    by: dict[str, list[str]] = {}
    for row in rows:
        by.setdefault(row.log_loss.verdict, []).append(row.market)
    order = ("hurts", "no difference shown", "too short to tell", "helps")
    told = "; ".join(f"{verdict}: {', '.join(by[verdict])}" for verdict in order if verdict in by)
    net = [f"{row.net.verdict} on {row.market}" for row in rows if row.net.verdict in ("helps", "hurts")]
    return f"the tally's log-loss: {told}. Net profit: {', '.join(net) or 'no difference shown anywhere'}."


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    there = [SHARED / name for name in CAPTURES if (SHARED / name).exists()]
    parser.add_argument("captures", nargs="*", type=Path, default=there)
    parser.add_argument("--seconds", type=float, default=900.0, help="of each simulated market")
    arguments = parser.parse_args()
    for line in report(arguments.captures, arguments.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
