"""Whole days of real markets, one after the other: `python -m benchmarks.walk_forward [--markets EURUSD BAC]`.

A day is judged by what was learnt and chosen on the days before it, never on itself: two networks go on learning from
day to day, one that sees the votes and one that sees the pooled tally alone; the best expert is chosen anew for each
day. The champion that ships, which has never seen a real market, trades every judged day, too. Profit is net of spread,
fees and slippage, flat at each day's end, per day and not annualised; a day is drawn again as a whole.
"""

import argparse
import datetime
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.sim.tape import Tape
from benchmarks.comparators import Comparators
from benchmarks.contest import HEADER, Day, leads, standings, table_rows, verdicts
from benchmarks.following import follow
from benchmarks.machine import describe
from benchmarks.results import add_json_option, say, table, write_json
from benchmarks.set_policy import shipped_champion
from benchmarks.simulated import SETTINGS
from infra.servers.fetching import cache_directory
from infra.settings import load_settings
from streams.composition import compose
from streams.demo.plan import DemoPlan
from streams.offline.tapes import build_tape

DATA: Final = Path(__file__).resolve().parents[1].parent / "shared/data/lean/tick"
SET_POLICY: Final = "set policy"
POOL: Final = "pool network"
SHIPPED: Final = "shipped champion"
_SUNDAY: Final = 6


@dataclass(frozen=True, slots=True)
class RealMarket:
    """Files of a market by day, and how it is looked at: a ballot every ``grid_s`` seconds, ``horizon_s`` ahead.

    ``capital`` is the account's, so large that a lot is small beside the budget.
    """

    files: str
    grid_s: int
    horizon_s: int
    capital: int = 1_000_000

    def overrides(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Return the settings of one day. Limits grow with the capital."""
        feed = ",".join(str(path) for path in paths)
        scale = self.capital // 100_000
        money = ("order_value_max", "position_value_max", "gross_exposure_max", "net_exposure_max", "daily_loss_max")
        usual = (10_000, 20_000, 50_000, 30_000, 2_000)
        limits = {f"limits.global.{name}": value * scale for name, value in zip(money, usual, strict=True)}
        return DemoPlan(directory=Path(".run"), feed=feed, speed="max").overrides() | {
            "grid.step_ms": self.grid_s * 1000,
            "grid.horizons_s": [self.horizon_s],
            "strategies.committee.horizon_s": self.horizon_s,
            "strategies.pulse.horizon_s": self.horizon_s,
            "strategies.committee.policy": "null",
            "accounts.main.capital": self.capital,
            **limits,
        }


MARKETS: Final = {
    "EURUSD": RealMarket(r"eurusd-fxcm-(\d{8})-quote\.zip", grid_s=10, horizon_s=60),
    "BAC": RealMarket(r"bac-(\d{8})-(?:quote|trade)\.zip", grid_s=10, horizon_s=60),
}


def days_of(market: RealMarket, folder: Path = DATA) -> dict[str, list[Path]]:
    """Return the files of each trading day, the days in order; the stubs of Sundays are no days."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.zip")):
        named = re.fullmatch(market.files, path.name)
        if named and datetime.date.fromisoformat(named[1]).weekday() != _SUNDAY:
            found.setdefault(named[1], []).append(path)
    return found


def tape_of(market: RealMarket, paths: Sequence[Path]) -> Tape:
    """Return the tape of one whole day, kept on disk."""
    run = compose(load_settings(SETTINGS, market.overrides(paths), environment={}))
    return build_tape(run, 0.0, cache=cache_directory() / "tapes")


def tapes_of(name: str, only: int | None = None) -> dict[str, Tape]:
    """Return the tapes of a market's days, saying how long each took."""
    tapes = {}
    for day, paths in list(days_of(MARKETS[name]).items())[:only]:
        began = time.perf_counter()
        tapes[day] = tape_of(MARKETS[name], paths)
        say(f"{name} {day}: {len(tapes[day])} steps in {time.perf_counter() - began:.1f} s")
    return tapes


