"""A steady rate of market messages through every worker on real Kafka: ``python -m benchmarks.sustained``.

A tape is made of the recorded USD-M capture: six instruments, evenly spaced. It is played in its own time, as a feed
would come, and held back where a money stage falls behind, so a rate that is too high is seen as one that was not
reached. Each rate of ``--rates`` is tried for ``--trial-minutes``, the highest first; the first that holds is then run
for ``--minutes``. A run holds when the rate was reached, every message is accounted for, and no lag was left.
"""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import describe
from benchmarks.results import add_json_option, run_in_directory, say, table, write_json
from benchmarks.sustained_demo import SustainedDemo, accounted
from benchmarks.tape import RECORDED, SYMBOLS, Tape, instruments_of, write_tape
from infra.servers import start_kafka
from infra.servers.process import ServerFailed
from infra.settings import load_settings
from streams.demo.plan import WORKER_GROUPS, DemoPlan

RATE: Final = 11_600.0
_REACHED: Final = 0.99
_PATIENCE: Final = 1.5
_GRACE_S: Final = 30.0
_MARKS: Final = (0.1, 0.5, 1.0)
_LAG_S: Final = 5.0
_WORST: Final = 12


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``experts`` is how many workers share the experts' partitions."""

    minutes: float
    trial_minutes: float
    instruments: int
    experts: int


def _groups(experts: int) -> tuple[tuple[str, ...], ...]:
    return tuple(group for group in WORKER_GROUPS for _ in range(experts if group == ("experts",) else 1))


def run_rate(directory: Path, per_s: float, minutes: float, options: Options) -> dict[str, Any] | None:
    """Play a tape of this rate to the whole platform; None when the run was ended. Raises ServerFailed."""
    tape = Tape(per_s, minutes * 60, SYMBOLS[: options.instruments])
    say(f"{per_s:g} a second for {minutes:g} min: writing the tape of {tape.messages:,} messages")
    files = write_tape(tape, directory / "tape")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        plan = DemoPlan(
            directory=directory / "run",
            broker=kafka.bootstrap,
            feed=",".join(str(file) for file in files),
            duration_s=_PATIENCE * tape.seconds + _GRACE_S,
            groups=_groups(options.experts),
            more=(("instruments", instruments_of(tape, load_settings(None))),),
        )
        demo = SustainedDemo(plan, [share * tape.seconds for share in _MARKS])
        say(f"{per_s:g} a second for {minutes:g} min: the platform")
        if asyncio.run(demo.run()) is None:
            return None
        return _result(demo, tape, per_s)


def _result(demo: SustainedDemo, tape: Tape, per_s: float) -> dict[str, Any]:
    accounts = demo.accounts
    feed = accounts["feed"]
    if not demo.standings:
        raise ServerFailed("The workers came up, but took no message of the tape.")
    last = demo.standings[-1]
    taken_s = demo.fed_s or last.at_s
    worst = {
        f"{stage} {lane}": max(standing.behind.get((stage, lane), 0) for standing in demo.standings)
        for stage, lane in last.behind
    }
    left = {f"{stage} {lane}": count for (stage, lane), count in last.behind.items()}
    reached_per_s = feed["messages"] / taken_s if taken_s else 0.0
    lost = {
        "messages not taken": tape.messages - feed["messages"],
        "taken, not accounted for": feed["messages"] - accounted(feed),
        "in Kafka, not stepped": sum(accounts["unstepped"].values()),
        "in Kafka, not stored": accounts["to_store"] - accounts["stored"],
        "published, no row": sum(feed["published"].values()) - accounts["rows_market_data"],
        "dead letters": sum(accounts["dead_letters"].values()),
    }
    flowing = reached_per_s >= _REACHED * per_s and bool(demo.fed_s)
    return {
        "asked_per_s": per_s,
        "reached_per_s": round(reached_per_s, 1),
        "seconds": round(taken_s, 1),
        "machine": describe(),
        "messages": tape.messages,
        "instruments": len(tape.symbols),
        "experts": sum(group == ("experts",) for group in demo.plan.groups),
        "lost": lost,
        "holds": flowing and not any(lost.values()) and max(left.values(), default=0) <= _LAG_S * per_s,
        "refused": int(feed["quality"].get("REFUSED", 0)),
        "accounts": accounts,
        "lag_max": worst,
        "lag_at_end": left,
        "lag_over_time": [
            {"at_s": round(standing.at_s, 1), "messages": standing.messages, "behind": sum(standing.behind.values())}
            for standing in demo.standings
        ],
        "memory_mib": {
            name: {f"{mark_s / 60:g} min": round(mib, 1) for mark_s, mib in marks.items()}
            for name, marks in demo.memory_mib.items()
        },
        "cpu_s": demo.cpu_s,
        "took_s": demo.took_s,
    }


