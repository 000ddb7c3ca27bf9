"""The champion on simulated regimes that it was not trained on: `python -m benchmarks.regimes [--seeds 8]`.

Each regime is run from seeds of its own; a whole run is what is drawn again for the interval. Beside the champion trade
nobody, the baseline policy, the best single expert (chosen on other seeds of the same regime), the plain mean of all
experts, and a network that learnt by the champion's recipe on the champion's markets but sees the pooled tally alone.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents.decider.policy import Policy
from agents.sim.tape import Tape
from benchmarks.comparators import Comparators
from benchmarks.contest import HEADER, Day, leads, standings, table_rows, verdicts
from benchmarks.following import follow
from benchmarks.machine import describe
from benchmarks.results import add_json_option, say, table, write_json
from benchmarks.set_policy import shipped_champion
from benchmarks.simulated import simulated_tape
from streams.training.pools import without_votes

REGIMES: Final = ("mixed", "trending", "reverting", "quiet", "crash")
FIRST_SEED: Final = 601
CHOOSING_SEEDS: Final = (591, 592)
CHAMPION: Final = "set policy"
POOL: Final = "pool network"


@dataclass(frozen=True, slots=True)
class Entrants:
    """The networks: ``champion`` sees votes, ``pool`` the tally alone (None where it was not learnt)."""

    champion: Policy
    pool: Policy | None = None

    def on(self, tape: Tape, label: str) -> dict[str, Day]:
        """Return what each comes to on a tape."""
        found = {CHAMPION: follow(tape, self.champion, label)}
        if self.pool is not None:
            found[POOL] = follow(tape.with_tallies(without_votes(tape.tallies)), self.pool, label)
        return found


def contest(regime: str, seeds: Sequence[int], seconds: float, entrants: Entrants) -> tuple[dict[str, list[Day]], str]:
    """Return each contestant's runs of a regime, and which expert was chosen for it."""
    choosing = [f"seed {seed}" for seed in CHOOSING_SEEDS]
    tapes = {f"seed {seed}": simulated_tape(regime, seed, seconds) for seed in (*CHOOSING_SEEDS, *seeds)}
    comparators = Comparators(tapes)
    found: dict[str, list[Day]] = {}
    chosen = ""
    for seed in seeds:
        label = f"seed {seed}"
        rules, chosen = comparators.rules(label, choosing)
        for name, day in (rules | entrants.on(tapes[label], label)).items():
            found.setdefault(name, []).append(day)
    return found, chosen


def judged(found: Mapping[str, Sequence[Day]], chosen: str, trials: int) -> dict[str, Any]:
    """Return what is told of one contest."""
    ahead = leads(found, CHAMPION)
    return {
        "best_expert": chosen,
        "contestants": standings(found, trials),
        "ahead_bp": {name: interval._asdict() for name, interval in ahead.items()},
        "verdicts": verdicts(CHAMPION, ahead),
    }


def learnt_pool(steps: int, seed: int) -> Policy:
    """Return the network that sees the pooled tally alone, learnt on the champion's markets. Needs torch."""
    from benchmarks.learning import Learner
    from streams.training.champion import CHAMPION as RECIPE
    from streams.training.markets import tapes_of

    tapes = [tape for market in RECIPE.train for tape in tapes_of(market)]
    return Learner(POOL, votes=False, steps=steps, seed=seed).learn(tapes)


def main() -> None:
    """Print a table for each regime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="runs of each regime")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="the first of them")
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--regimes", nargs="*", default=list(REGIMES), choices=REGIMES)
    parser.add_argument("--pool-steps", type=int, default=40_000, help="of learning; 0 leaves the pool network out")
    parser.add_argument("--tried", type=int, default=0, help="configurations that were tried before, and are not shown")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(describe())
    pool = learnt_pool(arguments.pool_steps, 1) if arguments.pool_steps else None
    entrants = Entrants(shipped_champion(), pool)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    result: dict[str, Any] = {"machine": describe(), "seconds": arguments.seconds, "regimes": {}}
    for regime in arguments.regimes:
        say(f"{regime}: {len(seeds)} runs of {arguments.seconds:g} s")
        found, chosen = contest(regime, seeds, arguments.seconds, entrants)
        trials = arguments.tried + len(found) - 1
        told = judged(found, chosen, trials) | {"trials": trials}
        result["regimes"][regime] = told
        write_json(arguments.json, result)
        print(f"\n## {regime}: {len(seeds)} runs of {arguments.seconds:g} s, best expert {chosen}, {trials} trials\n")
        print(table(HEADER, table_rows(told["contestants"])))
        print("\n".join(told["verdicts"]), flush=True)


if __name__ == "__main__":
    main()
