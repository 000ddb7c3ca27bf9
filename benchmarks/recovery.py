"""Recovery from ``kill -9``, with ever more history behind: ``python -m benchmarks.recovery``.

Every stage is a process of its own with a stable name in its group, on real Kafka and Postgres, while the simulated
market goes on. One after the other is killed and started again at once. The time is that from the start of the new
process to its first new output, as Kafka keeps it (for sinks: to the first new row in Postgres); the split says when it
was connected (interpreter, imports and settings are behind it) and when it had claimed its shards (so had joined the
group); what is left is the seek, the first fetch, the step and the send, and waiting for something to be said.

History is that of a market made quicker: so many records of market data as the demo's market gives in that time.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import describe
from benchmarks.recovery_demo import RecoveringDemo, Recovery, single_groups
from benchmarks.results import add_json_option, run_in_directory, table, write_json
from benchmarks.tick_to_order import settings_of
from infra.servers import start_kafka
from streams.demo.plan import DemoPlan
from streams.launch import WORKERS

_GRID_MS: Final = 200
_WARM_UP_S: Final = 5.0
_PATIENT: Final = {"mark_ms": 30_000, "market_ms": 30_000, "decision_ms": 30_000}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def summed_up(recoveries: Sequence[Recovery]) -> list[dict[str, Any]]:
    """Return the medians of each stage and history, in the order of the flow."""
    histories = sorted({recovery.minutes for recovery in recoveries})
    rows = []
    for stage in WORKERS:
        for minutes in histories:
            mine = [item for item in recoveries if (item.stage, item.minutes) == (stage, minutes)]
            if mine:
                rows.append(
                    {
                        "stage": stage,
                        "history_minutes": minutes,
                        "runs": len(mine),
                        "connected_s": _median([item.connected_s for item in mine]),
                        "claimed_s": _median([item.claimed_s for item in mine]),
                        "first_output_s": _median([item.output_s for item in mine]),
                        "first_output_max_s": round(max(item.output_s for item in mine), 3),
                    }
                )
    return rows


def report(demo: RecoveringDemo, rows: Sequence[dict[str, Any]]) -> None:
    """Print what lay behind the workers, and how long each took."""
    print(f"recovery from kill -9 on real Kafka and Postgres; {describe()}\n")
    made = [[f"{item.minutes:g} min", item.market_records, item.journal_rows, item.took_s] for item in demo.histories]
    print(table(("history", "records of market data", "journal rows", "made in s"), made))
    header = ("seconds since the start, p50", "history min", "runs", "connected", "claimed", "first output", "max")
    print("\n" + table(header, [[_shown(value) for value in row.values()] for row in rows]))
    print("\nsinks claim nothing: their place is the group's; control is given a command as it starts")


def _shown(value: object) -> object:
    return f"{value:.2f}" if isinstance(value, float) else value


def _measure(given: argparse.Namespace, directory: Path) -> bool:
    with ExitStack() as stack:
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        plan = DemoPlan(
            directory=directory / "run",
            broker=kafka.bootstrap,
            duration_s=_WARM_UP_S,
            groups=single_groups(),
            more=tuple((settings_of(_GRID_MS) | {"staleness": _PATIENT}).items()),
        )
        demo = RecoveringDemo(plan, given.history_minutes, given.fill_rate, given.runs, given.stages)
        if asyncio.run(demo.run()) is None:
            sys.stderr.write("The run was ended before it was done; what it had measured follows.\n")
    if not demo.recoveries:
        return False
    rows = summed_up(demo.recoveries)
    histories = [asdict(history) for history in demo.histories]
    write_json(given.json, {"machine": describe(), "histories": histories, "recoveries": rows})
    report(demo, rows)
    return True


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 2 when real Kafka or the platform cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history-minutes", type=_numbers, default=[1.0, 10.0, 60.0], help="such as 1,10,60")
    parser.add_argument("--fill-rate", type=float, default=2_000.0, help="market events a second while history is made")
    parser.add_argument("--runs", type=int, default=3, help="kills of each worker for each history")
    parser.add_argument("--stages", nargs="+", choices=WORKERS, default=list(WORKERS), help="which to kill")
    add_json_option(parser)
    return run_in_directory(partial(_measure, parser.parse_args(arguments)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