def report(result: dict[str, Any]) -> None:
    """Print what one run was, what it lost, its lag, and its memory."""
    verdict = "holds" if result["holds"] else "does NOT hold"
    print(f"\n{result['asked_per_s']:,.0f} messages/s {verdict}: {result['reached_per_s']:,.1f} reached over")
    print(
        f"{result['seconds']:,.1f} s; {result['messages']:,} messages of {result['instruments']} instruments,"
        f" {result['experts']} worker(s) of experts; {result['machine']}"
    )
    stepped = result["accounts"]["stepped"]
    published = sum(result["accounts"]["feed"]["published"].values())
    print(table(("lost", "count"), list(result["lost"].items())))
    print(
        f"published {published:,}, refused with a reason {result['refused']:,},"
        f" duplicates dropped {result['accounts']['duplicates_dropped']:,}"
    )
    print("\n" + table(("stepped by", "records"), list(stepped.items())))
    worst = sorted(result["lag_max"].items(), key=lambda item: -item[1])[:_WORST]
    rows = [[name, most, result["lag_at_end"].get(name, 0)] for name, most in worst]
    print("\n" + table(("lag in records, the largest first", "most", "as the feed ended"), rows))
    marks = list(next(iter(result["memory_mib"].values()), {}))
    memory = [[name, *by_mark.values()] for name, by_mark in result["memory_mib"].items()]
    print("\n" + table(("resident memory, MiB", *marks), memory))
    used = [[name, cpu_s, 100 * cpu_s / result["took_s"]] for name, cpu_s in result["cpu_s"].items()]
    print("\n" + table(("CPU", "seconds", "percent"), used))


def _measure(options: Options, rates: Sequence[float], json_file: Path | None, directory: Path) -> bool:
    results: list[dict[str, Any]] = []
    for per_s in sorted(rates, reverse=True):
        trials = [options.trial_minutes, options.minutes] if options.trial_minutes else [options.minutes]
        for minutes in trials:
            result = run_rate(directory / f"{per_s:g}-{minutes:g}", per_s, minutes, options)
            if result is None:
                sys.stderr.write("The run was ended before its workers were ready.\n")
                return False
            results.append(result)
            write_json(json_file, results)
            report(result)
            if not result["holds"]:
                break
        else:
            return True
    print("\nnone of these rates holds on this machine")
    return True


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 2 when real Kafka, the platform or the recorded capture is not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[RATE], help="messages a second, the highest first")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the run that counts")
    parser.add_argument("--trial-minutes", type=float, default=0.0, help="of a trial before it; 0 is none")
    parser.add_argument("--instruments", type=int, default=len(SYMBOLS), choices=range(1, len(SYMBOLS) + 1))
    parser.add_argument("--experts", type=int, default=1, help="workers that share the experts' partitions")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    if not RECORDED.is_file():
        sys.stderr.write(
            f"The recorded capture {RECORDED.name} is not beside this checkout: there is no tape to make.\n"
        )
        return 2
    options = Options(given.minutes, given.trial_minutes, given.instruments, given.experts)
    return run_in_directory(partial(_measure, options, given.rates, given.json))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
