"""How often inputs that have not drifted give an alarm, and how soon drift is seen: a minute for `make bench-gate`.

Forty features are normal with variance 1 and forget half of what they were in so many decisions. The decider's own
terms watch them. False alarms are counted per window of the terms, and once more with every feature's mean off by as
much as is tolerated; drift is one feature that stands further off. `python -m benchmarks.input_drift`.
"""

import argparse
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from agents.release.drift import DriftState, DriftTerms, observe
from benchmarks.machine import describe
from benchmarks.results import add_json_option, table, write_json

FEATURES: Final = 40
HALF_LIVES: Final = (0, 8, 32, 128, 512)
SHIFTS: Final = (3.0, 4.0, 6.0, 20.0)
Floats = npt.NDArray[np.float64]


def inputs(draws: np.random.Generator, decisions: int, half_life: float) -> Floats:
    """Return features [decisions, FEATURES] of mean 0 and variance 1."""
    keep = 0.5 ** (1 / half_life) if half_life else 0.0
    fresh = draws.standard_normal((decisions, FEATURES)) * np.sqrt(1 - keep * keep)
    fresh[0] = draws.standard_normal(FEATURES)
    for at in range(1, decisions):
        fresh[at] += keep * fresh[at - 1]
    return fresh


def false_alarms(terms: DriftTerms, windows: int, half_life: float, shift: float = 0.0) -> float:
    """Return the share of windows that give an alarm when every feature's mean is ``shift`` off."""
    draws = np.random.default_rng((1, round(half_life), round(1_000 * shift)))
    found = 0
    for _ in range(windows):
        state = DriftState()
        rows = (inputs(draws, terms.window * terms.block, half_life) + shift).tolist()
        found += any(observe(state, tuple(row), terms) is not None for row in rows)
    return found / windows


def decisions_until_found(terms: DriftTerms, runs: int, half_life: float, shift: float) -> float | None:
    """Return the median number of decisions until one feature that stands ``shift`` off is found; None: not in time."""
    draws = np.random.default_rng((2, round(half_life), round(1_000 * shift)))
    times = [_found_after(terms, inputs(draws, 2 * terms.window * terms.block, half_life), shift) for _ in range(runs)]
    median = float(np.median(times))
    return median if np.isfinite(median) else None


def _found_after(terms: DriftTerms, features: Floats, shift: float) -> float:
    features[:, 0] += shift
    state = DriftState()
    for at, row in enumerate(features.tolist()):
        if observe(state, tuple(row), terms) is not None:
            return at + 1.0
    return float("inf")


def rows(terms: DriftTerms, windows: int) -> Iterable[tuple[object, ...]]:
    """Yield one row for each half-life."""
    for half_life in HALF_LIVES:
        quiet = (false_alarms(terms, windows, half_life, shift) for shift in (0.0, terms.tolerance))
        found = (decisions_until_found(terms, 21, half_life, shift) for shift in SHIFTS)
        yield (half_life, *(f"{share:.1%}" for share in quiet), *found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=100)
    add_json_option(parser)
    options = parser.parse_args()
    terms = DriftTerms()
    told = list(rows(terms, options.windows))
    print(f"input drift: {options.windows} windows a row, {terms}; {describe()}\n")
    header = ("half-life", "false alarms", "all at the tolerance", *(f"found at {shift:g}" for shift in SHIFTS))
    print(table(header, told))
    write_json(options.json, [dict(zip(header, row, strict=True)) for row in told])


if __name__ == "__main__":
    main()
