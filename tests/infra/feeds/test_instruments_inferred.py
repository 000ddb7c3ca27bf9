"""Increments guessed from captures: what was printed there, and a stated default for the rest."""

import gzip
from pathlib import Path

import pytest
from captures import CAPTURES, SPOT_20240808, USDM_20240808

from infra.feeds import FeedFailed
from infra.feeds.capture import open_capture
from infra.feeds.instruments import DEFAULT_FEE_RATE, DEFAULT_LOT, infer_increments
from schemas.market import Session

TICKS = CAPTURES / "lean" / "tick"
BAC = (TICKS / "bac-20131007-quote.zip", TICKS / "bac-20131007-trade.zip")
EURUSD = TICKS / "eurusd-fxcm-20140505-quote.zip"


@pytest.mark.parametrize(
    ("path", "key", "tick", "lot", "currencies", "session"),
    [
        (USDM_20240808, "BINANCE_USDM:BTCUSDT", 10_000_000, 100_000, ("BTC", "USDT"), Session.CONTINUOUS),
        # Sizes on the spot exchange had been finer than its lot of 1e-5 of today: the sample knows only what it saw.
        (SPOT_20240808, "BINANCE:BTCUSDT", 1_000_000, 100, ("BTC", "USDT"), Session.CONTINUOUS),
        (EURUSD, "FXCM:EURUSD", 1_000, DEFAULT_LOT, ("EUR", "USD"), Session.FX),
        (BAC[1], "LEAN:BAC", 1_000_000, 100_000_000, ("BAC", "USD"), Session.US_EQUITY),
    ],
    ids=["USD-M", "spot", "EURUSD", "BAC"],
)
def test_increments_are_those_of_what_was_printed(
    path: Path, key: str, tick: int, lot: int, currencies: tuple[str, str], session: Session
) -> None:
    definition = infer_increments(open_capture([path]), key)
    assert definition.inferred
    assert (definition.key, definition.tick_size, definition.lot_size) == (key, tick, lot)
    assert (definition.base_currency, definition.quote_currency) == currencies
    assert (definition.session, definition.shortable, definition.taker_fee_rate) == (session, False, DEFAULT_FEE_RATE)
    assert definition.quantity_min == lot
    assert definition.quantity_max % lot == 0
    assert definition.quantity_max < 2**63


def test_quotes_in_round_lots_and_trades_in_odd_ones_share_one_definition() -> None:
    assert infer_increments(open_capture(BAC[:1]), "LEAN:BAC").lot_size == 100 * 100_000_000
    assert infer_increments(open_capture(BAC), "LEAN:BAC").lot_size == 100_000_000


def test_each_instrument_of_a_merged_capture_is_guessed_from_its_own_files() -> None:
    capture = open_capture([USDM_20240808, EURUSD])
    found = infer_increments(capture, "FXCM:EURUSD", grid_ns=5, horizons_ns=(7,))
    assert (found.tick_size, found.grid_ns, found.horizons_ns) == (1_000, 5, (7,))
    assert infer_increments(capture, "BINANCE_USDM:BTCUSDT").tick_size == 10_000_000


def test_a_capture_without_a_price_asks_for_a_definition(tmp_path: Path) -> None:
    path = tmp_path / "empty.gz"
    path.write_bytes(gzip.compress(b'1723161254087891268 {"data":{"e":"kline","s":"ABCUSDT"}}\n'))
    with pytest.raises(FeedFailed, match="no price for BINANCE:ABCUSDT: define it in the settings"):
        infer_increments(open_capture([path]), "BINANCE:ABCUSDT")
