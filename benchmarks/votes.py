"""How good the committee's learning is: `python -m benchmarks.votes [CAPTURE ...]`, in a minute or two.

Regret with late losses against what theory promises, fixed share on experts that change, what floors and caps cost, and
calibration of each expert before and after. Losses are made by adversaries, and real: those of the simulated market and
of captures (the three of Binance where they lie beside the checkout), every stage in this process.
"""

import argparse
import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from agents.feedback.regret import best_shifting
from agents.voting.weights import WeightsConfig
from benchmarks.machine import describe
from benchmarks.vote_games import (
    Adversary,
    against_the_heaviest,
    against_the_leader,
    blocks,
    coins,
    plain_rate,
    play,
    play_in_turns,
    proven_bound,
    recorded,
    shifting,
    shifting_bound,
    stated_bound,
    swing,
    tuned_share,
)
from benchmarks.vote_tapes import Series, cost_of_bounds, series_of, with_a_fool
from streams.expert_record import POOL, experts_of, losses_of, rows_of

CAPTURES: Final = Path(__file__).resolve().parents[1].parent / "shared/data/binance"
BALLOTS: Final = 2_000
_LEAST: Final = 50
_SHIFTS: Final = 3


def adversaries(ballots: int, delay: int) -> dict[str, Adversary]:
    """Return every adversary by name, each new."""
    return {
        "coins": coins(),
        "against the leader": against_the_leader,
        "against the heaviest": against_the_heaviest,
        "blocks of D + 1": blocks(delay),
        "swing": swing(ballots, delay),
    }


def late_regret(name: str, adversary: Adversary, other: Adversary, size: tuple[int, int], delay: int) -> str:
    """Play a game with one Hedge and with D + 1 in turns; return a line of the table."""
    experts, ballots = size
    eta = plain_rate(experts, ballots, delay)
    one = play(WeightsConfig(eta=eta, share=0.0), adversary, size, delay).regret
    many = play_in_turns(WeightsConfig(eta=eta * math.sqrt(delay + 1), share=0.0), other, size, delay).regret
    stated = stated_bound(experts, ballots, delay)
    proven = proven_bound(experts, ballots, delay, eta / math.sqrt(delay + 1))
    mark = " above" if one > stated else ""
    return (
        f"| {name} | {experts} | {ballots} | {delay} | {one:.1f} | {stated:.1f} | {one / stated:.2f}{mark}"
        f" | {one / proven:.2f} | {many / stated:.2f} |"
    )


def games() -> Iterable[str]:
    """Yield the lines of regret with late losses, plain weights: no share, no floor, no cap."""
    yield "| losses | N | T | D | regret | sqrt((D+1) T ln N / 2) | of it | of what is proven | D+1 Hedges in turns |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for experts in (2, 5):
        for delay in (0, 1, 10, 60):
            mine, theirs = (adversaries(BALLOTS, delay) for _ in range(2))
            for name, adversary in mine.items():
                yield late_regret(name, adversary, theirs[name], (experts, BALLOTS), delay)


def real_games(series: Iterable[Series]) -> Iterable[str]:
    """Yield the same for the losses of experts on real ballots, and how the pool of the run itself did."""
    for one in series:
        experts = experts_of(one.ballots)
        if len(experts) > 1 and len(one.ballots) >= _LEAST:
            losses = losses_of(one.ballots, experts)
            yield late_regret(one.name, recorded(losses), recorded(losses), (len(experts), len(losses)), one.delay)


def shares() -> Iterable[str]:
    """Yield fixed share against the best sequence of experts with k changes, found by dynamic programming."""
    yield "| losses | N | T | k | regret | Herbster-Warmuth | of it | with D = 10 | plain Hedge |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for experts, changes in ((2, 1), (5, 4), (5, 9), (8, 19)):
        for name, made in (("another is good", shifting(BALLOTS, changes)), ("leader", against_the_leader)):
            config = tuned_share(experts, BALLOTS, changes)
            played = play(config, made, (experts, BALLOTS))
            rows = recorded(played.losses)
            best = best_shifting(played.losses, changes).loss
            late = sum(play(config, rows, (experts, BALLOTS), 10).paid) - best
            plain = WeightsConfig(eta=plain_rate(experts, BALLOTS, 0), share=0.0)
            hedge = sum(play(plain, rows, (experts, BALLOTS)).paid) - best
            bound, regret = shifting_bound(experts, BALLOTS, changes, config), sum(played.paid) - best
            yield (
                f"| {name} | {experts} | {BALLOTS} | {changes} | {regret:.1f} | {bound:.1f} | {regret / bound:.2f}"
                f" | {late:.1f} | {hedge:.1f} |"
            )


def bounds(series: Iterable[Series]) -> Iterable[str]:
    """Yield what floors and caps cost on real ballots: the pool's mean log-loss, in thousandths of a nat."""
    yield "| ballots | n | raw weights, nats | floor 0.01 | cap 0.4 | floor and cap | and the best expert text-fed |"
    yield "|---|---|---|---|---|---|---|"
    for one in itertools.chain.from_iterable((one, with_a_fool(one)) for one in series):
        if len(experts_of(one.ballots)) > 1 and len(one.ballots) >= _LEAST:
            raw, *others = cost_of_bounds(one).values()
            told = " | ".join(f"{(loss - raw) * 1e3:+.2f}" for loss in others)
            yield f"| {one.name} | {len(one.ballots)} | {raw:.4f} | {told} |"


def calibration(series: Iterable[Series]) -> Iterable[str]:
    """Yield each expert's calibration before and after, its profit alone in basis points, and its regret."""
    yield (
        "| ballots | expert | votes | base rate | log-loss before | after | Brier before | after | ECE before | after"
        " | free, bp | net, bp | regret | with 3 changes |"
    )
    yield "|---" * 14 + "|"
    for one in series:
        for name, row in rows_of(one.ballots, one.horizon_ns, one.taker_fee_rate, _SHIFTS).items():
            if row["log_loss_before"] is not None and row["ballots"] >= _LEAST:
                pairs = " | ".join(
                    f"{row[f'{measure}_{when}']:.4f}"
                    for measure in ("log_loss", "brier", "ece")
                    for when in ("before", "after")
                )
                yield (
                    f"| {one.name} | {name if name != POOL else 'the pool'} | {row['ballots'] - row['abstained']}"
                    f" | {row['base_log_loss']:.4f} | {pairs} | {row['signal_bp']:.1f} | {row['net_bp']:.1f}"
                    f" | {row['regret_fixed']:+.2f} | {row['regret_shifting']:+.2f} |"
                )


def main() -> None:
    """Print every table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", nargs="*", type=Path, default=sorted(CAPTURES.glob("*.gz")))
    parser.add_argument("--seconds", type=float, default=1200.0, help="of the simulated market")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    print(describe())
    series = series_of("simulated", arguments.seconds, arguments.seed)
    for capture in arguments.captures:
        day = capture.name.partition(".")[0]
        series += [replace(one, instrument=day) for one in series_of(str(capture))]
    if not arguments.captures:
        print("\nNo capture is beside the checkout: only the simulated market is real here.")
    for title, lines in (
        ("Regret, late losses, plain weights", [*games(), *real_games(series)]),
        ("Fixed share, k changes", shares()),
        ("What bounds cost, thousandths of a nat", bounds(series)),
        ("Calibration, profit and regret by expert", calibration(series)),
    ):
        print(f"\n## {title}\n")
        for line in lines:
            print(line)


if __name__ == "__main__":
    main()
