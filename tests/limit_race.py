"""A race for the last unit of a limit: the engine's own shards of risk and execution between producers and a venue.

Four producers write 200 intents, each of another strategy of one account, while a venue fills, fills in part, rejects,
expires and cancels what it is sent; a second risk worker takes the shard from the first in the middle, which goes on
until it finds out. Log and venue are in memory, the checkpoints are on the store that is given. Dice say who goes next.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final

from memory_log import MemoryLog
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, decision, instrument, limits, mark
from racing_venue import RESTING, TAKING, Intent, VenueInMemory

from agents.execution.stage import Execution
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.limits.limit_set import LimitSet
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from infra.postgres.patient_store import PatientStore, RunFacts
from schemas.codec import Codec
from schemas.event import Event, derive_id, stamp_position
from schemas.orders import Claimed, OrderEvent, VenueReport
from schemas.reconciliation import VenueBooks
from schemas.schema_table import SchemaTable
from schemas.topics import (
    ACCOUNT_EVENT,
    CONTROL,
    DECISION,
    EXPERT_ALERT,
    MARKET_MARK,
    ORDER_APPROVED,
    ORDER_DENIED,
    Topic,
)
from schemas.values import NS_PER_MS, NS_PER_S, TimeInForce
from streams.engine.lane import lane_of
from streams.engine.outbox import OutboxShard
from streams.engine.ports import StageHosting, StageKind
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore

CODEC: Final = Codec(SchemaTable.committed())
FACTS: Final = RunFacts("race", "1", "race")
FOREVER_NS: Final = 3_600 * NS_PER_S
INTENTS: Final = 200
PRODUCERS: Final = 4
DEFINED: Final = {PERP: INSTRUMENTS[PERP], SPOT: instrument(SPOT, shortable=True)}
INPUTS: Final = {
    "risk": (DECISION, MARKET_MARK, EXPERT_ALERT, ACCOUNT_EVENT, CONTROL),
    "execution": (ORDER_APPROVED, MARKET_MARK, CONTROL),
}
_MARKS: Final = lane_of(MARKET_MARK.name, 0)
OpenStore = Callable[[str, str], PatientStore]
"""The store of a stage's shard for a holder of this name."""


@dataclass(frozen=True)
class Race:
    """One race: the limit in question, who wants what, and the dice."""

    rules: LimitSet
    intents: Sequence[Intent]
    dice: random.Random
    log: MemoryLog = field(default_factory=MemoryLog)
    _decoded: dict[str, dict[str, Any]] = field(default_factory=dict)
    _cursors: dict[str, int] = field(default_factory=dict)

    def events(self, topic: Topic) -> list[Any]:
        """Return what is on a topic, each event once however often it was sent."""
        found = self._decoded.setdefault(topic.name, {})
        for item in self.log.lanes.get((topic.name, 0), ())[self._cursors.get(topic.name, 0) :]:
            event = CODEC.decode(topic.name, item.value or b"", item.headers)
            found.setdefault(event.event_id, event)
            self._cursors[topic.name] = item.offset + 1
        return list(found.values())

    def records(self, topic: Topic) -> list[Any]:
        """Return what is on a topic by offset, with what was sent twice."""
        return [CODEC.decode(topic.name, item.value or b"", ()) for item in self.log.lanes.get((topic.name, 0), ())]

    @property
    def by_strategy(self) -> Mapping[str, Intent]:
        """The intents by who has them."""
        return {intent.strategy: intent for intent in self.intents}

    def stage(self, name: str) -> Any:
        """Return a new stage."""
        if name == "execution":
            accounts = {"main": AccountTerms(capital=self.rules.capital, currency="USD")}
            terms = {item.strategy: StrategyTerms(account="main", instruments=(PERP, SPOT)) for item in self.intents}
            return Execution(
                ExecutionConfig(
                    instruments=DEFINED,
                    accounts=accounts,
                    strategies=terms,
                    limits={"main": self.rules},
                    ack_timeout_ns=FOREVER_NS,
                )
            )
        strategies = {
            item.strategy: StrategyRisk(
                item.strategy,
                "main",
                Decimal(abs(item.quantity)) / ONE * 100,
                time_in_force=TimeInForce.GTC if item.rests else TimeInForce.IOC,
                aggression_ticks=0,
            )
            for item in self.intents
        }
        return Risk(RiskConfig(DEFINED, {"main": self.rules}, strategies))

    def write(self, topic: Topic, event: Event, source: str, seq: int) -> None:
        """Append an event to the log, as whoever ``source`` is."""
        stamp_position(event, source, 1, seq)
        self.log.append((topic.name, 0), event.key.encode(), CODEC.encode(topic.name, event))


