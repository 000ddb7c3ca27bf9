"""Bars: right numbers, honest marks on what was not seen, bounded runs of what was made up."""

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from market_inputs import KEY, UNIT, beat, ns, quote, trade
from msgspec.structs import replace

from agents.market.bars import BarState, advance, apply
from schemas.event import Event
from schemas.market import Quality, QualityKind, Quote
from schemas.opinions import Bar
from schemas.values import NS_PER_S


def _state(**changes: int) -> BarState:
    return BarState(instrument=KEY, interval_ns=NS_PER_S, **changes)


def _bars(events: list[Event], state: BarState | None = None) -> list[Bar]:
    state = state or _state()
    bars: list[Bar] = []
    for event in events:
        mid = (event.bid_price + event.ask_price) // 2 if isinstance(event, Quote) else None
        bars += apply(state, event, mid)
    return bars


def _broken(at: float, kind: QualityKind = QualityKind.RESYNC) -> Quality:
    return Quality(key=KEY, event_time_ns=ns(at), available_at_ns=ns(at), kind=kind)


def test_a_bar_holds_the_trades_of_its_interval() -> None:
    story = [trade(0.5), trade(1.0, 103, 2), trade(1.2, 99, 1), trade(1.9, 101, 4), beat(2)]
    first, second = _bars(story)
    assert not first.complete, "the first interval was not seen from its beginning"
    assert second == Bar(
        key=KEY,
        event_time_ns=ns(2),
        available_at_ns=ns(2),
        interval_ns=NS_PER_S,
        open_time_ns=ns(1),
        open_price=103 * UNIT,
        high_price=103 * UNIT,
        low_price=99 * UNIT,
        close_price=101 * UNIT,
        volume=7 * UNIT,
        trades=3,
        complete=True,
        imputed=False,
    )


def test_an_empty_interval_is_imputed_from_the_last_close_and_marked() -> None:
    bars = _bars([trade(0.5, 100), trade(3.5, 105), beat(4)])
    assert [(bar.imputed, bar.volume, bar.trades, bar.close_price // UNIT) for bar in bars] == [
        (False, UNIT, 1, 100),
        (True, None, 0, 100),
        (True, None, 0, 100),
        (False, UNIT, 1, 105),
    ]
    assert {bar.open_price for bar in bars[1:3]} == {bar.low_price for bar in bars[1:3]} == {100 * UNIT}


def test_a_long_silence_is_not_filled_without_end_and_what_follows_it_is_incomplete() -> None:
    state = _state(imputed_max=5)
    bars = _bars([trade(0.5), *(beat(k) for k in range(1, 100))], state)
    assert [bar.imputed for bar in bars] == [False] + [True] * 5
    assert state.stopped
    resumed = _bars([trade(100.5), trade(101.5), beat(102)], state)
    assert [(bar.open_time_ns, bar.complete, bar.imputed) for bar in resumed] == [
        (ns(100), False, False),
        (ns(101), True, False),
    ]


def test_one_heartbeat_after_a_week_costs_no_more_than_the_bound() -> None:
    assert len(_bars([trade(0.5), beat(604_800)], _state(imputed_max=5))) == 6


def test_a_bar_across_a_break_of_the_feed_is_incomplete() -> None:
    story = [trade(0.5), trade(1.5), trade(2.1), _broken(2.5), trade(2.9), trade(3.5), _broken(4.0, QualityKind.GAP)]
    bars = _bars([*story, trade(4.5), trade(5.5), beat(6)])
    assert [bar.complete for bar in bars] == [False, True, False, True, False, True]


def test_other_findings_break_no_bar() -> None:
    bars = _bars([trade(0.5), trade(1.2), _broken(1.5, QualityKind.CLOCK_SKEW), beat(2)])
    assert [bar.complete for bar in bars] == [False, True]


def test_without_trades_bars_are_made_of_mids_and_have_no_volume() -> None:
    bars = _bars([quote(0.5), quote(1.1, 100, 102), quote(1.6, 104, 106), quote(1.8, 98, 100), beat(2)])
    assert (bars[1].open_price, bars[1].high_price) == (101 * UNIT, 105 * UNIT)
    assert (bars[1].low_price, bars[1].close_price) == (99 * UNIT, 99 * UNIT)
    assert (bars[1].volume, bars[1].trades, bars[1].imputed, bars[1].complete) == (None, 0, False, True)


def test_once_something_trades_mids_count_no_more() -> None:
    bars = _bars([quote(0.2, 50, 50), trade(0.5, 100), quote(0.7, 200, 200), quote(1.5, 300, 300), beat(2)])
    assert [(bar.high_price // UNIT, bar.low_price // UNIT) for bar in bars] == [(100, 100), (100, 100)]
    assert [bar.complete for bar in bars] == [False, True]
    assert bars[1].imputed


def test_a_trade_without_size_leaves_no_volume() -> None:
    bars = _bars([trade(0.5), trade(1.2), trade(1.4, quantity=None), trade(1.6), trade(2.5), beat(3)])
    assert [bar.volume for bar in bars] == [UNIT, None, UNIT]


TRADES = st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 50), st.integers(1, 9)), min_size=1, max_size=60)


def _trades(steps: list[tuple[int, int, int]]) -> list[Event]:
    at, events = 0, []
    for pause, price, quantity in steps:
        at += pause
        events.append(trade(at / 1_000, price, quantity))
    return [*events, beat(at / 1_000 + 1)]


@given(TRADES)
def test_bars_tile_time_and_hold_every_trade_once(steps: list[tuple[int, int, int]]) -> None:
    events = _trades(steps)
    bars = _bars(events)
    assert sum(bar.trades for bar in bars) == len(steps)
    assert sum(bar.volume or 0 for bar in bars) == sum(quantity for _, _, quantity in steps) * UNIT
    for before, after in itertools.pairwise(bars):
        assert after.open_time_ns == before.event_time_ns
    for bar in bars:
        assert bar.low_price <= min(bar.open_price, bar.close_price)
        assert bar.high_price >= max(bar.open_price, bar.close_price)
        assert bar.event_time_ns == bar.open_time_ns + bar.interval_ns


@given(TRADES, st.integers(0, 60), st.integers(1, 10_000))
def test_a_bar_does_not_know_what_comes_after_it(steps: list[tuple[int, int, int]], cut: int, shift: int) -> None:
    events = _trades(steps)
    past = _bars(events[:cut])
    future = [replace(event, available_at_ns=event.available_at_ns + shift * 1_000_000) for event in events[cut:]]
    assert _bars([*events[:cut], *future])[: len(past)] == past


@given(TRADES, st.integers(0, 60))
def test_a_checkpoint_anywhere_changes_nothing(steps: list[tuple[int, int, int]], cut: int) -> None:
    events = _trades(steps)
    state = _state()
    bars = _bars(events[:cut], state)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BarState)
    assert bars + _bars(events[cut:], again) == _bars(events)


def test_nothing_ends_before_something_began() -> None:
    assert advance(_state(), ns(5)) == ()
