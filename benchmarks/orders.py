"""Orders a second, end to end, with every guarantee on: ``python -m benchmarks.orders``.

The whole platform runs as in ``tradermind demo BROKER=kafka``: real Kafka, real Postgres, every worker a process, the
simulated exchange one more. Decisions come at rising rates. Each goes through risk (sized, and held against every
limit), execution (held against them again, its intent committed before it is sent), the exchange (on its disk before it
answers) and back (each report journaled, each fill booked, all of it in the record). A rate is sustained when every
order was sent once and has one outcome, none was refused or too old to send, and the record has caught up soon after.
At the end our books are compared with the exchange's own statement, to the last digit.
"""

import argparse
import asyncio
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from benchmarks.machine import cpu_seconds, describe
from benchmarks.measured_demo import MeasuredDemo
from benchmarks.orders_load import OrderLoad, Stretch
from benchmarks.orders_outcome import approvals_of, figures, judge, requests_of
from benchmarks.results import add_json_option, run_in_directory, say, table, write_json
from infra.postgres.queries_statement import our_statement
from infra.venues.account_compare import differences
from infra.venues.account_simulated import SimulatedAccountReader
from schemas.values import NS_PER_MS
from streams.demo.plan import DemoPlan
from streams.demo.status import Snapshot

PEER_PER_S: Final = 418.0
"""The best that a peer has published for its engine: the rate to be above."""
RATES: Final = (200.0, 430.0, 500.0, 600.0)
_INSTRUMENTS: Final = ("SIM:BTCUSD", "SIM:ETHUSD")
_DRAIN_S: Final = 60.0
_SETTLED_S: Final = 4.0
_LIFE_MS: Final = 2_000
_ORDERS: Final = """
    SELECT v.decision_id, v.verdict, v.reasons, o.order_id, o.status, o.final, o.deny_reasons
    FROM order_verdicts v LEFT JOIN orders o USING (order_id) WHERE v.decision_id = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for: decisions a second, for how long each rate, and how many accounts share them."""

    rates: Sequence[float]
    seconds: float
    accounts: int
    ticks_per_s: float
    stale_ms: int | None


def lines_of(accounts: int) -> list[tuple[str, str, str]]:
    """Return (account, strategy, instrument) of every line, an account's two far apart."""
    return [(f"a{n}", f"s{n}", instrument) for instrument in _INSTRUMENTS for n in range(accounts)]


def settings_of(accounts: int, stale_ms: int | None = None) -> dict[str, Any]:
    """Return what a run must be told so that no limit but the machine stops the orders.

    ``stale_ms``: how old marks, market and decisions may be; None: what the platform's settings say.
    """
    idle = {"policy": "null", "horizon_s": 10}
    strategy = {**idle, "instruments": list(_INSTRUMENTS), "share": "1", "risk_budget": "0.0006"}
    return {
        # Ballots, and the valuations of so many accounts, are not what is measured.
        "grid.step_ms": 10_000,
        "grid.horizons_s": [10],
        "strategies.committee": idle,
        "strategies.pulse": {"horizon_s": 10, "parameters": {"every": 1_000_000, "size": 0.5}},
        **{f"accounts.a{n}": {"currency": "USD", "capital": "100000"} for n in range(accounts)},
        **{f"strategies.s{n}": strategy | {"account": f"a{n}"} for n in range(accounts)},
        # Turning round needs the short side of the spot instrument, too; and what a partial fill left is small.
        "instruments": {"SIM:BTCUSD": {"notional_min": 1}, "SIM:ETHUSD": {"notional_min": 1, "shortable": True}},
        **({} if stale_ms is None else {"staleness": dict.fromkeys(("mark_ms", "market_ms", "decision_ms"), stale_ms)}),
        "limits.global": {"messages_max": 100_000, "executions_max": 1_000_000, "duplicate_window_ms": 1},
    }


class LoadedDemo(MeasuredDemo):
    """A demo that is given decisions as soon as all its workers run, and ends with the last of them."""

    def __init__(self, plan: DemoPlan, options: Options) -> None:
        super().__init__(plan, options.ticks_per_s)
        self._options = options
        self._loading: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.stretches: list[Stretch] = []
        self.cpu_of: list[dict[str, float]] = []
        self.rows: list[list[dict[str, Any]]] = []
        self.differing: list[str] = ["never compared"]
        self.approved_ms: dict[str, float] = {}
        self.url = ""

    def _exchange(self, stack: Any, run: Any) -> dict[str, Any]:
        found = super()._exchange(stack, run)
        self.url = found["venue.url"]
        return found

    def _is_over(self, snapshot: Snapshot, ready_at: float) -> bool:
        del snapshot, ready_at
        if self._loading is None:
            self._loading = threading.Thread(target=self._load, daemon=True)
            self._loading.start()
        if self._failure is not None:
            raise self._failure
        return not self._loading.is_alive()

    def _load(self) -> None:
        try:
            self._run_rates()
        except BaseException as failure:  # It is raised where the run is watched.
            self._failure = failure

    def _run_rates(self) -> None:
        threading.Event().wait(_SETTLED_S)
        load = OrderLoad(
            self._bootstrap,
            self._dsn,
            lines_of(self._options.accounts),
            (self._options.stale_ms or _LIFE_MS) * NS_PER_MS,
        )
        load.run(20.0, 5.0, _DRAIN_S)
        with psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row) as connection:
            for per_s in self._options.rates:
                before = self._used()
                stretch = load.run(per_s, self._options.seconds, _DRAIN_S)
                took_s = stretch.took_s + (stretch.drained_s or _DRAIN_S)
                self.cpu_of.append({name: (used - before[name]) / took_s for name, used in self._used().items()})
                self.stretches.append(stretch)
                self.rows.append(connection.execute(_ORDERS.encode(), (list(stretch.written_ns),)).fetchall())
                shown = "never" if stretch.drained_s is None else f"{stretch.drained_s:.1f} s"
                say(f"{per_s:g} a second: {stretch.reached_per_s:.0f} written, in the record after {shown}")
                if stretch.drained_s is None:
                    break
            theirs = asyncio.run(SimulatedAccountReader(self.url).account_statement())
            self.differing = [str(item) for item in differences(our_statement(connection), theirs)]
        self.approved_ms = approvals_of(self._bootstrap)

    def _used(self) -> dict[str, float]:
        return {worker.name: cpu_seconds(worker.pid) for worker in self._workers}

    def _sum_up(self) -> dict[str, Any]:
        return {}


