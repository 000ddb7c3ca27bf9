"""Risk, execution and the simulated exchange together: targets that change while an order rests change the order."""

from collections import deque
from decimal import Decimal

from money_events import decision
from msgspec.structs import force_setattr, replace
from trading_desk import T0, wide_limits

from agents.execution.stage import Execution
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.risk.config import AmendPower, RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.sim.generator import seeded
from agents.sim.instruments import BTCUSD, START_PRICES
from agents.sim.loopback import Loopback
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_state import VenueTerms
from agents.stage import ShardState, run_step
from schemas.event import Event, Heartbeat
from schemas.opinions import MarketMark, MarkQuality
from schemas.orders import (
    AmendRequested,
    CancelRequested,
    ExecType,
    Fill,
    OrderEvent,
    Position,
    QueryRequested,
    SubmitRequested,
)
from schemas.values import NS_PER_MS, NS_PER_S, UNITS_PER_ONE, TimeInForce

KEY = BTCUSD.key
REQUESTS = (SubmitRequested, AmendRequested, CancelRequested, QueryRequested)


class Line:
    """The money line of one account, from a decision to the venue and back."""

    def __init__(self, power: AmendPower, seed: int) -> None:
        limits = {"main": wide_limits("alpha", capital=10_000_000)}
        strategy = StrategyRisk("alpha", "main", Decimal(300_000), time_in_force=TimeInForce.GTC)
        accounts = {"main": AccountTerms(capital=Decimal(10_000_000), currency="USD")}
        strategies = {"alpha": StrategyTerms(account="main", instruments=(KEY,))}
        self.risk = Risk(RiskConfig({KEY: BTCUSD}, limits, {"alpha": strategy}, amends={KEY: power}))
        terms = {"instruments": {KEY: BTCUSD}, "accounts": accounts, "strategies": strategies, "limits": limits}
        self.execution = Execution(ExecutionConfig(**terms))  # type: ignore[arg-type]
        market = MarketTerms(instruments=(BTCUSD,), start_prices=START_PRICES, seed=seed, start_ns=T0)
        self.engine = PopulationEngine(SimulatedMarket(market))
        self.venue = SimulatedVenue(VenueTerms(instruments={KEY: BTCUSD}, name="SIM", seed=seed), self.engine)
        self.loopback = Loopback(self.venue)
        self.states = {self.risk.name: ShardState(), self.execution.name: ShardState()}
        self.now_ns = T0
        self.said: list[Event] = []

    def give(self, event: Event, *stages: Risk | Execution) -> None:
        queue = deque((stage, event) for stage in stages)
        while queue:
            stage, item = queue.popleft()
            if not item.event_id:
                force_setattr(item, "event_id", f"{len(self.said)}-{self.now_ns}")
            for output in run_step(stage, self.states[stage.name], item)[1]:
                self.said.append(output)
                if isinstance(output, REQUESTS):
                    queue.extend((self.execution, report) for report in self.loopback.perform(output))
                elif isinstance(output, OrderEvent | Fill | Position):
                    queue.append((self.risk, output))
                elif stage is self.risk:
                    queue.append((self.execution, output))

    def pass_time(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * NS_PER_MS
        for report in self.loopback.advance(self.now_ns):
            self.give(report, self.execution)
        times = {"event_time_ns": self.now_ns, "available_at_ns": self.now_ns}
        self.give(Heartbeat(key="market.event", **times), self.risk, self.execution)
        bid, ask = (self.engine.snapshot(KEY, self.now_ns).bid_prices[0], self.engine.snapshot(KEY, 0).ask_prices[0])
        sizes = {"bid_price": bid, "ask_price": ask, "bid_quantity": UNITS_PER_ONE, "ask_quantity": UNITS_PER_ONE}
        facts = {"newest_time_ns": self.now_ns, "quality": MarkQuality.GOOD, "on_grid": False, "volume": 0}
        mark = MarketMark(key=KEY, mid=(bid + ask) // 2, grid_time_ns=self.now_ns, **times, **sizes, **facts)
        self.give(mark, self.risk, self.execution)

    def decide(self, target: float, number: int) -> None:
        wanted = decision(target, number, self.now_ns, instrument=KEY, event_id=f"d{number}", decision_id=f"d{number}")
        self.give(replace(wanted, expires_at_ns=self.now_ns + NS_PER_S), self.risk)


def _played(power: AmendPower) -> Line:
    line, draws, side = Line(power, 5), seeded("targets", 1), 1
    for number in range(120):
        line.pass_time(100)
        side = -side if draws.below(15) == 0 else side
        line.decide(side * (1 + draws.below(9)) / 10, number)
    line.decide(0.0, 999)
    for _ in range(30):
        line.pass_time(200)
    return line


def _agrees(line: Line) -> None:
    account = line.states["execution"]["account/main"]
    theirs = line.venue.state.accounts["main"]
    assert sum(position.quantity for position in account.positions.values()) == theirs.positions.get(KEY, 0)
    for order in line.venue.state.orders.values():
        mine = line.states["execution"][f"order/{order.order_id}"]
        assert (mine.status, mine.quantity, mine.filled_quantity) == (
            order.status,
            order.quantity,
            order.filled_quantity,
        )
        assert order.requests == 1
        assert not mine.anomalies
    exposure = line.states["risk"]["account/main"].exposure
    assert set(exposure.working) == set(account.open_orders)


def test_targets_that_change_while_an_order_rests_change_the_order() -> None:
    changed, plain = _played(AmendPower.ANY), _played(AmendPower.NONE)
    for line in (changed, plain):
        _agrees(line)
    taken = [event for event in changed.said if isinstance(event, OrderEvent) and event.exec_type is ExecType.REPLACED]
    asked = [event for event in changed.said if isinstance(event, AmendRequested)]
    assert len(taken) > 20
    assert len({event.amend_id for event in asked}) == len(asked), "one request for each change"
    assert not any(isinstance(event, AmendRequested) for event in plain.said)
    counts = [sum(isinstance(event, REQUESTS[:3]) for event in line.said) for line in (changed, plain)]
    assert counts[0] < counts[1], "a change is one message where cancel and new are two"