def race(dice: random.Random, *, fates: bool = True, shorts: bool = False, uneven: int = 0, **rules: Any) -> Race:
    """Return a race under limits that are wide but for ``rules``.

    Without ``fates`` everything fills; with ``shorts`` every other intent sells; with ``uneven`` every other wants so
    many lots more than one unit.
    """
    wide: dict[str, Any] = dict.fromkeys(
        ("order_value_max", "position_value_max", "gross_exposure_max", "net_exposure_max"), 1_000_000
    )
    names = [f"s{number:03d}" for number in range(INTENTS)]
    permissions = {name: ["*"] for name in names}
    wide |= {"capital": 1_000_000, "leverage_max": 1_000, "messages_max": 100_000, "permissions": permissions}
    intents = []
    for number, name in enumerate(names):
        sells = shorts and number % 2 == 1
        quantity = ONE + (ONE // 1000 * uneven if number % 2 else 0)
        fate = dice.choice(TAKING + RESTING) if fates else "fill"
        intents.append(Intent(name, SPOT if sells else PERP, -quantity if sells else quantity, fate))
    return Race(limits(**wide | rules), intents, dice)


class Running:
    """The shards of one race at work."""

    def __init__(self, run: Race, open_store: OpenStore) -> None:
        self.run = run
        self._open_store = open_store
        self.tasks: set[asyncio.Task[None]] = set()
        self.venue = VenueInMemory(run.by_strategy, run.dice, self.tasks)
        self.lost_by: BaseException | None = None
        self.shards: dict[str, OutboxShard] = {}

    async def open(self, name: str, holder: str) -> "asyncio.Task[None]":
        """Claim a stage's shard and let it work, fed from where its checkpoint stands."""
        hosting = StageHosting(
            make_stage=lambda: self.run.stage(name),
            name=name,
            topics=INPUTS[name],
            kind=StageKind.OUTBOX,
            event_types=(VenueReport, VenueBooks, Claimed) if name == "execution" else (),
            companion=(lambda: self.venue) if name == "execution" else None,
        )
        core = ShardCore(hosting, "0", 0, CODEC, 1)
        store = self._open_store(name, holder)
        shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=self.run.log)), 5)
        await shard.take_up(await store.claim(FACTS))
        self.shards[name] = shard
        working = asyncio.ensure_future(shard.run())
        self._keep(self._feed(name, shard, working))
        return working

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _feed(self, name: str, shard: OutboxShard, working: "asyncio.Task[None]") -> None:
        cursors = {topic.name: shard.core.next_offset(topic.name, 0) or 0 for topic in INPUTS[name]}
        while not working.done():
            topic = self.run.dice.choice([*cursors])
            waiting = self.run.log.lanes.get((topic, 0), [])[cursors[topic] :]
            if waiting:
                chunk = waiting[: self.run.dice.choice((1, 2, 5, 40))]
                cursors[topic] += len(chunk)
                await shard.offer(list(chunk))
            await asyncio.sleep(self.run.dice.choice((0.0, 0.001)) if waiting else 0.001)

    async def produce(self, number: int) -> None:
        """Write the intents of one producer, and now and then that one of them is no longer wanted."""
        run = self.run
        mine = run.intents[number::PRODUCERS]
        written: list[Event] = []
        resting: list[Intent] = []
        for intent in mine:
            sign = 1.0 if intent.quantity > 0 else -1.0
            written.append(self._decision(intent, sign))
            if intent.fate == "rest":
                resting.append(intent)
            if resting and run.dice.random() < 0.4:
                written.append(self._decision(resting.pop(0), 0.0))
            for event in written:
                run.write(DECISION, event, f"producer/{number}", self._next())
                self.pass_time()
                await asyncio.sleep(run.dice.choice((0.0, 0.001, 0.004)))
            written.clear()

    def _decision(self, intent: Intent, target: float) -> Event:
        named: dict[str, Any] = {"strategy": intent.strategy, "instrument": intent.instrument}
        name = f"{intent.strategy}/{target}"
        named |= {"decision_id": name, "event_id": derive_id(name, "decider", 0)}
        return decision(target, at_ns=T0, expires_at_ns=T0 + FOREVER_NS, **named)

    _seq = 0
    _now_ns = T0

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def pass_time(self) -> None:
        """Write marks of an unmoved market, 4 ms after the last: so time goes by what was written."""
        self._now_ns += 4 * NS_PER_MS
        for name in DEFINED:
            # Off the grid, where execution need not value 200 strategies at each.
            identity = derive_id(f"{name}/{self._now_ns}", "experts", 0)
            event = mark(name, at_ns=self._now_ns, on_grid=False, event_id=identity)
            self.run.write(MARKET_MARK, event, "experts", self._next())


async def carry_out(run: Race, open_store: OpenStore) -> Running:
    """Run a race to its end: every intent answered, and everything that the venue said heard by risk."""
    running = Running(run, open_store)
    await running.open("execution", "one")
    first = await running.open("risk", "one")
    for _ in range(2):
        running.pass_time()
    async with asyncio.timeout(60):
        await running.venue.books_told.wait()
        await _until(lambda: all((shard.committed_offsets.get(_MARKS) or 0) >= 4 for shard in running.shards.values()))
        producing = [asyncio.ensure_future(running.produce(number)) for number in range(PRODUCERS)]
        await _until(lambda: _answered(run) >= INTENTS // 2)
        second = await running.open("risk", "two")
        await asyncio.gather(*producing)
        await _until(lambda: _answered(run) >= INTENTS)
        await _settled(run)
        await asyncio.wait({first}, timeout=5)
    running.lost_by = first.exception()
    assert not second.done(), second
    for task in (*running.tasks, second):
        task.cancel()
    await asyncio.gather(second, *running.tasks, return_exceptions=True)
    return running


def _answered(run: Race) -> int:
    verdicts = [*run.events(ORDER_APPROVED), *run.events(ORDER_DENIED)]
    return len({event.decision_id for event in verdicts if not event.decision_id.endswith("/0.0")})


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def _settled(run: Race) -> None:
    """Wait until nothing further comes of what was said."""
    seen, since = -1, 0
    while since < 15:
        orders = sum(isinstance(event, OrderEvent) for event in run.events(ACCOUNT_EVENT))
        since = since + 1 if orders == seen else 0
        seen = orders
        await asyncio.sleep(0.02)
