"""Features against figures known of the recorded captures, from the running engine, not from formulas of the test."""

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest
from captures import CAPTURES, SPOT_20240808, SPOT_20240809, USDM_20240808
from market_inputs import START_NS, UNIT, definition, drive, featured, ingest, raw_events, snapshots, trusted_events
from msgspec.structs import replace

from agents.features.engine import apply, current_mid
from agents.features.state import FeatureConfig, FeatureState, new_state
from agents.market.stage import Ingestion, IngestionConfig
from agents.stage import ShardState
from infra.feeds.capture import open_capture
from schemas.event import Event
from schemas.market import InstrumentDefined, Quote, Trade
from schemas.opinions import FeatureSnapshot, MarketMark, MarkQuality
from schemas.values import NS_PER_S

pytestmark = pytest.mark.slow

FULL = {USDM_20240808: "USD-M", SPOT_20240808: "spot 08", SPOT_20240809: "spot 09"}
BOOK_ONLY = ("imbalance_5", "imbalance_10", "ofi_multi_1s", "depth_10")
_cache: dict[Path, list[FeatureSnapshot | MarketMark]] = {}


def _key(events: tuple[Event, ...]) -> str:
    return next(event.key for event in events if isinstance(event, InstrumentDefined))


def _featured(path: Path) -> list[FeatureSnapshot | MarketMark]:
    if path not in _cache:
        events = trusted_events(path)
        key = _key(events)
        _cache[path] = featured(events, FeatureConfig(instruments={key: definition(key)}), key)
    return _cache[path]


def _from_first_tick(path: Path) -> list[Event]:
    """A capture moved in time so that its first quote falls on the edge of a bucket, as the oracle's buckets do."""
    events = trusted_events(path)
    shift = START_NS - next(event.available_at_ns for event in events if isinstance(event, Quote))
    return [replace(event, available_at_ns=event.available_at_ns + shift) for event in events]


@pytest.fixture(scope="module")
def tenths() -> tuple[list[int], list[int]]:
    """Order flow and mid per 100 ms of the USD-M capture, as the engine's own rings close them."""
    key = _key(trusted_events(USDM_20240808))
    state = new_state(key, FeatureConfig(instruments={key: definition(key)}))
    flows: list[int] = []
    mids: list[int] = []
    for event in _from_first_tick(USDM_20240808):
        if event.available_at_ns < START_NS:
            continue
        rolled = event.available_at_ns >= state.bucket_end_ns > 0
        if rolled:
            buckets = (event.available_at_ns - state.bucket_end_ns) // state.bucket_ns + 1
            flows += [state.order_flow.running] + [0] * (buckets - 1)
            mids += [current_mid(state) or 0] * buckets
        apply(state, event)
        assert not rolled or state.order_flow.sums[-1] == flows[-1]
    return flows, mids


@pytest.mark.parametrize(
    ("tenths_per_bucket", "expected"), [(1, 0.392), (10, 0.380), (50, 0.464), (100, 0.523)], ids=str
)
def test_order_flow_explains_the_move_of_its_own_bucket(
    tenths: tuple[list[int], list[int]], tenths_per_bucket: int, expected: float
) -> None:
    flows, mids = (np.array(series, dtype=float) for series in tenths)
    edges = np.arange(0, len(flows), tenths_per_bucket)
    flow = np.add.reduceat(flows, edges)
    closes = mids[np.minimum(edges + tenths_per_bucket, len(mids)) - 1]
    fit = np.corrcoef(np.diff(closes), flow[1:])[0, 1] ** 2
    assert fit == pytest.approx(expected, abs=0.005)
    ahead = np.corrcoef(np.diff(closes)[1:], flow[1:-1])[0, 1] ** 2
    assert ahead < 0.075, "it hardly predicts the next bucket: 0.00 to 0.07"


