"""How often the release gate lets in who is no better, and who is: `python -m benchmarks.release_gate`, half a minute.

Two models trade on one simulated market, on paper and at its costs, and the gate judges them as it judges a shadow.
What comes next is in part told by a slow wave that each model sees through its own noise: its insight is how much of
what it sees is the wave. In an A/A pair both have the same insight and mostly the same noise, as a model and the same
model trained once more would; in the others the challenger sees more. Volatility comes in spells.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agents.decider.policy import TARGETS
from agents.release.gate import GateRefusal, GateTerms, GateVerdict, judge
from agents.release.paper import Pair, paper_result
from benchmarks.machine import describe
from benchmarks.results import add_json_option, table, write_json

Floats = npt.NDArray[np.float64]

PAIRS: Final = 200
HALF_LIFE: Final = 20.0
"""Decisions in which the wave, and each model's noise, forgets half of what it was."""
TOLD: Final = 0.2
"""What the wave tells of the next move: its correlation with it."""
SIGMA: Final = 0.0005
COST_IN_SIGMA: Final = 0.1
SHARED: Final = 0.95
"""Correlation of both models' noise in a pair."""
INCUMBENT: Final = 0.5
MID: Final = 100 * 100_000_000
EFFECTS: Final = (0.55, 0.6, 0.65, 0.7, 0.75)
STATED: Final = 0.75


@dataclass(frozen=True, slots=True)
class Share:
    """What became of pairs: how many passed, how many by the bound alone, and what they were like on average."""

    insight: float
    pairs: int
    passed: int
    by_bound: int
    effect: float
    differing: float

    def row(self) -> tuple[object, ...]:
        """Return the line of the table."""
        shares = (f"{self.passed / self.pairs:.1%}", f"{self.by_bound / self.pairs:.1%}")
        return (f"{self.insight:.2f}", self.pairs, f"{self.effect:+.3f}", f"{self.differing:.0%}", *shares)


def waves(draws: np.random.Generator, steps: int, count: int) -> Floats:
    """Return ``count`` slow waves [count, steps] of mean 0 and variance 1."""
    keep = 0.5 ** (1 / HALF_LIFE)
    fresh = draws.standard_normal((count, steps)) * np.sqrt(1 - keep * keep)
    found = np.empty((count, steps))
    found[:, 0] = draws.standard_normal(count)
    for step in range(1, steps):
        found[:, step] = keep * found[:, step - 1] + fresh[:, step]
    return found


def simulated(seed: int, decisions: int, insight: float, shared: float = SHARED) -> list[Pair]:
    """Return the pairs of one run; ``insight`` is the challenger's, the incumbent has ``INCUMBENT``."""
    draws = np.random.default_rng((20_261_122, seed))
    steps = decisions + 1
    wave, noise, own, loudness = waves(draws, steps, 4)
    sigma = SIGMA * np.exp(0.5 * loudness - 0.125)
    returns = sigma * (TOLD * wave + np.sqrt(1 - TOLD**2) * draws.standard_normal(steps))
    mids = np.rint(MID * np.exp(np.concatenate(([0.0], np.cumsum(returns[:-1]))))).astype(np.int64).tolist()
    other = shared * noise + np.sqrt(1 - shared**2) * own
    incumbent = _targets(INCUMBENT * wave + np.sqrt(1 - INCUMBENT**2) * noise)
    challenger = _targets(insight * wave + np.sqrt(1 - insight**2) * other)
    cost = SIGMA * COST_IN_SIGMA
    paths = zip(mids, incumbent, challenger, strict=True)
    return [Pair("line", at, mid, cost, mine, theirs) for at, (mid, mine, theirs) in enumerate(paths)]


def _targets(seen: Floats) -> list[float]:
    lattice = np.array(TARGETS)
    return [float(target) for target in lattice[np.abs(seen[:, None] - lattice).argmin(axis=1)]]


def judged(seed: int, terms: GateTerms, insight: float, shared: float = SHARED) -> tuple[GateVerdict, float]:
    """Return the gate's verdict on one pair, and the effect: mean advantage per decision in its standard deviations."""
    result = paper_result(simulated(seed, terms.decisions_min, insight, shared))
    differences = result.differences
    deviation = float(differences.std())
    verdict = judge(result, terms, "incumbent", "challenger", str(seed))
    return verdict, verdict.mean / deviation if deviation else 0.0


def shares(pairs: int, terms: GateTerms, insight: float, shared: float = SHARED, first_seed: int = 0) -> Share:
    """Return what became of so many pairs with this insight of the challenger."""
    found = [judged(first_seed + seed, terms, insight, shared) for seed in range(pairs)]
    verdicts = [verdict for verdict, _ in found]
    return Share(
        insight=insight,
        pairs=pairs,
        passed=sum(verdict.passes for verdict in verdicts),
        by_bound=sum(GateRefusal.NOT_BETTER not in verdict.refusals for verdict in verdicts),
        effect=float(np.mean([effect for _, effect in found])),
        differing=float(np.mean([verdict.differing for verdict in verdicts])),
    )


def rows(pairs: int, terms: GateTerms) -> Iterable[tuple[str, Share]]:
    """Yield the shares of A/A pairs, akin and strangers, and of each effect."""
    yield "A/A, akin", shares(pairs, terms, INCUMBENT)
    yield "A/A, strangers", shares(pairs, terms, INCUMBENT, shared=0.0)
    for insight in EFFECTS:
        yield "better" + (" (stated)" if insight == STATED else ""), shares(pairs, terms, insight)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--decisions", type=int, default=GateTerms().decisions_min, help="N of each pair")
    add_json_option(parser)
    options = parser.parse_args()
    terms = GateTerms(decisions_min=options.decisions)
    told = list(rows(options.pairs, terms))
    print(f"release gate: N = {terms.decisions_min} decisions, one-sided level {terms.level}; {describe()}\n")
    header = ("pairs", "insight", "n", "effect", "differing", "promoted", "by the bound alone")
    print(table(header, [(name, *share.row()) for name, share in told]))
    write_json(options.json, [{"pairs": name} | vars_of(share) for name, share in told])


def vars_of(share: Share) -> dict[str, float]:
    """Return a share as plain numbers."""
    return {name: getattr(share, name) for name in ("insight", "pairs", "passed", "by_bound", "effect", "differing")}


if __name__ == "__main__":
    main()
