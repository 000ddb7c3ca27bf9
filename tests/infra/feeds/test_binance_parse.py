"""Binance messages: each kind by hand, every refusal with its reason, and anything at all without an exception."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.feeds.binance.parse import SPOT, USDM, Unusable, parse_message
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade
from schemas.values import Side

RECEIVED_NS = 1_723_161_255_000_000_123
TRADE = {"e": "trade", "E": 1700, "T": 1698, "s": "BTCUSDT", "t": 7, "p": "61800.30", "q": "0.006", "m": False}
TICKER = {"u": 9, "s": "BTCUSDT", "b": "61837.63", "B": "3.78826", "a": "61837.64", "A": "1.5"}
DEPTH = {"e": "depthUpdate", "E": 1700, "s": "BTCUSDT", "U": 3, "u": 5, "b": [["10.5", "2"], ["10.4", "0"]], "a": []}
BOOK = {"lastUpdateId": 4, "bids": [["10.5", "2.000"]], "asks": [["10.6", "0.5"], ["10.7", "1"]]}


def _read(message: Any, stream: str = "", venue: str = SPOT) -> Event:
    body = {"stream": stream, "data": message} if stream else message
    return parse_message(json.dumps(body), RECEIVED_NS, venue, "BTCUSDT")


def test_a_trade_names_the_takers_side_and_the_time_it_happened() -> None:
    assert _read(TRADE, "btcusdt@trade", USDM) == Trade(
        key="BINANCE_USDM:BTCUSDT",
        event_time_ns=1_698_000_000,
        available_at_ns=RECEIVED_NS,
        trade_id="7",
        price=6_180_030_000_000,
        quantity=600_000,
        aggressor=Side.BUY,
    )
    sold = _read(TRADE | {"m": True}, "btcusdt@trade")
    assert isinstance(sold, Trade)
    assert sold.aggressor is Side.SELL


def test_a_spot_book_ticker_has_our_time_for_want_of_the_exchanges() -> None:
    assert _read(TICKER, "btcusdt@bookTicker") == Quote(
        key="BINANCE:BTCUSDT",
        event_time_ns=RECEIVED_NS,
        available_at_ns=RECEIVED_NS,
        bid_price=6_183_763_000_000,
        bid_quantity=378_826_000,
        ask_price=6_183_764_000_000,
        ask_quantity=150_000_000,
        update_id=9,
    )
    futures = _read(TICKER | {"e": "bookTicker", "E": 1700, "T": 1699}, "btcusdt@bookTicker", USDM)
    assert futures.event_time_ns == 1_699_000_000


def test_a_depth_update_keeps_order_zeros_and_the_previous_id() -> None:
    update = _read(DEPTH, "btcusdt@depth@100ms")
    assert update == DepthUpdate(
        key="BINANCE:BTCUSDT",
        event_time_ns=1_700_000_000,
        available_at_ns=RECEIVED_NS,
        first_update_id=3,
        last_update_id=5,
        bid_prices=(1_050_000_000, 1_040_000_000),
        bid_quantities=(200_000_000, 0),
    )
    futures = _read(DEPTH | {"pu": 2}, "btcusdt@depth@0ms", USDM)
    assert isinstance(futures, DepthUpdate)
    assert futures.previous_update_id == 2


def test_a_rest_snapshot_takes_its_symbol_from_whoever_asked() -> None:
    book = _read(BOOK)
    assert isinstance(book, BookSnapshot)
    assert (book.key, book.update_id, book.event_time_ns) == ("BINANCE:BTCUSDT", 4, RECEIVED_NS)
    assert (book.bid_prices, book.ask_quantities) == ((1_050_000_000,), (50_000_000, 100_000_000))
    assert _read(BOOK | {"E": 1700, "T": 1699}).event_time_ns == 1_699_000_000


@pytest.mark.parametrize("message", [TRADE, TICKER, DEPTH], ids=["trade", "bookTicker", "depth"])
def test_a_single_stream_without_the_combined_wrapper_reads_the_same(message: dict[str, Any]) -> None:
    streams = {"trade": "btcusdt@trade", "depthUpdate": "btcusdt@depth@100ms", None: "btcusdt@bookTicker"}
    assert _read(message) == _read(message, streams[message.get("e")])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Input data was truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"data":{"s":"\xff"}}', "codec can't decode"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "neither a stream message nor a depth snapshot"),
        (b'{"result":null,"id":1}', "neither a stream message nor a depth snapshot"),
        (b'{"stream":"x@aggTrade","data":{"s":"BTCUSDT"}}', "message type 'aggTrade' is not one we read"),
        (b'{"data":{"e":"trade","s":"' + b"X" * 65 + b'"}}', "is not a symbol"),
        (b'{"lastUpdateId":1,"bids":[]}', "lacks its update id or a side"),
        (b'{"lastUpdateId":1,"bids":[["1"]],"asks":[]}', "length 2"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_message_that_cannot_be_used_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        parse_message(body, RECEIVED_NS, SPOT, "BTCUSDT")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": "-1"}, "not a plain decimal"),
        ({"p": "NaN"}, "not a plain decimal"),
        ({"p": 61800.3}, "Expected `str"),
        ({"p": "0.00"}, "a trade at price 0"),
        ({"p": "0.000000001"}, "more than 8 decimal places"),
        ({"q": "1e400"}, "not a plain decimal"),
        ({"q": "99999999999999"}, "does not fit 64 bits"),
        ({"q": None}, "lacks id, price, quantity or side"),
        ({"T": 2**62}, "Expected `int` <="),
        ({"T": -1}, "Expected `int` >= 0"),
        ({"t": 2**64}, "Expected `int` <="),
        ({"s": "B|C"}, "is not a symbol"),
        ({"e": "kline"}, "is not one we read"),
    ],
)
def test_a_trade_that_cannot_be_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        _read(TRADE | change, "btcusdt@trade")


def test_a_one_sided_message_is_refused() -> None:
    for message in (TICKER | {"b": None}, TICKER | {"b": [], "a": []}, DEPTH | {"b": "1"}, DEPTH | {"u": None}):
        with pytest.raises(Unusable, match="lacks"):
            _read(message, "btcusdt@bookTicker" if "B" in message else "btcusdt@depth@100ms")


JUNK = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=12) | st.floats()
LEVELS = st.lists(st.lists(st.text("0123456789.-", max_size=6) | JUNK, max_size=3), max_size=3)
PAYLOADS = st.dictionaries(st.sampled_from([*TRADE, *TICKER, *DEPTH, *BOOK, "pu", "data", "stream"]), JUNK | LEVELS)


@given(st.binary(max_size=80) | st.builds(lambda message: json.dumps(message).encode(), PAYLOADS))
def test_nothing_but_an_event_or_a_refusal_comes_of_any_bytes(body: bytes) -> None:
    try:
        assert isinstance(parse_message(body, RECEIVED_NS, SPOT, "BTCUSDT"), Event)
    except Unusable as refusal:
        assert 0 < len(str(refusal)) <= 200


@given(st.sampled_from([TRADE, TICKER, DEPTH]), PAYLOADS)
def test_a_known_message_with_fields_gone_wrong_is_read_or_refused(good: dict[str, Any], wrong: dict[str, Any]) -> None:
    for body in (good | wrong, {"stream": "btcusdt@bookTicker", "data": good | wrong}):
        try:
            event = parse_message(json.dumps(body), RECEIVED_NS, SPOT, "BTCUSDT")
        except Unusable as refusal:
            assert str(refusal)
        else:
            assert 0 <= event.event_time_ns < 2**63
