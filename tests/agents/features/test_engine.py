"""The state of one instrument and what a grid time makes of it: sources of the top, windows, nulls, quality."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_inputs import (
    HORIZONS_NS,
    KEY,
    START_NS,
    UNIT,
    beat,
    book,
    definition,
    diff,
    drive,
    featured,
    ingest,
    ns,
    quote,
    snapshots,
    trade,
)
from msgspec.structs import replace

from agents.features.engine import apply, due_grid_time
from agents.features.snapshot import FEATURE_NAMES, flat_band, mark, snapshot
from agents.features.state import FeatureConfig, FeatureState, new_state
from schemas.event import Event, derive_id
from schemas.market import Quality, QualityKind
from schemas.opinions import FeatureSnapshot, MarketMark, MarkQuality
from schemas.values import NS_PER_S, Side

CONFIG = FeatureConfig(
    instruments={KEY: definition()}, vpin_bucket_volumes={KEY: 5 * UNIT}, vpin_buckets=4, vpin_buckets_min=2
)
LADDER = book(0, 10, {100 - k: 5 for k in range(12)}, {101 + k: 5 for k in range(12)})


def _after(*events: Event) -> FeatureState:
    state = new_state(KEY, CONFIG)
    for event in events:
        apply(state, event)
    return state


def _quality(at: float, kind: QualityKind) -> Quality:
    return Quality(key=KEY, event_time_ns=ns(at), available_at_ns=ns(at), kind=kind)


def _top(state: FeatureState) -> tuple[Any, ...]:
    top = state.order_flow
    return top.bid_price, top.bid_quantity, top.ask_price, top.ask_quantity


def _bid(state: FeatureState) -> int:
    bid = state.order_flow.bid_price
    assert bid is not None
    return bid // UNIT


def test_the_top_is_the_freshest_by_update_id_from_quote_or_book() -> None:
    state = _after(LADDER)
    assert (_bid(state), state.top_from_book) == (100, True)
    apply(state, quote(1, 98, 99, update_id=9))
    assert _bid(state) == 100, "a quote older than the book"
    apply(state, quote(1, 97, 99, update_id=12))
    assert (_bid(state), state.top_from_book) == (97, False)
    apply(state, diff(2, (11, 11), {100: 0}))
    assert _bid(state) == 97, "a diff older than the quote moves the book, not the top"
    apply(state, diff(2, (12, 13), {99: 0}))
    assert (_bid(state), state.top_from_book) == (98, True)


def test_without_update_ids_the_top_is_what_came_last() -> None:
    state = _after(LADDER, quote(1, 97, 99))
    assert _bid(state) == 97
    apply(state, diff(2, (11, 11), {100: 0}))
    assert _bid(state) == 99
    apply(state, quote(3, 96, 99))
    assert _bid(state) == 96


def test_a_repeated_quote_or_diff_changes_nothing() -> None:
    events = [LADDER, diff(1, (11, 11), {100: 9}), quote(1, 100, 101, (9, 5), 12), quote(1, 100, 101, (2, 5), 13)]
    twice = [copy for event in events for copy in (event, event)]
    assert _after(*twice) == _after(*events)


def test_depth_without_a_book_gives_nothing() -> None:
    state = _after(diff(1, (11, 11), {100: 9}), quote(1))
    assert not state.synchronised
    assert state.book.bids == {}


def test_features_of_a_quiet_book() -> None:
    last = snapshots(featured([LADDER, *(beat(k / 10) for k in range(1, 631))], CONFIG))[-1]
    features = last.features
    assert tuple(features) == FEATURE_NAMES
    assert last.mid == 100 * UNIT + UNIT // 2
    assert last.synchronised
    assert features["spread"] == UNIT
    assert features["spread_relative"] == pytest.approx(1 / 100.5)
    assert features["depth_10"] == 100 * UNIT
    zero = ("microprice_offset", "imbalance_1", "imbalance_5", "imbalance_10", "ofi_1s", "ofi_10s", "ofi_multi_1s")
    assert {name: features[name] for name in zero} == dict.fromkeys(zero, 0.0)
    moves = ("volatility", "volatility_fast", "return_1s", "return_5s", "return_10s", "return_30s", "return_60s")
    assert {name: features[name] for name in moves} == dict.fromkeys(moves, 0.0)
    never = ("trade_flow_1s", "trade_flow_10s", "trade_rate_10s", "vpin")
    assert {name: features[name] for name in never} == dict.fromkeys(never)
    assert features["age_s"] == 63.0


def test_a_snapshot_opens_one_ballot_per_horizon() -> None:
    (first,) = snapshots(featured([quote(0.5), beat(1)], CONFIG))
    assert (first.grid_time_ns, first.available_at_ns, first.deadline_ns) == (ns(1), ns(1), ns(1.5))
    assert [question.horizon_ns for question in first.questions] == list(HORIZONS_NS)
    assert first.questions[1].ballot_id == derive_id(f"{KEY}|{ns(1)}", "ballot", HORIZONS_NS[1])
    assert {question.flat_band for question in first.questions} == {500_000}


def test_the_flat_band_grows_with_volatility_and_the_root_of_the_horizon() -> None:
    bands = [flat_band(definition(), 60_000 * UNIT, 1e-4, horizon, 0.43) for horizon in HORIZONS_NS]
    assert bands[0] == pytest.approx(0.43 * 6 * UNIT, abs=1)
    assert bands[1] / bands[0] == pytest.approx(10**0.5)
    assert flat_band(definition(), 60_000 * UNIT, 0.0, NS_PER_S, 0.43) == 500_000
    assert flat_band(definition(), None, 1e-4, NS_PER_S, 0.43) == 500_000


def test_the_grid_closes_before_the_event_and_silence_gives_one_snapshot() -> None:
    story = [quote(0.5, 100, 102), quote(1.0, 200, 202), quote(9.7, 300, 302)]
    first, last = snapshots(featured(story, CONFIG))
    assert (first.grid_time_ns, first.mid) == (ns(1), 101 * UNIT)
    assert (last.grid_time_ns, last.mid) == (ns(9), 201 * UNIT)
    state = new_state(KEY, CONFIG)
    assert [due_grid_time(state, ns(at), NS_PER_S) for at in (0.5, 0.9, 1.0, 1.5, 0.7, 7.2)] == [
        *(None, None, ns(1), None, None, ns(7))
    ]


def test_flows_and_returns_run_over_their_own_windows() -> None:
    story: list[Event] = [quote(0.05, 100, 102, (1, 1))]
    story += [trade(k / 10, quantity=1, aggressor=Side.BUY) for k in range(1, 100)]
    story += [trade(k / 10, quantity=3, aggressor=Side.SELL) for k in range(110, 120)]
    story += [quote(11.5, 110, 112, (4, 1)), beat(12)]
    last = snapshots(featured(sorted(story, key=lambda event: event.available_at_ns), CONFIG))[-1]
    features = last.features
    assert features["trade_flow_1s"] == -1.0
    assert features["trade_flow_10s"] == pytest.approx((80 - 30) / (80 + 30))
    assert features["trade_rate_10s"] == 9.0
    assert features["return_1s"] == pytest.approx(111 / 101 - 1)
    assert features["return_10s"] == pytest.approx(111 / 101 - 1)
    assert features["return_30s"] is None
    # +4 at the better bid, +1 for the ask that went away, over the mean depth per side: half at 1, half at 2.5.
    assert features["ofi_1s"] == pytest.approx(5 / ((5 * 2 + 5 * 5) / 10 / 2))
    assert features["vpin"] == 1.0


def test_quotes_without_sizes_give_prices_and_no_flow() -> None:
    story = [quote(k / 10, 100, 101 + k % 2, (None, None)) for k in range(130)]
    features = snapshots(featured(story, CONFIG))[-1].features
    for name in ("microprice_offset", "imbalance_1", "imbalance_5", "ofi_1s", "ofi_10s", "ofi_multi_1s", "depth_10"):
        assert features[name] is None
    for name in ("spread", "return_1s", "return_10s", "volatility", "volatility_fast"):
        assert features[name] is not None


def test_a_crossed_quote_keeps_its_mid_and_has_no_spread() -> None:
    (crossed,) = snapshots(featured([quote(0.5, 102, 100), beat(1)], CONFIG))
    assert crossed.mid == 101 * UNIT
    assert crossed.features["spread"] is crossed.features["spread_relative"] is None
    assert crossed.features["microprice_offset"] is crossed.features["imbalance_1"] is None


def test_a_crossed_book_has_no_mid() -> None:
    outputs = featured([LADDER, diff(0.5, (11, 11), {101: 1}), beat(1)], CONFIG)
    (crossed,) = snapshots(outputs)
    assert crossed.mid is None
    assert crossed.features["imbalance_5"] is crossed.features["spread"] is None
    assert outputs[-1].quality is MarkQuality.CROSSED


def test_a_one_sided_quote_has_no_mid() -> None:
    outputs = featured([quote(0.5, 100, None, (1, None)), beat(1)], CONFIG)
    assert snapshots(outputs)[0].mid is None
    assert outputs[-1].quality is MarkQuality.ONE_SIDED


@pytest.mark.parametrize("kind", [QualityKind.GAP, QualityKind.UNSYNCHRONISED, QualityKind.RESYNC])
def test_a_lost_book_takes_its_top_with_it_and_the_next_grid_mark_tells(kind: QualityKind) -> None:
    story = [LADDER, *(beat(k / 10) for k in range(1, 20)), _quality(1.95, kind), beat(2), beat(2.5), quote(2.6)]
    outputs = featured([*story, beat(3), beat(3.5)], CONFIG)
    lost, served = snapshots(outputs)[-2:]
    assert (lost.mid, lost.synchronised, lost.features["ofi_1s"], lost.features["depth_10"]) == (
        None,
        False,
        None,
        None,
    )
    assert (served.mid, served.synchronised) == (100 * UNIT + UNIT // 2, False)
    marks = [output for output in outputs if isinstance(output, MarketMark)]
    assert [marked.quality for marked in marks if marked.on_grid] == [
        *(MarkQuality.GOOD, MarkQuality.GAP, MarkQuality.TOP_ONLY)
    ]
    assert marks[-1].quality is MarkQuality.TOP_ONLY


def test_a_gap_with_live_quotes_is_still_told_on_the_grid_once() -> None:
    story = [LADDER, quote(0.5, update_id=20), _quality(1.2, QualityKind.GAP), quote(1.3, update_id=21), beat(1.5)]
    outputs = featured([*story, beat(2), quote(2.5, update_id=22), beat(3)], CONFIG)
    on_grid = [output.quality for output in outputs if isinstance(output, MarketMark) and output.on_grid]
    assert on_grid == [MarkQuality.GOOD, MarkQuality.GAP, MarkQuality.TOP_ONLY]


def test_a_new_connection_joins_no_window_to_the_old_one() -> None:
    before = [event for k in range(130) for event in (quote(k / 10, update_id=k), trade(k / 10))]
    state = _after(LADDER, *before, _quality(13, QualityKind.RESYNC), quote(13.1, 200, 201, update_id=1))
    assert not any(state.mids)
    features = snapshot(state, ns(14), CONFIG).features
    assert [name for name in FEATURE_NAMES if features[name] is not None] == [
        *("microprice_offset", "spread", "spread_relative", "imbalance_1", "age_s")
    ]


def test_a_repeated_book_is_no_news() -> None:
    state = _after(LADDER)
    apply(state, replace(LADDER, available_at_ns=ns(60)))
    assert state.newest_ns == LADDER.available_at_ns
    assert mark(state, CONFIG, ns(60)).quality is MarkQuality.STALE


def test_volume_is_what_traded_since_the_last_mark_on_the_grid() -> None:
    outputs = featured(
        [quote(0.1), beat(0.2), trade(0.5, quantity=2), trade(0.6, quantity=3), beat(1), beat(1.5)], CONFIG
    )
    volumes = [(output.on_grid, output.volume) for output in outputs if isinstance(output, MarketMark)]
    assert volumes == [(False, None), (True, 5 * UNIT), (False, 0), (False, 0)]
    unsized = featured([quote(0.1), trade(0.5, quantity=None), beat(1)], CONFIG)
    assert unsized[1].volume is None


def test_a_mark_shows_the_top_and_the_time_of_the_newest_record() -> None:
    state = _after(quote(0.5, 100, 101, (3, 4)), trade(0.7), beat(0.9))
    shown = mark(state, CONFIG, ns(0.95))
    assert (shown.bid_price, shown.bid_quantity, shown.ask_price, shown.ask_quantity) == _top(state)
    assert (shown.newest_time_ns, shown.available_at_ns, shown.on_grid) == (ns(0.7), ns(0.95), False)
    assert shown.quality is MarkQuality.TOP_ONLY
    assert mark(new_state(KEY, CONFIG), CONFIG, ns(1)).quality is MarkQuality.GAP


@pytest.mark.parametrize(
    "change",
    [{"bucket_ns": 300_000_000}, {"bucket_ns": 0}, {"vpin_buckets_min": 60}, {"vpin_buckets_min": 0}],
)
def test_settings_that_cannot_hold_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        FeatureConfig(instruments={KEY: definition()}, **change)


def test_a_grid_that_no_bucket_fits_is_refused() -> None:
    odd = replace(definition(), grid_ns=250_000_001)
    with pytest.raises(ValueError, match="grid_ns"):
        FeatureConfig(instruments={KEY: odd})


def _story(steps: list[tuple[int, int, int]]) -> list[Event]:
    events: list[Event] = [LADDER]
    at, update_id = 0.0, 10
    for number, (kind, pause, value) in enumerate(steps):
        at += pause / 20
        update_id += 1
        if kind == 0:
            side = (Side.BUY, Side.SELL, None)[value % 3 if number % 7 == 0 else value % 2]
            events.append(trade(at, 100 + value, 1 + value, side, trade_id=str(number)))
        elif kind <= 2:
            sizes = (1 + value, 3) if number % 11 else (None, None)
            events.append(quote(at, 100 - value, 101 + value, sizes, update_id))
        elif kind == 3:
            events.append(beat(at))
        elif kind == 4 and number % 9 == 0:
            events.append(_quality(at, list(QualityKind)[value]))
        else:
            events.append(diff(at, (update_id, update_id), {100 - value: value % 3}, {101 + value: value}))
    return [*events, beat(at + 3)]


STORIES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 40), st.integers(0, 5)), max_size=60).map(_story)


@settings(max_examples=60)
@given(STORIES, st.integers(0, 60))
def test_a_checkpoint_anywhere_changes_nothing(story: list[Event], cut: int) -> None:
    state = new_state(KEY, CONFIG)
    outputs = list(drive(story[:cut], CONFIG, state))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=FeatureState)
    assert outputs + list(drive(story[cut:], CONFIG, again)) == featured(story, CONFIG)


@settings(max_examples=60)
@given(STORIES, st.integers(0, 60), st.integers(1, 300))
def test_a_changed_future_changes_no_past_output(story: list[Event], cut: int, shift: int) -> None:
    past = featured(story[:cut], CONFIG)
    future = [replace(event, available_at_ns=event.available_at_ns + shift * 10_000_000) for event in story[cut:]]
    assert featured([*story[:cut], *future], CONFIG)[: len(past)] == past


@settings(max_examples=60)
@given(STORIES)
def test_a_snapshot_is_made_only_of_what_was_available_before_it(story: list[Event]) -> None:
    """Everything at or after a grid time is cut away: the snapshot must be the same."""
    for shown in snapshots(featured(story, CONFIG)):
        seen = [event for event in story if event.available_at_ns < shown.grid_time_ns]
        closing = replace(beat(0), available_at_ns=shown.grid_time_ns)
        assert snapshots(featured([*seen, closing], CONFIG))[-1] == shown


@settings(max_examples=60)
@given(STORIES)
def test_features_hold_in_their_bounds_and_are_never_made_up(story: list[Event]) -> None:
    for shown in snapshots(featured(ingest(story), CONFIG)):
        assert isinstance(shown, FeatureSnapshot)
        assert shown.grid_time_ns % NS_PER_S == START_NS % NS_PER_S == 0
        for name, value in shown.features.items():
            if value is None:
                continue
            if name.startswith(("imbalance", "trade_flow")):
                assert -1 <= value <= 1
            elif not name.startswith(("microprice", "return", "ofi")):
                assert value >= 0
        if not shown.synchronised:
            assert shown.features["depth_10"] is shown.features["imbalance_5"] is shown.features["ofi_multi_1s"] is None
