"""A desk that trades at random with the simulated venue in the same process: both sides of the books, from one seed."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from msgspec.structs import replace
from trading_desk import Desk, wide_limits

from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.sim.engine import Engine
from agents.sim.generator import Generator, seeded
from agents.sim.instruments import BTCUSD, SIM_INSTRUMENTS, START_PRICES
from agents.sim.loopback import Loopback
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import Fault, FaultKind, VenueTerms
from schemas.event import Event
from schemas.market import InstrumentDefined
from schemas.orders import (
    AmendRequested,
    CancelRequested,
    ExecType,
    OrderEvent,
    OrderStatus,
    QueryRequested,
    SubmitRequested,
)
from schemas.values import NS_PER_MS, OrderType, Side, TimeInForce

ASKED = (SubmitRequested, CancelRequested, AmendRequested, QueryRequested)
FAULTS = (
    Fault(kind=FaultKind.DROP_ACK, every=7),
    Fault(kind=FaultKind.DROP_REPORTS, every=11),
    Fault(kind=FaultKind.DUPLICATE_FILLS, every=5),
    Fault(kind=FaultKind.DELAY_REPORTS, every=13, delay_ns=1_700 * NS_PER_MS),
    Fault(kind=FaultKind.LOSE_REQUEST, every=17),
    Fault(kind=FaultKind.REJECT, every=19),
    Fault(kind=FaultKind.LOSE_AMEND, every=4),
    Fault(kind=FaultKind.DROP_REPLACED, every=6),
    Fault(kind=FaultKind.BUST_FILLS, every=9, delay_ns=400 * NS_PER_MS),
)


class Trading:
    """A desk that trades at random over the loopback, by one seed."""

    def __init__(
        self, engine: Engine, instruments: dict[str, InstrumentDefined], seed: int, faults: tuple[Fault, ...] = ()
    ) -> None:
        names = tuple(instruments)
        config = ExecutionConfig(
            instruments=instruments,
            accounts={"main": AccountTerms(capital=Decimal(1_000_000), currency=instruments[names[0]].quote_currency)},
            strategies={
                "alpha": StrategyTerms(account="main", instruments=names),
                "beta": StrategyTerms(account="main", instruments=names[:1]),
            },
            limits={"main": wide_limits("alpha", "beta", currency=instruments[names[0]].quote_currency)},
        )
        self.desk = Desk(config)
        self.engine = engine
        self.venue = SimulatedVenue(
            VenueTerms(instruments=instruments, name=f"SIM/{seed}", seed=seed, faults=faults), engine
        )
        self.loopback = Loopback(self.venue)
        self.draws: Generator = seeded("trading", seed)
        self.count = 0
        self.amends = 0

    def follow(self, outputs: Iterable[Event]) -> None:
        """Perform what execution asks for, and give it what comes of it."""
        for output in outputs:
            if isinstance(output, ASKED):
                for report in self.loopback.perform(output):
                    self.follow(self.desk.give(report))

    def pass_time(self, milliseconds: int) -> None:
        self.follow(self.desk.beat(milliseconds))
        for report in self.loopback.advance(self.desk.now_ns):
            self.follow(self.desk.give(report))

    def order_at_random(self, key: str) -> None:
        definition, mid, draws = self.desk.config.instruments[key], self.engine.mid(key), self.draws
        if mid is None:
            return
        self.count += 1
        account = self.desk.state.get("account/main")
        working = account.open_orders if account is not None else []
        cancels = (working[draws.below(len(working))],) if working and draws.below(2) else ()
        strategy = "beta" if key == next(iter(self.desk.config.instruments)) and draws.below(3) == 0 else "alpha"
        price = (mid // definition.tick_size + draws.below(21) - 10) * definition.tick_size
        self.follow(
            self.desk.approve(
                f"o{self.count}",
                strategy=strategy,
                instrument=key,
                side=Side.BUY if draws.below(2) else Side.SELL,
                quantity=definition.lot_size * (1 + draws.below(20_000)),
                limit_price=price,
                order_type=OrderType.MARKET if draws.below(8) == 0 else OrderType.LIMIT,
                time_in_force=list(TimeInForce)[draws.below(4)],
                decision_mid=mid,
                cancels=cancels,
            )
        )

    def amend_at_random(self) -> None:
        """Change an order that rests, if there is one: its quantity, its price, or both."""
        account, draws = self.desk.state.get("account/main"), self.draws
        orders = [] if account is None else [self.desk.order(order_id) for order_id in account.open_orders]
        resting = [order for order in orders if order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)]
        if not resting:
            return
        self.amends += 1
        order = resting[draws.below(len(resting))]
        definition = self.desk.config.instruments[order.instrument]
        price = (order.limit_price or 0) + (draws.below(9) - 4) * definition.tick_size * draws.below(2)
        self.follow(
            self.desk.approve(
                f"a{self.amends}",
                amends=order.order_id,
                strategy=order.strategy,
                instrument=order.instrument,
                side=order.side,
                quantity=definition.lot_size * (1 + draws.below(20_000)),
                limit_price=price,
                order_type=order.order_type,
                time_in_force=order.time_in_force,
                decision_mid=self.engine.mid(order.instrument),
            )
        )

    def check(self) -> None:
        """Positions, cash and fills are the venue's own, exactly, and no order is in doubt."""
        record = self.venue.state.accounts["main"]
        ours: dict[str, int] = {}
        for name, position in self.desk.account.positions.items():
            key = name.split("|")[1]
            ours[key] = ours.get(key, 0) + position.quantity
        assert ours == record.positions
        positions = self.desk.account.positions.values()
        (currency,) = record.cash
        assert sum((p.cash_flow + p.funding for p in positions), Decimal(0)) == record.cash[currency]
        assert sum((p.fees for p in positions), Decimal(0)) == record.fees[currency]
        for order in self.venue.state.orders.values():
            mine = self.desk.state.get(f"order/{order.order_id}")
            if mine is None:
                assert not order.live, "only finished orders are forgotten"
                continue
            assert mine.filled_quantity == order.filled_quantity
            assert sorted(mine.fill_ids) == sorted(fill.fill_id for fill in order.fills)
            kept = [fill.fill_id for fill in order.fills if not fill.busted]
            assert [name for name, fill in mine.booked.items() if not fill.busted] == kept
            assert mine.status == order.status
            assert (mine.quantity, mine.busted_quantity) == (order.quantity, order.busted_quantity)
            assert mine.limit_price == order.limit_price
            assert not mine.anomalies
        assert {order.order_id for order in self.venue.open_orders()} == set(self.desk.account.open_orders)

    def outcomes(self) -> dict[str, list[OrderStatus]]:
        found: dict[str, list[OrderStatus]] = {}
        for event in self.desk.events:
            # A fill that is taken back afterwards is no further outcome of the order.
            if isinstance(event, OrderEvent) and event.final and event.exec_type is not ExecType.TRADE_CANCEL:
                found.setdefault(event.order_id, []).append(event.status)
        return found


def simulated(seed: int, faults: tuple[Fault, ...], **changes: Any) -> Trading:
    """Return a desk in the simulated population; ``changes`` are of the perpetual's terms."""
    terms = {BTCUSD.key: replace(BTCUSD, **changes)}
    instruments = {key: terms.get(key, item) for key, item in SIM_INSTRUMENTS.items()}
    market = MarketTerms(
        instruments=tuple(instruments.values()), start_prices=START_PRICES, seed=seed, start_ns=Desk().now_ns
    )
    return Trading(PopulationEngine(SimulatedMarket(market)), instruments, seed, faults)


def trade(trading: Trading, steps: int) -> None:
    """Trade for so many steps of 50 ms, then let all that is on its way arrive."""
    for step in range(steps):
        trading.pass_time(50)
        for key in trading.desk.config.instruments:
            if step % 20 == 0:
                trading.follow(trading.desk.mark(key, trading.engine.mid(key)))
            if trading.draws.uniform() < 0.3:
                trading.order_at_random(key)
        if trading.draws.uniform() < 0.2:
            trading.amend_at_random()
    for _ in range(300):
        trading.pass_time(50)
