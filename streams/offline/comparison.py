"""What follows from the inputs beside what lies in the log, output by output, until the first difference.

A reader's dedupe by (source, generation, seq) comes first, since a crash may write a record twice; bodies are
compared without the schema id; dead letters are left out, since they carry no number.
"""

from collections.abc import Callable, Iterable, Sequence

from schemas.codec import FRAME_BYTES, Codec
from schemas.event import ORDINALS_PER_OFFSET, Event
from schemas.topics import TOPICS
from streams.engine.lane import lane_of
from streams.engine.ports import Outgoing, RawRecord, StageKind
from streams.engine.shard import ShardCore
from streams.offline.difference import Difference, FieldDifference, InputPlace, field_differences
from streams.offline.log_reader import Lane, Log, OwnOutputs, RecomputeImpossible


class Comparison:
    """One shard's outputs, from where ``core`` stands when it is made.

    ``begun``: it stands somewhere after its beginning. ``headers``: compare them, too.
    """

    def __init__(self, core: ShardCore, codec: Codec, log: Log, *, begun: bool, headers: bool = True) -> None:
        self.outputs = self.matched = 0
        self._core = core
        self._codec = codec
        self._log = log
        self._headers = headers
        self._lanes: dict[Lane, OwnOutputs] = {}
        self._met: set[Lane] = set()
        progress = core.progress
        self._generation = core.generation if begun else 0
        self._ends = dict(progress.output_ends)
        self._numbers = dict(progress.numbers)
        self._silent = dict(progress.silent)
        self._passed = progress.next_offsets.get(core.shard, progress.external)

    def compare(
        self, outgoing: Sequence[Outgoing], cause: InputPlace, *, sent: bool = True, counts: bool = True
    ) -> Difference | None:
        """Compare what one input gave with what comes next in the log.

        ``sent``: all of it must be there. ``counts``: it belongs to what was asked for.
        """
        for expected in outgoing:
            if expected.topic not in TOPICS:
                continue
            self.outputs += counts
            found = self._own((expected.topic, expected.partition)).next()
            if found is None and not sent:
                continue
            if found is None or self._content(expected) != self._content(found[0]):
                return self._located(expected, found, cause)
            self._met.add((expected.topic, expected.partition))
            self.matched += counts
        return None

    def unexplained(self, lanes: Iterable[Lane], belongs: Callable[[RawRecord, Event], bool]) -> Difference | None:
        """Return the first record of the source that should have followed from something, and did not."""
        for lane in lanes:
            found = self._own(lane).next()
            if found is not None and belongs(*found):
                return self._invented(found, InputPlace(event_id=found[1].cause_id))
        return None

    def close(self) -> None:
        """Give the readers back."""
        for own in self._lanes.values():
            own.reader.close()

    def _own(self, lane: Lane) -> OwnOutputs:
        if lane not in self._lanes:
            first = self._ends.get(lane_of(*lane), 0)
            reader = self._log.reader(lane, first)
            self._lanes[lane] = OwnOutputs(reader, first, self._core.source, self._codec, self._after(lane))
        return self._lanes[lane]

    def _after(self, lane: Lane) -> tuple[int, int]:
        """Return the position of the last output that came before the beginning."""
        name = lane_of(*lane)
        if self._core.hosting.kind is StageKind.OUTBOX:
            return self._generation, self._numbers.get(name, 0)
        return self._generation, max(self._passed, self._silent.get(name, -1) + 1) * ORDINALS_PER_OFFSET - 1

    def _content(self, record: Outgoing | RawRecord) -> tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]:
        headers = tuple(record.headers) if self._headers else ()
        return record.key, (record.value or b"")[FRAME_BYTES:], headers

    def _located(self, expected: Outgoing, found: tuple[RawRecord, Event] | None, cause: InputPlace) -> Difference:
        lane = (expected.topic, expected.partition)
        wanted: Event = self._codec.decode(expected.topic, expected.value, expected.headers)
        if found is not None and _position(found[1]) < _position(wanted):
            return self._invented(found, InputPlace(event_id=found[1].cause_id))
        if found is None or _position(found[1]) > _position(wanted):
            own = self._lanes[lane]
            if own.is_trimmed and lane not in self._met:
                raise RecomputeImpossible(f"{lane_of(*lane)} is only kept from offset {own.reader.start} on.")
            return Difference(self._core.source, *lane, wanted.seq, cause, wanted, None)
        record, event = found
        differing = (*self._around(expected, record), *field_differences(wanted, event))
        if not differing:
            differing = (FieldDifference("the bytes alone", _hex(expected.value), _hex(record.value)),)
        return Difference(self._core.source, *lane, wanted.seq, cause, wanted, event, record.offset, differing)

    def _around(self, expected: Outgoing, found: RawRecord) -> Iterable[FieldDifference]:
        """Yield what differs beside the body."""
        key, _, headers = self._content(expected)
        other_key, _, other_headers = self._content(found)
        if key != other_key:
            yield FieldDifference("record key", repr(key), repr(other_key))
        yield from field_differences(dict(headers), dict(other_headers), "headers")

    def _invented(self, found: tuple[RawRecord, Event], cause: InputPlace) -> Difference:
        record, event = found
        if self._core.hosting.kind is StageKind.ONE_TOPIC:
            # The number itself says of which input it came.
            lane = self._core.shard if self._core.hosting.topics else None
            cause = InputPlace(event_id=event.cause_id, lane=lane, offset=event.seq // ORDINALS_PER_OFFSET)
        place = (record.topic, record.partition, event.seq)
        return Difference(self._core.source, *place, cause, None, event, record.offset)


def _hex(value: bytes | None) -> str:
    return (value or b"").hex()


def _position(event: Event) -> tuple[int, int]:
    return event.generation, event.seq
