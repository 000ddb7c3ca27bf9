"""Ingestion as a whole: definitions first, times, refusals; nothing lost, nothing depends on where it was cut."""

import copy
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_inputs import KEY, beat, book, definition, diff, ingest, ns, quote, trade
from msgspec.structs import replace

from agents.market.feed_state import FeedState
from agents.market.stage import UNKNOWN, Ingestion, IngestionConfig
from agents.stage import ShardState
from schemas.event import Event, Heartbeat
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, QualityKind, Quote, Trade, VenueBar
from schemas.values import NS_PER_S

RECORDS = (Trade, Quote, DepthUpdate, BookSnapshot, VenueBar)


def _bar(**changes: int) -> VenueBar:
    bar = VenueBar(
        key=KEY,
        event_time_ns=ns(1),
        available_at_ns=ns(1),
        interval_ns=NS_PER_S,
        open_price=4,
        high_price=5,
        low_price=3,
        close_price=4,
        volume=7,
    )
    return replace(bar, **changes)


def _qualities(outputs: list[Event], kind: QualityKind) -> list[Quality]:
    return [event for event in outputs if isinstance(event, Quality) and event.kind is kind]


def _shifted(event: Event, seconds: float) -> Event:
    """The same record with an exchange clock that is ``seconds`` off."""
    return replace(event, event_time_ns=event.event_time_ns + round(seconds * 1e9))


def test_an_instrument_is_defined_before_anything_else_and_once() -> None:
    outputs = ingest([trade(1), quote(2)])
    assert [type(event) for event in outputs] == [InstrumentDefined, Trade, Quote]
    assert outputs[0].available_at_ns == ns(1)


def test_inferred_increments_are_said_aloud() -> None:
    stage = Ingestion(IngestionConfig(instruments={KEY: definition(inferred=True)}))
    assert [type(event) for event in ingest([trade(1)], stage)] == [InstrumentDefined, Quality, Trade]


def test_an_unknown_instrument_is_refused_and_the_memory_for_such_is_bounded() -> None:
    state = ShardState()
    strangers = [replace(trade(k / 100), key=f"X:{k}") for k in range(3_000)]
    outputs = ingest([*strangers, beat(40, "closing")], state=state)
    assert sum(event.count for event in _qualities(outputs, QualityKind.REFUSED)) == 3_000
    assert not [event for event in outputs if isinstance(event, RECORDS)]
    assert set(state) == {UNKNOWN}
    assert len(outputs) < 300


def test_times_never_fall_for_an_instrument() -> None:
    outputs = ingest([quote(2), trade(1), quote(3)])[1:]
    assert [event.available_at_ns for event in outputs] == [ns(2), ns(2), ns(3)]
    assert outputs[1].event_time_ns == ns(1)


def test_the_feeds_own_event_is_left_as_it_was() -> None:
    events = [quote(2), trade(1), book(3, 1, {100: 1}, {101: 1}), diff(4, (2, 2), {100: 2}), beat(5)]
    before = copy.deepcopy(events)
    ingest(events)
    assert events == before


def test_a_future_time_is_judged_after_the_skew_of_the_exchanges_clock() -> None:
    ahead = [_shifted(quote(k / 10), 8) for k in range(100)]
    outputs = ingest([*ahead, _shifted(quote(10), 12.9), _shifted(quote(11), 13.1), beat(20, "closing")])
    assert sum(isinstance(event, Quote) for event in outputs) == 101
    assert [(event.detail, event.count) for event in _qualities(outputs, QualityKind.REFUSED)] == [
        ("event time in the future", 1)
    ]
    assert len(_qualities(outputs, QualityKind.CLOCK_SKEW)) == 1


def test_one_wild_time_stamp_does_not_move_the_skew() -> None:
    state = ShardState()
    honest = [_shifted(trade(k / 10), 1.27) for k in range(50)]
    wild = [_shifted(trade(5 + k, trade_id=f"w{k}"), 3_600) for k in range(3)]
    outputs = ingest([wild[0], *honest, *wild[1:], beat(20, "closing")], state=state)
    assert sum(isinstance(event, Trade) for event in outputs) == 50
    assert state[KEY].clock.lead_ns == pytest.approx(1.27e9)


def test_an_exchange_clock_that_runs_backwards_is_counted_not_listed() -> None:
    events = [_shifted(quote(k / 100), 0.01 + (k % 10) / 100 * -2) for k in range(2_000)]
    expected, newest = 0, 0
    for event in events:
        if event.event_time_ns == event.available_at_ns:
            continue
        expected += event.event_time_ns < newest
        newest = max(newest, event.event_time_ns)
    outputs = ingest([*events, beat(30, "closing")])
    found = _qualities(outputs, QualityKind.CLOCK_BACKWARDS)
    assert sum(event.count for event in found) == expected > 1_000
    assert len(found) <= 6
    assert sum(isinstance(event, Quote) for event in outputs) == 2_000


def test_silence_is_stale_once_and_its_end_is_fresh() -> None:
    outputs = ingest([quote(1), *(beat(k / 10) for k in range(10, 200)), quote(20), beat(20.1)])
    stale = _qualities(outputs, QualityKind.STALE)
    assert [event.available_at_ns for event in stale] == [ns(6)]
    assert [event.available_at_ns for event in _qualities(outputs, QualityKind.FRESH)] == [ns(20)]


