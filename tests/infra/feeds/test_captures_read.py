"""The recorded captures as feeds: every line accounted for, what is known about them found again, and broken ones."""

import functools
import gzip
import itertools
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from captures import CAPTURES, SPOT_20240808, SPOT_20240809, USDM_20240808

from infra.feeds import RAW_BYTES_MAX, FeedFailed
from infra.feeds.capture import Capture, first_records, open_capture
from schemas.event import Event, Heartbeat
from schemas.feed import FeedRecord
from schemas.market import Quote, Trade, VenueBar
from schemas.values import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.slow

TICKS = CAPTURES / "lean" / "tick"
BAC_1007 = (TICKS / "bac-20131007-quote.zip", TICKS / "bac-20131007-trade.zip")
EURUSD = sorted(TICKS.glob("eurusd-fxcm-*-quote.zip"))
BAC_LINES = {
    "20131007": (476_855, 88_172),
    "20131008": (576_096, 125_872),
    "20131009": (644_880, 122_832),
    "20131010": (571_780, 124_567),
}
LINE = b'1723161254087891268 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":%d,'
TRADE_LINE = LINE + b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true}}'


def _counts(capture: Capture) -> Counter[str]:
    counts: Counter[str] = Counter()
    for position, record in enumerate(capture.records()):
        assert record.position == position
        counts.update(type(event).__name__ for event in record.events)
        counts["refused"] += record.refused is not None
        # Accounted for: exactly one of an event or a reason.
        assert sum(type(event) is not Heartbeat for event in record.events) == (record.refused is None)
    return counts


@functools.cache
def _usdm_records() -> tuple[FeedRecord, ...]:
    return tuple(open_capture([USDM_20240808]).records())


def _gzipped(path: Path, lines: Sequence[bytes]) -> Path:
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    return path


def _zipped(path: Path, member: str, content: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "instrument", "expected"),
    [
        (
            USDM_20240808,
            "BINANCE_USDM:BTCUSDT",
            {"DepthUpdate": 6_551, "Quote": 66_089, "Trade": 21_313, "BookSnapshot": 1},
        ),
        (SPOT_20240808, "BINANCE:BTCUSDT", {"DepthUpdate": 3_451, "Quote": 28_040, "Trade": 9_757, "BookSnapshot": 1}),
        (SPOT_20240809, "BINANCE:BTCUSDT", {"DepthUpdate": 3_044, "Quote": 45_134, "Trade": 10_147}),
    ],
    ids=["USD-M 08-08", "spot 08-08", "spot 08-09"],
)
def test_every_line_of_a_binance_capture_is_accounted_for(
    path: Path, instrument: str, expected: dict[str, int]
) -> None:
    capture = open_capture([path])
    assert capture.instruments == (instrument,)
    counts = _counts(capture)
    del counts["Heartbeat"]
    assert counts == expected | {"refused": 0}
    with gzip.open(path) as file:
        assert sum(counts.values()) == sum(1 for _ in file)


def test_exchange_time_runs_backwards_as_often_as_was_measured() -> None:
    newest, backwards = 0, Counter[str]()
    for record in _usdm_records():
        event = record.events[-1]
        backwards[type(event).__name__] += event.event_time_ns < newest
        newest = max(newest, event.event_time_ns)
    assert (backwards["Quote"], backwards["Trade"]) == (3_965, 3_085)


def test_heartbeats_stand_before_the_event_that_reaches_them_and_a_step_apart() -> None:
    beats: list[int] = []
    for record in _usdm_records():
        *before, event = record.events
        assert all(type(beat) is Heartbeat and beat.clock == "capture" for beat in before)
        beats.extend(beat.available_at_ns for beat in before)
        assert event.available_at_ns - event.available_at_ns % (100 * NS_PER_MS) <= beats[-1] <= event.available_at_ns
    assert {later - earlier for earlier, later in itertools.pairwise(beats)} == {100 * NS_PER_MS}


@pytest.mark.slow
@pytest.mark.parametrize("start", [1, 54, 93_953])
def test_a_reader_that_starts_later_sees_what_the_first_one_saw(start: int) -> None:
    assert tuple(open_capture([USDM_20240808]).records(start)) == _usdm_records()[start:]


def test_two_files_are_merged_by_time_of_receipt_and_always_the_same() -> None:
    merged = open_capture([USDM_20240808, SPOT_20240808])
    assert merged.instruments == ("BINANCE:BTCUSDT", "BINANCE_USDM:BTCUSDT")
    assert merged.name == "spot-btcusdt-20240808.gz+usdm-btcusdt-20240808.gz"
    records = list(merged.records())
    assert len(records) == 41_249 + 93_954
    times = [record.events[-1].available_at_ns for record in records]
    assert times == sorted(times)
    assert records[:20_000] == first_records(open_capture([SPOT_20240808, USDM_20240808]), 20_000)