def measure(directory: Path, options: Options) -> dict[str, Any] | None:
    """Run the platform under all rates; None when it ended before the first was over.

    Raises ServerFailed when a server or a worker cannot be started.
    """
    more = tuple(settings_of(options.accounts, options.stale_ms).items())
    demo = LoadedDemo(DemoPlan(directory=directory / "run", broker="kafka", duration_s=86_400, more=more), options)
    if asyncio.run(demo.run()) is None or not demo.stretches:
        return None
    sent_ns = requests_of(directory / "run" / "exchange.record")
    rates = []
    for stretch, rows, used in zip(demo.stretches, demo.rows, demo.cpu_of, strict=True):
        ours = {row["order_id"] for row in rows}
        waits_ms = [
            sent_ns[name][0] / 1e6 - at_ms for name, at_ms in demo.approved_ms.items() if name in ours & set(sent_ns)
        ]
        result = judge(stretch, rows, sent_ns)
        rates.append(result | {"approval_to_request": figures(waits_ms), "cpu": used})
    best = max((rate["orders_per_s"] for rate in rates if rate["sustained"]), default=None)
    return {
        "machine": describe(),
        "accounts": options.accounts,
        "seconds": options.seconds,
        "ticks_per_s": options.ticks_per_s,
        "stale_ms": options.stale_ms,
        "rates": rates,
        "sustained_per_s": best,
        "peer_per_s": PEER_PER_S,
        "differences": demo.differing,
    }


def report(result: dict[str, Any]) -> None:
    """Print the table of all rates, where the processor time went, and whether the books are the exchange's."""
    print(f"orders end to end, every guarantee on; {result['machine']}; {result['accounts']} accounts,", end=" ")
    print(f"{result['seconds']:g} s each rate{_stale(result['stale_ms'])}\n")
    header = ("decisions/s", "reached", "orders/s", "orders", "refused", "drained s", "sustained")
    rows = [
        [
            f"{rate['asked_per_s']:g}",
            rate["reached_per_s"],
            rate["orders_per_s"],
            rate["orders"],
            sum(rate["refused"].values()),
            rate["drained_s"],
            rate["sustained"],
        ]
        for rate in result["rates"]
    ]
    print(table(header, rows))
    named = (
        ("decision written to request", "decision_to_request"),
        ("approval written to request", "approval_to_request"),
    )
    waits = [
        [f"{rate['asked_per_s']:g}/s: {name}", *(rate[key][which] for which in ("n", "p50_ms", "p99_ms", "max_ms"))]
        for rate in result["rates"]
        for name, key in named
    ]
    print("\n" + table(("milliseconds", "n", "p50", "p99", "max"), waits))
    workers = sorted({name for rate in result["rates"] for name in rate["cpu"]})
    used = [[name, *(100 * rate["cpu"][name] for rate in result["rates"])] for name in workers]
    print("\n" + table(("percent of one core", *(f"{rate['asked_per_s']:g}/s" for rate in result["rates"])), used))
    for rate in result["rates"]:
        counts = {key: rate[key] for key in ("in_vain", "two_outcomes", "sent_twice", "not_sent")}
        print(f"{rate['asked_per_s']:g}/s: {counts}, refused {rate['refused'] or 'none'}")
    best = result["sustained_per_s"]
    shown = "none" if best is None else f"{best:.0f}"
    print(f"\nsustained: {shown} orders a second; the best published by a peer is {PEER_PER_S:g}")
    print(f"our books against the exchange's statement: difference {len(result['differences'])}")
    for item in result["differences"][:10]:
        print(f"  {item}")


def _stale(stale_ms: int | None) -> str:
    return "" if stale_ms is None else f"; STALE LIMITS WIDENED to {stale_ms:,} ms"


def _measure(options: Options, json_file: Path | None, directory: Path) -> bool:
    result = measure(directory, options)
    if result is None:
        sys.stderr.write("The run ended before the first rate was over.\n")
        return False
    write_json(json_file, result)
    report(result)
    doubled = sum(rate["two_outcomes"] + rate["sent_twice"] for rate in result["rates"])
    return not doubled and not result["differences"]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when an order was doubled or the books differ, 2 when the platform cannot be started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="decisions a second, rising")
    parser.add_argument("--seconds", type=float, default=35.0, help="of each rate")
    parser.add_argument(
        "--accounts", type=int, default=128, help="each trades two instruments with a strategy of its own"
    )
    parser.add_argument("--ticks", type=float, default=50.0, help="market data a second")
    parser.add_argument("--stale-ms", type=int, help="of marks, market and decisions; the settings' unless it is given")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    options = Options(given.rates, given.seconds, given.accounts, given.ticks, given.stale_ms)
    return run_in_directory(partial(_measure, options, given.json))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