def learners_of(steps: int, seed: int) -> list[Any]:
    """Return the networks, which have learnt nothing yet; none for no steps, which needs no torch."""
    if not steps:
        return []
    from benchmarks.learning import Learner

    return [Learner(SET_POLICY, True, steps, seed), Learner(POOL, False, steps, seed)]


def walk(tapes: Mapping[str, Tape], learners: Sequence[Any], champion: Any | None) -> tuple[dict[str, list[Day]], Any]:
    """Return each contestant's days from the second on, and which expert was chosen for each day."""
    comparators, days = Comparators(tapes), list(tapes)
    found: dict[str, list[Day]] = {}
    chosen = {}
    for number in range(1, len(days)):
        day, before = days[number], days[:number]
        results, chosen[day] = comparators.rules(day, before)
        for learner in learners:
            policy = learner.learn([tapes[past] for past in before])
            results[learner.name] = follow(learner.seen(tapes[day]), policy, day)
        if champion is not None:
            results[SHIPPED] = follow(tapes[day], champion, day)
        for name, result in results.items():
            found.setdefault(name, []).append(result)
        say(f"{day}: " + ", ".join(f"{name} {result.net_bp:+.1f}" for name, result in results.items()))
    return found, chosen


def trials_of(tapes: Mapping[str, Tape], found: Mapping[str, Any], tried: int) -> int:
    """Return how many configurations were looked at: contestants but null, every expert that could have been chosen."""
    experts = Comparators(tapes).experts(list(tapes))
    return tried + len(found) - 1 + len(experts)


def judged(found: Mapping[str, Sequence[Day]], trials: int) -> dict[str, Any]:
    """Return what is told of one market: of whom we mean to be ahead depends on who took part."""
    subject = SET_POLICY if SET_POLICY in found else SHIPPED if SHIPPED in found else "baseline"
    ahead = leads(found, subject)
    return {
        "trials": trials,
        "contestants": standings(found, trials),
        "subject": subject,
        "ahead_bp": {name: interval._asdict() for name, interval in ahead.items()},
        "verdicts": verdicts(subject, ahead),
    }


def main() -> None:
    """Print a table for each market, and each day's figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", nargs="*", default=list(MARKETS), choices=list(MARKETS))
    parser.add_argument("--steps", type=int, default=30_000, help="of learning for each day and network; 0: rules only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, help="only the first so many days")
    parser.add_argument("--tried", type=int, default=0, help="configurations that were tried before, and are not shown")
    parser.add_argument("--no-champion", action="store_true")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(describe())
    champion = None if arguments.no_champion else shipped_champion()
    result: dict[str, Any] = {"machine": describe(), "steps": arguments.steps, "seed": arguments.seed, "markets": {}}
    for name in arguments.markets:
        market, tapes = MARKETS[name], tapes_of(name, arguments.days)
        if len(tapes) < 2:
            say(f"{name}: fewer than two days lie in {DATA.name}; nothing can be walked.")
            continue
        found, chosen = walk(tapes, learners_of(arguments.steps, arguments.seed), champion)
        told = judged(found, trials_of(tapes, found, arguments.tried)) | {"best_expert": chosen}
        told |= {"grid_s": market.grid_s, "horizon_s": market.horizon_s}
        told["steps_a_day"] = {day: len(tape) for day, tape in tapes.items()}
        told["hours_a_day"] = {day: len(tape) * market.grid_s / 3600 for day, tape in tapes.items()}
        result["markets"][name] = told
        write_json(arguments.json, result)
        print(
            f"\n## {name}: {len(tapes)} whole days, the first to learn from only; a ballot every {market.grid_s} s,"
            f" {market.horizon_s} s ahead; {told['trials']} trials\n"
        )
        print(table(HEADER, table_rows(told["contestants"])))
        print("\n" + table(("net bp by day", *list(tapes)[1:]), _by_day(found)))
        print("\n".join(told["verdicts"]), flush=True)


def _by_day(found: Mapping[str, Sequence[Day]]) -> list[list[object]]:
    return [[name, *(day.net_bp for day in days)] for name, days in found.items()]


if __name__ == "__main__":
    main()