@pytest.mark.parametrize(
    ("path", "expected", "trades", "volume"),
    [
        (USDM_20240808, 0.571, 21_313, 242_936_600_000),
        (SPOT_20240808, 0.572, 9_757, 21_203_315_000),
        (SPOT_20240809, 0.434, 10_147, 22_588_237_000),
    ],
    ids=FULL.values(),
)
def test_vpin_over_fifty_equal_buckets(path: Path, expected: float, trades: int, volume: int) -> None:
    events = trusted_events(path)
    key = _key(events)
    made = [event for event in events if isinstance(event, Trade)]
    total = sum(event.quantity or 0 for event in made)
    assert (len(made), total) == (trades, volume)
    config = FeatureConfig(instruments={key: definition(key)}, vpin_bucket_volumes={key: total // 50})
    state = new_state(key, config)
    for event in made:
        apply(state, event)
    assert len(state.vpin.imbalances) == 50
    assert state.vpin.value(50) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("path", [USDM_20240808, SPOT_20240808], ids=["USD-M", "spot"])
def test_a_synchronised_capture_has_every_feature_after_a_minute(path: Path) -> None:
    settled = snapshots(_featured(path))[62:]
    assert len(settled) > 280
    for shown in settled:
        assert shown.synchronised
        missing = [name for name, value in shown.features.items() if value is None and name != "vpin"]
        assert not missing
        assert shown.mid is not None
    qualities = {output.quality for output in _featured(path)[150:] if isinstance(output, MarketMark)}
    assert qualities == {MarkQuality.GOOD}


def test_without_a_book_the_top_is_served_and_nothing_below_it() -> None:
    settled = snapshots(_featured(SPOT_20240809))[62:]
    assert len(settled) > 240
    for shown in settled:
        assert not shown.synchronised
        assert {name for name, value in shown.features.items() if value is None} == {*BOOK_ONLY, "vpin"}
    marks = [output for output in _featured(SPOT_20240809) if isinstance(output, MarketMark)]
    assert {marked.quality for marked in marks[5:]} == {MarkQuality.TOP_ONLY}


def test_the_served_top_is_the_newest_quote_or_newer() -> None:
    """With a book and quotes, neither source ever takes the top back in time."""
    events = trusted_events(USDM_20240808)
    key = _key(events)
    state = new_state(key, FeatureConfig(instruments={key: definition(key)}))
    newest, from_book = -1, 0
    for event in events:
        apply(state, event)
        if isinstance(event, Quote):
            assert event.update_id is not None
            newest = max(newest, event.update_id)
        assert state.top_update_id >= newest
        from_book += state.top_from_book
    assert from_book > 1_000


def _lean(name: str, count: int) -> tuple[list[Quote], list[FeatureSnapshot | MarketMark]]:
    """The first quotes of a LEAN file, which come often enough to keep the grid without Heartbeats."""
    records = open_capture([CAPTURES / "lean" / "tick" / name]).records()
    quotes = list(itertools.islice((event for one in records for event in one.events if type(event) is Quote), count))
    key = quotes[0].key
    defined = {key: definition(key, tick_size=1_000)}
    trusted = ingest(quotes, Ingestion(IngestionConfig(instruments=defined)))
    return quotes, featured(trusted, FeatureConfig(instruments=defined), key)


def test_eurusd_has_no_sizes_keeps_the_mid_of_crossed_quotes_and_never_halts() -> None:
    quotes, outputs = _lean("eurusd-fxcm-20140505-quote.zip", 20_000)
    crossed = sum((event.bid_price or 0) > (event.ask_price or 0) for event in quotes)
    assert 0.02 <= crossed / len(quotes) <= 0.13
    shown = snapshots(outputs)
    assert len(shown) > 5_000
    no_spread = [one for one in shown if one.features["spread"] is None]
    assert 0.005 * len(shown) < len(no_spread) < 0.2 * len(shown)
    assert all(one.mid is not None and 1.3 * UNIT < one.mid < 1.5 * UNIT for one in shown)
    for name in ("microprice_offset", "imbalance_1", "ofi_1s", "trade_flow_1s", *BOOK_ONLY):
        assert all(one.features[name] is None for one in shown)
    qualities = {output.quality for output in outputs if isinstance(output, MarketMark)}
    assert MarkQuality.TOP_ONLY in qualities
    assert qualities <= {MarkQuality.TOP_ONLY, MarkQuality.STALE}


def test_bac_is_served_from_its_merged_quotes() -> None:
    _, outputs = _lean("bac-20131007-quote.zip", 30_000)
    shown = snapshots(outputs)
    open_hours = [one for one in shown if one.grid_time_ns - shown[0].grid_time_ns > 20_400 * NS_PER_S]
    assert len(open_hours) > 300
    assert all(one.mid is not None and 13 * UNIT < one.mid < 15 * UNIT for one in open_hours)
    assert all(one.features["imbalance_1"] is not None for one in open_hours if one.features["spread"] is not None)
    assert all(one.features["depth_10"] is None for one in open_hours)


def test_a_checkpoint_in_the_middle_of_a_capture_changes_nothing() -> None:
    """Ingestion and features of a real, deep book, both read back from their bytes half-way."""
    raw = raw_events(USDM_20240808)
    trusted = trusted_events(USDM_20240808)
    key = _key(trusted)
    cut = len(raw) // 2
    stage = Ingestion(IngestionConfig(instruments={key: definition(key)}))
    before = ShardState()
    early = ingest(raw[:cut], stage, before)
    after = ShardState()
    after.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(before[key]), type=stage.state_type(key)))
    assert tuple(early + ingest(raw[cut:], stage, after)) == trusted

    config = FeatureConfig(instruments={key: definition(key)})
    state = new_state(key, config)
    shown = list(drive(early, config, state))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=FeatureState)
    assert shown + list(drive(trusted[len(early) :], config, again)) == _featured(USDM_20240808)
