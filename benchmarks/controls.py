"""Whether learning can be believed: `make bench-controls`, the positive and the negative control at full size.

Five seeds each: the leak where trading is cheap, the leak where it costs what it does on Binance's BTC, and a leak of
other moments on shuffled returns. One core. `streams/training/controls.py` says what each is. Exit code 1 when learning
is not to be believed: fewer than four of five seeds reach their share, the leak earns at real cost, or noise earns.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from benchmarks.machine import describe
from benchmarks.results import add_json_option, say, table, write_json
from streams.training.controls import (
    CHEAP,
    FULL,
    SHARE_NEEDED,
    ControlSize,
    Negative,
    Positive,
    at_real_cost,
    negative,
    positive,
)

SEEDS: Final = (1, 2, 3, 4, 5)
_NEEDED: Final = 4
_PERCENT: Final = 100.0


def _positives(name: str, control: Callable[[ControlSize, int], Positive]) -> list[Positive]:
    found = []
    for seed in SEEDS:
        began = time.perf_counter()
        found.append(control(FULL, seed))
        told = f"{found[-1].net:.4f} of {found[-1].clairvoyant:.4f}"
        say(f"{name}, seed {seed}: {told}, {time.perf_counter() - began:.0f} s")
    return found


def _negatives() -> list[Negative]:
    found = []
    for seed in SEEDS:
        began = time.perf_counter()
        found.append(negative(FULL, seed))
        say(f"negative, seed {seed}: bound {found[-1].lower_bound:.4f}, {time.perf_counter() - began:.0f} s")
    return found


def _told(found: list[Positive]) -> str:
    rows = [
        (
            f"seed {one.seed}",
            f"{one.cost_in_sigmas:.3f}",
            f"{one.net * _PERCENT:.2f} %",
            f"{one.clairvoyant * _PERCENT:.2f} %",
            f"{one.share * _PERCENT:.0f} %",
            one.turnover,
            f"{one.lower_bound:.4f}",
        )
        for one in found
    ]
    return table(("", "cost in sigmas", "net", "clairvoyant", "share", "turnover", "lower bound"), rows)


def main() -> int:
    """Run the controls and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_json_option(parser)
    given = parser.parse_args()
    cheap = _positives("positive", positive)
    dear = _positives("at real cost", at_real_cost)
    noise = _negatives()
    print(describe())
    print("\nThe leak where one way costs at most a tenth of a step's deviation:")
    print(_told(cheap))
    print("\nThe leak at real cost:")
    print(_told(dear))
    print("\nA leak of other moments on shuffled returns:")
    rows = [
        (f"seed {one.seed}", f"{one.net * _PERCENT:.2f} %", f"{one.sharpe:.4f}", f"{one.lower_bound:.4f}", one.turnover)
        for one in noise
    ]
    print(table(("", "net", "Sharpe per step", "lower 95 % bound", "turnover"), rows))
    write_json(
        given.json,
        {"cheap": list(map(asdict, cheap)), "dear": list(map(asdict, dear)), "noise": list(map(asdict, noise))},
    )
    passed = sum(one.share >= SHARE_NEEDED and one.cost_in_sigmas <= CHEAP for one in cheap)
    believed = (
        passed >= _NEEDED and all(one.lower_bound <= 0 for one in dear) and all(one.lower_bound <= 0 for one in noise)
    )
    verdict = "learning is to be believed" if believed else "learning is NOT to be believed"
    print(f"\n{passed} of {len(SEEDS)} seeds reach {SHARE_NEEDED:.0%}: {verdict}.")
    return 0 if believed else 1


if __name__ == "__main__":
    sys.exit(main())
