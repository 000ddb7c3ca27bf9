"""Other systems that write to the public topics: an expert and a market, who send again what they have sent before.

Some of what they write cannot be used: bytes that are no record, a name that is ours, a market that we feed ourselves.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from schemas.ingress import IngestTrade, IngestVote, IngressRecord
from schemas.opinions import FeatureSnapshot, Question
from schemas.partition import partition_of
from schemas.topics import FEATURE_SNAPSHOT, INGEST_TRADE, INGEST_VOTE
from schemas.values import NS_PER_MS, NS_PER_S, units
from streams.simulation.member import CODEC
from streams.simulation.plan import FOREIGN_INSTRUMENT, PARTITIONS

if TYPE_CHECKING:
    from streams.simulation.world import World

EXPERT: Final = "stranger"
_PAUSE_S: Final = (0.02, 0.15)
_AGAIN_S: Final = (0.0, 0.9)
_PRICE: Final = units("100")
_TICK: Final = units("0.01")


@dataclass(slots=True)
class Strangers:
    """All that comes from outside. It reads features as anybody may, and knows nothing else of us."""

    world: "World"
    _read: dict[int, int] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _number: int = 0

    async def write(self) -> None:
        """Answer ballots and report trades, for ever."""
        random = Random(f"strangers/{self.world.plan.seed}")
        while True:
            await asyncio.sleep(random.uniform(*_PAUSE_S))
            for instrument, question in self._questions():
                if random.random() < 0.4:
                    self._send(random, INGEST_VOTE.name, self._vote(random, instrument, question))
            if random.random() < 0.4:
                self._send(random, INGEST_TRADE.name, self._trade(random))
            if random.random() < 0.04:
                self._put(random.choice((INGEST_VOTE.name, INGEST_TRADE.name)), 0, b"no record", "stranger_garbage")

    def _questions(self) -> list[tuple[str, Question]]:
        """Return what has been asked since the last look."""
        found: list[tuple[str, Question]] = []
        for partition in range(PARTITIONS):
            first = self._read.get(partition, 0)
            records = self.world.log.read((FEATURE_SNAPSHOT.name, partition), first, 1000)
            self._read[partition] = first + len(records)
            for record in records:
                event = CODEC.decode(record.topic, record.value, record.headers)
                if isinstance(event, FeatureSnapshot):
                    # A reader of ours drops what comes twice; an expert votes once on a ballot.
                    fresh = [question for question in event.questions if question.ballot_id not in self._asked]
                    found += [(event.key, question) for question in fresh]
                    self._asked.update(question.ballot_id for question in fresh)
        return found

    def _vote(self, random: Random, instrument: str, question: Question) -> IngressRecord:
        p_up, p_down = random.random() / 2, random.random() / 2
        now_ns = self.world.loop.now_ns()
        name = EXPERT
        if random.random() < 0.05:
            name = "momentum"
            self.world.dice.injected["stranger_refused"] += 1
        return IngestVote(
            event_id=self._name(),
            instrument=instrument,
            event_time_ns=now_ns,
            ballot_id=question.ballot_id,
            expert=name,
            horizon_ns=question.horizon_ns,
            expires_at_ns=now_ns + NS_PER_S,
            p_down=p_down,
            p_flat=1.0 - p_up - p_down,
            p_up=p_up,
        )

    def _trade(self, random: Random) -> IngressRecord:
        instrument = FOREIGN_INSTRUMENT
        if random.random() < 0.1:
            instrument = min(self.world.plan.run.fed)
            self.world.dice.injected["stranger_refused"] += 1
        name = self._name()
        price = _PRICE + random.randint(-50, 50) * _TICK
        when_ns = self.world.loop.now_ns()
        return IngestTrade(
            event_id=name, instrument=instrument, event_time_ns=when_ns, trade_id=name, price=price, quantity=_PRICE
        )

    def _name(self) -> str:
        self._number += 1
        return f"stranger-{self._number}"

    def _send(self, random: Random, topic: str, record: IngressRecord) -> None:
        """Write a record wherever it pleases, and perhaps again there: its id is how we know it."""
        value = CODEC.encode(topic, record)
        partition = partition_of(record.event_id, PARTITIONS)
        self._put(topic, partition, value, "stranger_wrote")
        while random.random() < 0.3:
            later_s = random.uniform(*_AGAIN_S)
            self.world.loop.call_later(later_s, self._put, topic, partition, value, "stranger_again")

    def _put(self, topic: str, partition: int, value: bytes, kind: str) -> None:
        if self.world.healed:
            return  # Then the run is to come to rest.
        self.world.dice.injected[kind] += 1
        stamp_ms = self.world.loop.now_ns() // NS_PER_MS
        self.world.log.append((topic, partition), None, value, (), stamp_ms)
