"""The simulated log as a reader takes it: decoded, what came twice dropped, without the engine's own bookkeeping."""

from collections.abc import Iterator
from typing import Final

import msgspec

from schemas.dead_letters import BadRecord
from schemas.event import Event
from schemas.topics import TOPICS
from streams.engine.dead_letter import ERRORS
from streams.engine.ports import RawRecord
from streams.simulation.log import Lane, SimulatedLog
from streams.simulation.member import CODEC
from streams.simulation.plan import PARTITIONS
from streams.simulation.violations import Violation, shortened

_LETTERS_OF: Final = {topic.dead_letters: topic for topic in TOPICS.values()}
Place = tuple[Lane, int]


class TakenLanes:
    """Every topic partition as a reader takes it: decoded, and what came twice dropped by (generation, seq).

    ``events`` has one entry for each offset; None stands where a record had come before. What comes from outside has
    no number: there every record that can be read stands, and None where one cannot, whose place is in ``refused``.
    ``letters`` are the places of the public records of which a dead letter tells, and the ids of what came another way.
    """

    def __init__(self, log: SimulatedLog) -> None:
        self.events: dict[Lane, list[Event | None]] = {}
        self.by_source: dict[tuple[str, Lane], list[RawRecord]] = {}
        self.violations: list[Violation] = []
        self.letters: set[Place | str] = set()
        self.refused: set[Place | str] = set()
        for lane, records in sorted(log.lanes.items()):
            self._take(lane, records)

    def _take(self, lane: Lane, records: list[RawRecord]) -> None:
        newest: dict[str, tuple[int, int]] = {}
        contents: dict[tuple[str, int, int], bytes | None] = {}
        taken = self.events.setdefault(lane, [])
        if lane[0] not in TOPICS:
            self._read_letters(lane, records)
            return
        if TOPICS[lane[0]].public:
            self._take_public(lane, records)
            return
        for record in records:
            event: Event = CODEC.decode(record.topic, record.value, record.headers)
            position = (event.generation, event.seq)
            first = position > newest.get(event.source, (0, -1))
            taken.append(event if first else None)
            if first:
                newest[event.source] = position
                self.by_source.setdefault((event.source, lane), []).append(record)
            known = contents.setdefault((event.source, *position), record.value)
            if known != record.value:
                place = f"{lane} offset {record.offset}, {event.source} {position}"
                self.violations.append(
                    Violation("one number is one content", place, shortened(known), shortened(record.value))
                )

    def _take_public(self, lane: Lane, records: list[RawRecord]) -> None:
        for record in records:
            event: Event | None = None
            try:
                event = CODEC.decode(record.topic, record.value, record.headers)
            except BadRecord:
                self.refused.add((lane, record.offset))
            self.events[lane].append(event)

    def _read_letters(self, lane: Lane, records: list[RawRecord]) -> None:
        for record in records:
            told = dict(record.headers)
            if f"{ERRORS}record.type" in told:  # What came from a venue, say, has no place.
                self.letters.add(msgspec.json.decode(record.value or b"")["event_id"])
                continue
            if not _LETTERS_OF[lane[0]].public:
                self.violations.append(Violation("no dead letters", str(lane), "none", shortened(record)))
                return
            topic, partition, offset = (told[f"{ERRORS}{name}"].decode() for name in ("topic", "partition", "offset"))
            self.letters.add(((topic, int(partition)), int(offset)))

    def of(self, topic: str) -> Iterator[Event]:
        """Yield what a reader takes of a topic, partition by partition."""
        for number in range(TOPICS[topic].partitions(PARTITIONS)):
            yield from filter(None, self.events.get((topic, number), ()))