@pytest.mark.parametrize(
    "day", ["20131007", *(pytest.param(day, marks=pytest.mark.slow) for day in list(BAC_LINES)[1:])]
)
def test_bac_has_two_sides_that_never_cross_in_regular_hours(day: str) -> None:
    quotes, trades = BAC_LINES[day]
    capture = open_capture([TICKS / f"bac-{day}-quote.zip", TICKS / f"bac-{day}-trade.zip"])
    assert capture.instruments == ("LEAN:BAC",)
    counts: Counter[str] = Counter()
    midnight_ns = 0
    bid = ask = None
    for record in capture.records():
        event = record.events[-1]
        counts[type(event).__name__] += 1
        midnight_ns = midnight_ns or event.available_at_ns - event.available_at_ns % (86_400 * NS_PER_S)
        # New York is UTC-4 in October: 13:30 to 20:00.
        regular = 13.5 * 3_600 <= (event.available_at_ns - midnight_ns) / NS_PER_S < 20 * 3_600
        if isinstance(event, Quote):
            bid, ask = event.bid_price, event.ask_price
            counts["crossed"] += regular and bid is not None and ask is not None and bid > ask
        elif isinstance(event, Trade) and regular and bid is not None and ask is not None:
            counts["regular trades"] += 1
            counts["inside"] += bid <= event.price <= ask
    assert (counts["Quote"], counts["Trade"]) == (quotes, trades)
    assert counts["crossed"] == 0
    assert 0.995 <= counts["inside"] / counts["regular trades"] <= 0.9985


def test_a_side_of_bac_is_null_until_its_first_line_and_survives_a_later_start() -> None:
    first, second, third = (record.events[-1] for record in first_records(open_capture(BAC_1007[:1]), 3))
    assert isinstance(first, Quote)
    assert (first.bid_price, first.bid_quantity, first.ask_price) == (None, None, 1_402_000_000)
    assert isinstance(second, Quote)
    assert (second.bid_price, second.ask_price) == (1_384_000_000, 1_402_000_000)
    # 14,400,151 ms after midnight in New York, which was four hours behind UTC.
    assert first.event_time_ns == 1_381_132_800_151_000_000
    capture = open_capture(BAC_1007)
    from_start = first_records(capture, 2_000)
    resumed = capture.records(start=1_000)
    assert [next(resumed) for _ in range(1_000)] == from_start[1_000:]
    assert isinstance(third, Quote)


def test_lean_has_a_heartbeat_each_second_and_one_after_a_long_silence() -> None:
    newest: int | None = None
    for record in first_records(open_capture(BAC_1007), 100_000):
        for event in record.events[:-1]:
            if newest is not None:
                step = event.available_at_ns - newest
                assert step == NS_PER_S or step > 60 * NS_PER_S
            newest = event.available_at_ns
            assert newest % NS_PER_S == 0


@pytest.mark.parametrize("path", EURUSD, ids=lambda path: path.name[12:20])
def test_eurusd_has_no_sizes_and_crosses_as_often_as_was_measured(path: Path) -> None:
    quotes = [record.events[-1] for record in open_capture([path]).records() if not record.refused]
    with zipfile.ZipFile(path) as archive:
        assert len(quotes) == len(archive.read(archive.namelist()[0]).splitlines())
    assert all(isinstance(quote, Quote) and quote.bid_quantity is None is quote.ask_quantity for quote in quotes)
    crossed = sum(quote.bid_price > quote.ask_price for quote in quotes if isinstance(quote, Quote))
    assert 0.02 <= crossed / len(quotes) <= 0.13


def test_eurusd_days_begin_at_midnight_five_hours_behind_utc() -> None:
    day = next(path for path in EURUSD if "20140505" in path.name)
    (record,) = first_records(open_capture([day]), 1)
    assert record.events[-1].event_time_ns == (1_399_266_000 * 1_000 + 3_074) * NS_PER_MS


def test_ten_quote_files_of_eurusd_are_one_capture() -> None:
    capture = open_capture(EURUSD)
    assert capture.instruments == ("FXCM:EURUSD",)
    assert _counts(capture)["Quote"] == 754_306