@pytest.mark.parametrize(
    "event",
    [
        replace(trade(1), price=0),
        replace(trade(1), price=-5),
        replace(trade(1), quantity=0),
        quote(1, bid=-1),
        quote(1, sizes=(-1, 1)),
        diff(1, (2, 1)),
        diff(1, (1, 1), {0: 1}),
        diff(1, (1, 1), {1: -1}),
        replace(diff(1, (1, 1), {1: 1}), bid_quantities=()),
        _bar(open_price=6),
        _bar(low_price=0),
        _bar(open_price=2),
        _bar(volume=-1),
    ],
)
def test_a_record_that_cannot_be_is_refused(event: Event) -> None:
    outputs = ingest([event])
    assert [type(output) for output in outputs] == [InstrumentDefined, Quality]
    assert outputs[1].kind is QualityKind.REFUSED


def test_a_trade_that_came_before_is_dropped_and_counted() -> None:
    outputs = ingest([trade(1, trade_id="a"), trade(2, trade_id="a"), trade(3, trade_id="b"), beat(9, "closing")])
    assert sum(isinstance(event, Trade) for event in outputs) == 2
    assert [event.detail for event in _qualities(outputs, QualityKind.REFUSED)] == ["trade already seen"]


def test_a_venues_bar_is_passed_on() -> None:
    bar = _bar()
    assert _plain(ingest([bar]))[1:] == [bar]


def _story(steps: list[tuple[int, int, int]]) -> list[Event]:
    """A feed that loses, repeats and reorders: each step is a kind, an amount of time, and a jump of the update id."""
    events: list[Event] = []
    at, update_id = 0.0, 100
    for number, (kind, pause, jump) in enumerate(steps):
        at += pause / 10
        if kind == 0:
            events.append(trade(at, 100 + jump, trade_id=str(number - jump % 3)))
        elif kind == 1:
            events.append(_shifted(quote(at, 100, 101, update_id=update_id), jump * 3))
        elif kind == 2:
            events.append(book(at, update_id + jump - 2, {100 + jump: 5, 99: 1}, {103: 5}))
        elif kind == 3:
            events.append(beat(at))
        else:
            first = update_id + 1 + max(0, jump - 3)
            events.append(diff(at, (first, first + 1), {100 + jump: jump % 3}, {101 + jump: 1}))
            update_id = first + 1
    return [*events, beat(at + 10, "closing")]


STORIES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30), st.integers(0, 4)), max_size=60).map(_story)


def _plain(outputs: list[Event]) -> list[Event]:
    return [replace(event, event_id="", cause_id="") for event in outputs]


@given(STORIES)
def test_every_record_is_passed_on_or_refused_with_a_reason(story: list[Event]) -> None:
    outputs = ingest(story)
    given_in = sum(isinstance(event, RECORDS) for event in story)
    passed = sum(isinstance(event, RECORDS) for event in outputs)
    # Books that are repeated every minute come out of a Heartbeat, not of a record.
    state, stage, repeated = ShardState(), Ingestion(IngestionConfig(instruments={KEY: definition()})), 0
    for event in story:
        made = stage.step(state, event)[1]
        repeated += sum(isinstance(output, BookSnapshot) for output in made) if isinstance(event, Heartbeat) else 0
    refused = sum(event.count for event in _qualities(outputs, QualityKind.REFUSED))
    assert given_in == passed - repeated + refused


@given(STORIES)
def test_times_and_books_that_come_out_are_in_order(story: list[Event]) -> None:
    newest, update_id, trusted = 0, -1, False
    for event in ingest(story):
        if event.key == KEY:
            assert event.available_at_ns >= newest
            newest = event.available_at_ns
        if isinstance(event, BookSnapshot):
            assert not trusted or event.update_id >= update_id
            update_id, trusted = event.update_id, True
        elif isinstance(event, DepthUpdate):
            assert trusted
            assert event.last_update_id > update_id
            assert event.first_update_id <= update_id + 1
            update_id = event.last_update_id
        elif isinstance(event, Quality) and event.kind is QualityKind.GAP:
            trusted = False


@settings(max_examples=60)
@given(STORIES, st.integers(0, 60))
def test_a_checkpoint_anywhere_changes_nothing(story: list[Event], cut: int) -> None:
    whole = ingest(story)
    stage, state = Ingestion(IngestionConfig(instruments={KEY: definition()})), ShardState()
    outputs = ingest(story[:cut], stage, state)
    restored = ShardState()
    for key in sorted(state, reverse=True):
        assert stage.state_type(key) is FeedState
        restored.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(state[key]), type=FeedState))
    assert outputs + ingest(story[cut:], stage, restored) == whole


@given(STORIES)
def test_only_touched_keys_change(story: list[Event]) -> None:
    """What is not written at a checkpoint must not have changed, or a restart would differ."""
    stage, state = Ingestion(IngestionConfig(instruments={KEY: definition()})), ShardState()
    kept: dict[str, bytes] = {}
    for event in story:
        state.touched.clear()
        stage.step(state, event)
        for key, value in state.items():
            encoded = msgspec.msgpack.encode(value)
            assert key in state.touched or encoded == kept[key]
            kept[key] = encoded


@given(STORIES, st.integers(0, 60), st.integers(1, 100))
def test_a_changed_future_changes_no_past_output(story: list[Event], cut: int, shift: int) -> None:
    future = [
        replace(event, available_at_ns=event.available_at_ns + shift * NS_PER_S, event_time_ns=event.event_time_ns + 1)
        for event in story[cut:]
    ]
    past = _plain(ingest(story[:cut]))
    assert _plain(ingest([*story[:cut], *future]))[: len(past)] == past
    assert _plain(ingest(story))[: len(past)] == past


def test_findings_are_bounded_in_rate_however_bad_the_feed() -> None:
    bad = [replace(trade(k / 1_000), price=-(k % 3)) for k in range(20_000)]
    outputs = ingest(bad)
    counted = Counter(type(event) for event in outputs)
    assert counted[Quality] <= 6
