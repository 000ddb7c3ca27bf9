"""What is journaled comes back as it was: order, segments, bytes."""

from itertools import pairwise

from every_event import RECORDS, example
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event, Heartbeat
from streams.engine.journal import (
    External,
    JournalWriter,
    Segment,
    decode_external,
    decode_inputs,
    decode_outbox,
    encode_outbox,
)
from streams.engine.ports import Outgoing

LANES = [("a", 0), ("a", 1), ("b", 0)]
STEPS = st.lists(st.one_of(st.tuples(st.sampled_from(LANES), st.integers(1, 5)), st.none()), max_size=30)
OUTGOING = st.builds(
    Outgoing,
    st.text(max_size=10),
    st.integers(0, 64),
    st.none() | st.binary(max_size=10),
    st.none() | st.binary(max_size=50),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple),
)


@given(STEPS)
def test_the_journal_gives_every_input_again_in_its_order(steps: list[tuple[tuple[str, int], int] | None]) -> None:
    writer = JournalWriter()
    ends = dict.fromkeys(LANES, 0)
    stepped: list[tuple[str, int, int] | int] = []
    for number, step in enumerate(steps):
        if step is None:
            writer.external(Heartbeat(key="k", event_time_ns=number, available_at_ns=number), 7)
            stepped.append(number)
        else:
            lane, count = step
            writer.records(*lane, ends[lane], ends[lane] + count - 1)
            stepped += [(*lane, offset) for offset in range(ends[lane], ends[lane] + count)]
            ends[lane] += count
    content = writer.encoded()
    assert (content is None) == (not steps)
    inputs = decode_inputs(content) if content is not None else []
    again: list[tuple[str, int, int] | int] = []
    for item in inputs:
        if isinstance(item, Segment):
            again += [(item.topic, item.partition, offset) for offset in range(item.first, item.last + 1)]
        else:
            assert item.origin == 7
            again.append(decode_external(item, ()).event_time_ns)
    assert again == stepped
    neighbours = [(one, two) for one, two in pairwise(inputs) if isinstance(one, Segment) and isinstance(two, Segment)]
    assert all((one.topic, one.partition) != (two.topic, two.partition) for one, two in neighbours), "joined"


def test_every_type_may_be_journaled_with_its_bytes() -> None:
    for record in RECORDS:
        if not issubclass(record, Event):
            continue
        event = example(record)
        writer = JournalWriter()
        writer.external(event, 0)
        content = writer.encoded()
        assert content is not None
        (item,) = decode_inputs(content)
        assert isinstance(item, External)
        assert decode_external(item, (type(event),)) == event


@given(st.lists(OUTGOING, max_size=10))
def test_the_outbox_gives_every_record_again(outgoing: list[Outgoing]) -> None:
    content = encode_outbox(outgoing)
    assert (content is None) == (not outgoing)
    assert (decode_outbox(content) if content is not None else []) == outgoing
