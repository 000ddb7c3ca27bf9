"""What the hard limits cost: all checks for one order, in process: `python -m benchmarks.limits` (`make bench-limits`).

An order is judged twice, by risk and by execution, each time on a view made of the account as it stands; so the view is
part of the figure, and given alone, too. Every order of a pass differs in id and quantity and is approved; the accounts
differ in what they hold and work. The collector runs as it does in a worker. CPU time stands beside the wall's, since a
shared machine stretches only the latter.
"""

import argparse
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from agents.limits.checks import check_order, failed
from agents.limits.exposure import AccountExposure, ExposureView, MarketView, view_of
from agents.limits.limit_set import LimitSet
from agents.limits.windows import PriceRange
from benchmarks.machine import describe
from benchmarks.results import quantile, table
from schemas.decisions import OrderApproved
from schemas.market import InstrumentDefined, Session
from schemas.opinions import MarketMark, MarkQuality
from schemas.values import NS_PER_MS, NS_PER_S, ZERO, Level, OrderType, Side, TimeInForce

NOW_NS: Final = 1_700_000_000 * NS_PER_S
ONE: Final = 100_000_000
AIM_US: Final = 100.0
_US: Final = 1_000.0
_ACTIVE: Final = (Level.ACTIVE, "")
_SHARES: Final = (0.5, 0.99, 0.999)
_HELD: Final = ("us for one order", "lines", "working", "checks")


@dataclass(frozen=True, slots=True)
class Size:
    """How much an account holds: ``strategies`` x ``instruments`` lines, ``orders`` working on each."""

    name: str
    strategies: int
    instruments: int
    orders: int


SIZES: Final = (Size("quiet", 1, 2, 0), Size("busy", 4, 10, 2), Size("crowded", 10, 20, 2))


def definition(number: int) -> InstrumentDefined:
    """Return one perpetual of many."""
    return InstrumentDefined(
        key=f"SIM:I{number}USD",
        event_time_ns=0,
        available_at_ns=0,
        venue="SIM",
        symbol=f"I{number}USD",
        tick_size=ONE // 100,
        lot_size=ONE // 10_000,
        quantity_min=ONE // 10_000,
        quantity_max=1_000 * ONE,
        notional_min=Decimal(5),
        multiplier=Decimal(1),
        inverse=False,
        base_currency=f"I{number}",
        quote_currency="USD",
        maker_fee_rate=ZERO,
        taker_fee_rate=ZERO,
        funding_rate=ZERO,
        funding_interval_ns=0,
        shortable=True,
        session=Session.CONTINUOUS,
        grid_ns=NS_PER_S,
        horizons_ns=(NS_PER_S,),
    )


def mark(name: str) -> MarketMark:
    """Return a good mark at 100."""
    return MarketMark(
        key=name,
        event_time_ns=NOW_NS,
        available_at_ns=NOW_NS,
        mid=100 * ONE,
        bid_price=100 * ONE - ONE // 100,
        ask_price=100 * ONE + ONE // 100,
        bid_quantity=ONE,
        ask_quantity=ONE,
        volume=0,
        newest_time_ns=NOW_NS,
        quality=MarkQuality.GOOD,
        on_grid=True,
        grid_time_ns=NOW_NS,
    )


