"""200 intents of four producers race for the last unit of each limit, through a hand-over of risk: no one passes it.

What risk did is read from its journal, in the order in which it did it, and held against a few lines of counting that
know nothing of the checks: each intent must have passed if there was room for it then, and only then.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from limit_race import INTENTS, Race, Running, carry_out, race
from money_events import ONE, PERP, T0

from infra.postgres.checkpoints import ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.patient_store import DatabaseGone, ShardLost
from schemas.decisions import Decision, DenyReason, OrderApproved, OrderDenied
from schemas.event import Event
from schemas.opinions import MarketMark
from schemas.orders import OrderEvent, SubmitRequested
from schemas.topics import ORDER_APPROVED, ORDER_DENIED, TOPICS
from schemas.values import NS_PER_S, Side
from streams.engine.journal import Segment, decode_inputs

R = DenyReason


@dataclass
class Counting:
    """What an account holds and works by what risk has heard and done so far, signed, in units of 1e-8."""

    held: dict[str, int] = field(default_factory=dict)
    working: dict[str, tuple[str, int]] = field(default_factory=dict)
    messages_ns: list[int] = field(default_factory=list)
    now_ns: int = T0

    def ends(self) -> tuple[Counter[str], Counter[str]]:
        """Return the highest and the lowest that each strategy can come to hold."""
        high, low = Counter(self.held), Counter(self.held)
        for strategy, left in self.working.values():
            (high if left > 0 else low)[strategy] += left
        return high, low

    @property
    def gross(self) -> int:
        """The worst positions added up."""
        high, low = self.ends()
        return sum(max(high[name], -low[name]) for name in {*high, *low})

    @property
    def net(self) -> int:
        """The worst signed sum."""
        high, low = self.ends()
        return max(sum(high.values()), -sum(low.values()))

    @property
    def recent(self) -> int:
        """Messages of the second that ends now."""
        return sum(1 for time_ns in self.messages_ns if time_ns > self.now_ns - NS_PER_S // 10)

    def take(self, event: Event) -> None:
        """Hear of something."""
        if isinstance(event, MarketMark):
            self.now_ns = max(self.now_ns, event.available_at_ns)
        elif isinstance(event, OrderEvent):
            self.held[event.strategy] = event.position_after
            self.working.pop(event.order_id, None)
            if not event.final:
                left = event.quantity - event.filled_quantity
                self.working[event.order_id] = (event.strategy, event.side.sign * left)

    def approve(self, order: OrderApproved) -> None:
        """Count an order from its approval on."""
        self.messages_ns += [self.now_ns] * (len(order.cancels) + (1 if order.quantity else 0))
        if order.quantity:
            self.working[order.order_id] = (order.strategy, order.side.sign * order.quantity)


Fits = Callable[[Counting, int], bool]
"""Whether one more order, of so much, was within the limit when it had been counted."""
# Each limit: what the race is run under, the reason of a denial, and whether what is counted is within it.
LIMITS: dict[str, tuple[dict[str, Any], DenyReason, Fits]] = {
    "order value": (
        {"uneven": 1, "order_value_max": "100.01"},
        R.ORDER_VALUE_MAX,
        lambda now, units: units <= ONE,
    ),
    "position": ({"position_value_max": 2_500}, R.POSITION_LIMIT, lambda now, units: now.gross <= 25 * ONE),
    "gross": (
        {"shorts": True, "gross_exposure_max": 2_500},
        R.GROSS_EXPOSURE,
        lambda now, units: now.gross <= 25 * ONE,
    ),
    "net": ({"shorts": True, "net_exposure_max": 1_800}, R.NET_EXPOSURE, lambda now, units: now.net <= 18 * ONE),
    "credit": (
        {"capital": 1_000, "leverage_max": 3, "daily_loss_max": 999, "drawdown_max": "0.9"},
        R.CREDIT_LIMIT,
        lambda now, units: now.gross <= 30 * ONE,
    ),
    "messages": (
        {"messages_max": 9, "message_window_ms": 100},
        R.MSG_RATE,
        lambda now, units: now.recent <= 9,
    ),
}


def _race(database: str, dice: random.Random, shard: str = "0", **rules: Any) -> Running:
    run = race(dice, **rules)
    return asyncio.run(
        carry_out(run, lambda stage, who: ShardStore(database, ShardName(stage, shard, who), durable=True))
    )


def _stepped(database: str, run: Race, shard: str) -> Iterator[Any]:
    """Yield what risk took from Kafka, in the order in which it did."""
    query = "SELECT inputs FROM shard_journal WHERE stage = 'risk' AND shard = %s ORDER BY batch"
    lanes = {topic.name: topic for topic in TOPICS.values()}
    decoded: dict[str, list[Any]] = {}
    with psycopg.connect(database) as connection:
        rows = connection.execute(query, (shard,)).fetchall()
    for (inputs,) in rows:
        for entry in decode_inputs(bytes(inputs)):
            if not isinstance(entry, Segment):
                continue
            known = decoded.setdefault(entry.topic, run.records(lanes[entry.topic]))
            yield from known[entry.first : entry.last + 1]


def _check(database: str, running: Running, name: str, shard: str = "0") -> Counter[bool]:
    """Hold each verdict against the counting; return how many passed and how many did not."""
    _, reason, fits = LIMITS[name]
    run, now = running.run, Counting()
    approved: dict[str, list[OrderApproved]] = {}
    for order in run.events(ORDER_APPROVED):
        approved.setdefault(order.decision_id, []).append(order)
    denied: dict[str, OrderDenied] = {item.decision_id: item for item in run.events(ORDER_DENIED)}
    verdicts: Counter[bool] = Counter()
    for event in _stepped(database, run, shard):
        now.take(event)
        if not isinstance(event, Decision):
            continue
        orders = approved.get(event.decision_id, [])
        passed = any(order.quantity for order in orders)
        if event.target == 0:
            for order in orders:
                now.approve(order)
            continue
        wanted = run.by_strategy[event.strategy].quantity
        trial = Counting(dict(now.held), dict(now.working), list(now.messages_ns), now.now_ns)
        trial.working["trial"] = (event.strategy, wanted)
        trial.messages_ns.append(trial.now_ns)
        assert passed == fits(trial, abs(wanted)), (event.strategy, trial.gross, trial.net, trial.recent)
        assert passed or denied[event.decision_id].reasons == (reason,)
        verdicts[passed] += 1
        for order in orders:
            now.approve(order)
    return verdicts


@pytest.mark.slow(seconds=4)
@pytest.mark.parametrize("name", list(LIMITS))
def test_exactly_the_limit_passes_whoever_is_first(database: str, name: str) -> None:
    migrate(database)
    running = _race(database, random.Random(f"race for {name}"), **LIMITS[name][0])
    verdicts = _check(database, running, name)
    assert sum(verdicts.values()) == INTENTS
    assert min(verdicts.values()) >= 10, f"a race in which all or none pass says nothing: {verdicts}"
    assert isinstance(running.lost_by, ShardLost | DatabaseGone), "who lost the shard ends"


@pytest.mark.slow(seconds=2)
def test_when_everything_fills_the_venue_has_exactly_the_limit(database: str) -> None:
    migrate(database)
    running = _race(database, random.Random(7), fates=False, position_value_max=2_500)
    taken: list[SubmitRequested] = running.venue.taken
    assert len({order.order_id for order in taken}) == len(taken) == 25
    assert {(order.instrument, order.side, order.quantity) for order in taken} == {(PERP, Side.BUY, ONE)}


@pytest.mark.campaign
@pytest.mark.parametrize("name", list(LIMITS))
def test_twenty_races_for_each_limit(database: str, name: str) -> None:
    migrate(database)
    for seed in range(20):
        running = _race(database, random.Random(f"{name} {seed}"), f"{name} {seed}", **LIMITS[name][0])
        assert sum(_check(database, running, name, f"{name} {seed}").values()) == INTENTS
        assert isinstance(running.lost_by, ShardLost | DatabaseGone)
