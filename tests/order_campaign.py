"""Every sequence of up to six venue reports on one order: ``make test-orders`` prints the counts.

``python tests/order_campaign.py [--length N] [--jobs N] [--only NAME]``. Exit code 1 when a law does not hold.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from order_walk import LETTERS, STARTS, Covered, Walk, report  # noqa: E402


def _walk(name: str, length: int) -> tuple[str, Covered | None, str]:
    try:
        return name, Walk(STARTS[name]).run(length), ""
    except AssertionError as error:
        return name, None, str(error)


def main() -> int:
    """Walk every start, print what was covered, and return the exit code."""
    parser = argparse.ArgumentParser(description="Every sequence of venue reports on one order.")
    parser.add_argument("--length", type=int, default=6, help="reports in a sequence, at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--only", default="", help="walk from the beginnings whose name has this in it")
    given = parser.parse_args()
    starts = [name for name in STARTS if given.only in name]
    sys.stdout.write(f"{len(LETTERS)} reports: {', '.join(LETTERS)}\n")
    total, violations = 0, 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for name, covered, fault in pool.map(_walk, starts, [given.length] * len(starts)):
            if covered is None:
                violations += 1
                sys.stdout.write(f"{name}: VIOLATED: {fault}\n")
                continue
            total += sum(covered.sequences)
            sys.stdout.write(report(name, covered) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"{total:,} sequences of up to {given.length} reports, {violations} violations\n")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