def test_daily_bars_are_known_when_their_day_is_over() -> None:
    capture = open_capture([CAPTURES / "lean" / "daily" / "spy.zip"])
    bars: list[Event] = [record.events[-1] for record in capture.records()]
    assert capture.instruments == ("LEAN:SPY",)
    assert len(bars) == 5_849
    first = bars[0]
    assert isinstance(first, VenueBar)
    assert (first.open_price, first.volume) == (9_731_000_000, 2_150_000 * 100_000_000)
    assert first.event_time_ns == 883_717_200 * NS_PER_S + 86_400 * NS_PER_S
    assert all(isinstance(bar, VenueBar) and bar.low_price <= bar.close_price <= bar.high_price for bar in bars)


def test_a_line_that_cannot_be_used_is_refused_and_the_next_one_is_read(tmp_path: Path) -> None:
    lines = [
        TRADE_LINE % 1,
        b"",
        b"no receive time here",
        b"99999999999999999999 {}",
        b"1 " + (TRADE_LINE % 2).partition(b" ")[2],
        b"1823161254087891268 " + (TRADE_LINE % 3).partition(b" ")[2],
        (TRADE_LINE % 4)[:-9],
        b"1723161254087891268 " + b"x" * (5 * 1024 * 1024),
        TRADE_LINE % 5,
    ]
    records = list(open_capture([_gzipped(tmp_path / "capture.gz", lines)]).records())
    reasons = [record.refused for record in records]
    assert len(records) == len(lines)
    assert [reason is None for reason in reasons] == [True, *[False] * 7, True]
    assert all(len(record.raw) <= RAW_BYTES_MAX and not record.events for record in records if record.refused)
    assert reasons[5] == "the receive time is more than a day from the exchange's"
    assert reasons[7] == "the line is longer than 4194304 bytes"
    assert [type(event) for event in records[-1].events] == [Trade]


def test_lean_rows_that_cannot_be_are_refused_and_leave_the_merge_as_it_was(tmp_path: Path) -> None:
    rows = ["1000,138400,700,0,0,P,1,0", "2000,0,0,0,0,P,1,0", "x", "3000,-5,1,0,0,P,1,0", "99999999999,1,1,0,0,P,1,0"]
    rows += ["3500,138500,99999999999999,0,0,P,1,0", "4000,0,0,140200,500,Q,1,0"]
    path = _zipped(tmp_path / "bac.zip", "20131007_bac_Quote_Tick.csv", "\n".join(rows))
    records = list(open_capture([path]).records())
    assert [record.refused is None for record in records] == [True, *[False] * 5, True]
    last = records[-1].events[-1]
    assert isinstance(last, Quote)
    assert (last.bid_price, last.ask_price) == (1_384_000_000, 1_402_000_000)


def test_what_cannot_be_opened_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.gz").write_text("not gzip")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04" + b"\0" * 40)
    (tmp_path / "noise.gz").write_bytes(b"\x1f\x8b" + b"\0" * 40)
    _gzipped(tmp_path / "other.gz", [b"hello", b"world"])
    _zipped(tmp_path / "other.zip", "letter.txt", "hello")
    _zipped(tmp_path / "table.zip", "table.csv", "a,b,c")
    _zipped(tmp_path / "day.zip", "20139999_bac_Quote_Tick.csv", "1,1,1,0,0,P,1,0")
    names = ("missing.gz", "text.gz", "broken.zip", "noise.gz", "other.gz", "other.zip", "table.zip", "day.zip", ".")
    for name in names:
        with pytest.raises(FeedFailed) as failure:
            list(open_capture([tmp_path / name]).records())
        sentence = str(failure.value)
        assert str(tmp_path / name) in sentence
        assert sentence.endswith(".")
        assert "\n" not in sentence
    with pytest.raises(FeedFailed, match="at least one file"):
        open_capture([])


def test_a_file_that_breaks_off_fails_where_it_breaks_and_not_before(tmp_path: Path) -> None:
    for name, source in (("cut.gz", SPOT_20240808), ("cut.zip", BAC_1007[1])):
        content = bytearray(source.read_bytes())
        if name.endswith(".gz"):
            content = content[: len(content) // 2]
        else:
            content[len(content) // 2] ^= 0xFF
        (tmp_path / name).write_bytes(content)
        seen = 0
        with pytest.raises(FeedFailed, match="is damaged and cannot be read to its end"):
            for _ in open_capture([tmp_path / name]).records():
                seen += 1
        assert seen > 1_000


def test_spot_and_futures_are_told_apart_by_what_is_in_the_file(tmp_path: Path) -> None:
    renamed = tmp_path / "spot-btcusdt.gz"
    renamed.write_bytes(USDM_20240808.read_bytes())
    assert open_capture([renamed]).instruments == ("BINANCE_USDM:BTCUSDT",)
