"""The input journal and the outbox as bytes: what was stepped in which order, and what is still to be sent."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas.dead_letters import HeldAgain, LettersOrdered
from schemas.event import Event, Heartbeat
from streams.engine.ports import Outgoing


class Segment(msgspec.Struct, tag="k", frozen=True):
    """Records of one topic partition, from the first to the last offset, in order."""

    topic: str
    partition: int
    first: int
    last: int


class External(msgspec.Struct, tag="x", frozen=True):
    """An input that did not come by Kafka, with its type and bytes."""

    kind: str
    body: bytes
    origin: int = 0


class Unread(msgspec.Struct, tag="u", frozen=True):
    """Records among those of this batch that could not be read for want of their schema, by lane, with the reason."""

    lane: str
    refused: list[tuple[int, int, str]]


Input = Segment | External | Unread
_inputs_decoder = msgspec.msgpack.Decoder(list[Input])
_outbox_decoder = msgspec.msgpack.Decoder(list[tuple[str, int, bytes | None, bytes | None, list[tuple[str, bytes]]]])


class JournalWriter:
    """Collects one batch's inputs; neighbouring records of one partition become one segment."""

    def __init__(self) -> None:
        self._inputs: list[Input] = []

    def records(self, topic: str, partition: int, first: int, last: int) -> None:
        """Note records that were stepped now."""
        newest = self._inputs[-1] if self._inputs else None
        if isinstance(newest, Segment) and (newest.topic, newest.partition) == (topic, partition):
            self._inputs[-1] = Segment(topic, partition, newest.first, last)
        else:
            self._inputs.append(Segment(topic, partition, first, last))

    def external(self, event: Event, origin: int) -> None:
        """Note an input that did not come by Kafka."""
        self._inputs.append(External(type(event).__name__, msgspec.msgpack.encode(event), origin))

    def unread(self, refused: Mapping[str, list[tuple[int, int, str]]]) -> None:
        """Note what could not be read. It comes before the records, so that a recomputation knows in time."""
        self._inputs[:0] = [Unread(lane, ranges) for lane, ranges in refused.items()]

    def encoded(self) -> bytes | None:
        """Return the batch's inputs as bytes, or None when there were none."""
        return msgspec.msgpack.encode(self._inputs) if self._inputs else None


def decode_inputs(content: bytes) -> list[Input]:
    """Return a batch's inputs."""
    return _inputs_decoder.decode(content)


def decode_external(external: External, types: Sequence[type[Event]]) -> Event:
    """Return the event of an external input. Raises KeyError for a type that the stage does not take."""
    known: list[type[Event]] = [*types, Heartbeat, LettersOrdered, HeldAgain]
    by_name: dict[str, type[Any]] = {kind.__name__: kind for kind in known}
    event: Event = msgspec.msgpack.decode(external.body, type=by_name[external.kind])
    return event


def encode_outbox(outgoing: Sequence[Outgoing]) -> bytes | None:
    """Return records to be sent as bytes, or None when there are none."""
    if not outgoing:
        return None
    return msgspec.msgpack.encode([(o.topic, o.partition, o.key, o.value, list(o.headers)) for o in outgoing])


def decode_outbox(content: bytes) -> list[Outgoing]:
    """Return the records that a batch wanted sent."""
    return [
        Outgoing(topic, partition, key, value, tuple(headers))
        for topic, partition, key, value, headers in _outbox_decoder.decode(content)
    ]