def order(number: int, size: Size) -> OrderApproved:
    """Return one order of many: each of the account's strategies and instruments in turn, each quantity once."""
    return OrderApproved(
        key="main",
        event_time_ns=NOW_NS,
        available_at_ns=NOW_NS,
        order_id=f"{number:032x}",
        decision_id=f"{number:032x}",
        account="main",
        strategy=f"s{number % size.strategies}",
        instrument=f"SIM:I{number % size.instruments}USD",
        side=Side.BUY if number % 2 else Side.SELL,
        quantity=ONE + number * (ONE // 10_000),
        order_type=OrderType.LIMIT,
        limit_price=100 * ONE,
        time_in_force=TimeInForce.IOC,
        reduce_only=False,
        cancels=(),
        decision_mid=100 * ONE,
        limits_version="bench",
        checks=(),
        expires_at_ns=NOW_NS + NS_PER_S,
        decided_at_ns=NOW_NS,
    )


def limits(size: Size) -> LimitSet:
    """Return limits that every order of the measurement passes."""
    large: dict[str, Any] = dict.fromkeys(
        ("order_value_max", "position_value_max", "gross_exposure_max", "net_exposure_max", "daily_loss_max"), 10**9
    )
    return LimitSet.from_mapping(
        large
        | {
            "currency": "USD",
            "capital": 10**8,
            "price_collar": "0.02",
            "leverage_max": 10,
            "messages_max": 10_000,
            "executions_max": 10_000,
            "drawdown_max": "0.1",
            "permissions": {f"s{number}": ["*"] for number in range(size.strategies)},
        }
    )


def account(size: Size, rules: LimitSet) -> AccountExposure:
    """Return an account that holds and works what its size says, after a busy second and a moving minute."""
    exposure = AccountExposure.opened_with(Decimal(10**8))
    for strategy in range(size.strategies):
        for instrument in range(size.instruments):
            exposure.positions.setdefault(f"s{strategy}", {})[f"SIM:I{instrument}USD"] = 3 * ONE
    wide = Size(size.name, size.strategies, size.instruments, 0)
    for number in range(size.orders * size.strategies * size.instruments):
        template = order(number, wide)
        resting = msgspec.structs.replace(
            template,
            order_id=f"working-{number}",
            strategy=f"s{number % size.strategies}",
            instrument=f"SIM:I{number // size.strategies % size.instruments}USD",
            side=Side.BUY,
            limit_price=99 * ONE,
            time_in_force=TimeInForce.GTC,
        )
        exposure.add_approval(resting, rules, NOW_NS - 50 * NS_PER_S + number * 100 * NS_PER_MS)
    exposure.messages_ns = [NOW_NS - number * NS_PER_MS for number in range(45)]
    return exposure


def market(size: Size) -> MarketView:
    """Return the market of an account: each instrument with a minute of mids."""
    instruments = {item.key: item for item in map(definition, range(size.instruments))}
    ranges = {}
    for name in instruments:
        ranges[name] = PriceRange()
        for second in range(60, -1, -1):
            ranges[name].add(NOW_NS - second * NS_PER_S, 100 * ONE - second * (ONE // 100), 60_000)
    return MarketView(instruments, {name: mark(name) for name in instruments}, ranges, NOW_NS)


def measure(
    work: Callable[[OrderApproved], object], orders: Sequence[OrderApproved], clock: Callable[[], int]
) -> list[float]:
    """Return the microseconds of each call by a clock (ns)."""
    spent: list[float] = []
    for item in orders:
        began_ns = clock()
        work(item)
        spent.append((clock() - began_ns) / _US)
    return spent


def memory(work: Callable[[OrderApproved], object], item: OrderApproved) -> tuple[int, float]:
    """Return the memory blocks that one verdict keeps, and the KiB in use at most while it is made."""
    work(item)
    gc.collect()
    gc.disable()
    before = sys.getallocatedblocks()
    kept = work(item)
    blocks = sys.getallocatedblocks() - before
    tracemalloc.start()
    del kept
    work(item)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gc.enable()
    return blocks, peak / 1024


def rows(size: Size, calls: int) -> list[list[object]]:
    """Return the table's lines for accounts of one size."""
    rules = limits(size)
    exposure, seen = account(size, rules), market(size)
    orders = [order(number, size) for number in range(calls)]
    view = view_of(exposure, seen, _ACTIVE)

    def checks(item: OrderApproved) -> object:
        return check_order(item, view, rules, NOW_NS)

    def making(item: OrderApproved) -> ExposureView:
        del item
        return view_of(exposure, seen, _ACTIVE)

    def both(item: OrderApproved) -> object:
        return check_order(item, view_of(exposure, seen, _ACTIVE), rules, NOW_NS)

    results = check_order(orders[0], view, rules, NOW_NS)
    assert not failed(results), failed(results)
    found: list[list[object]] = []
    for part, work in (("view", making), ("checks", checks), ("both", both)):
        measure(work, orders[: calls // 10], time.perf_counter_ns)
        spent = measure(work, orders, time.perf_counter_ns)
        wall = [quantile(spent, share) for share in _SHARES]
        cpu = quantile(measure(work, orders, time.thread_time_ns), 0.99)
        blocks, peak = memory(work, orders[0])
        held = (len(view.lines), len(view.working), len(results))
        found.append([f"{size.name}: {part}", *held, *wall, cpu, blocks, f"{peak:.1f}"])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    calls: int = parser.parse_args().calls
    found = [row for size in SIZES for row in rows(size, calls)]
    header = [*_HELD, "p50", "p99", "p99.9", "p99 CPU", "blocks kept", "peak KiB"]
    print(table(header, found))
    for name in ("busy: checks", "busy: both"):
        p99 = next(row[5] for row in found if row[0] == name)
        reached = isinstance(p99, float) and p99 < AIM_US
        print(f"aim: p99 below {AIM_US:.0f} us, {name}: {'reached' if reached else 'missed'}")
    print(f"{calls:,} orders each; {describe()}")


if __name__ == "__main__":
    main()
