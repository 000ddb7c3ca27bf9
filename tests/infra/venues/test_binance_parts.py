"""The parts of the Binance adapter one by one: who may use it, where it may go, and what it makes of what it reads."""

import json
import os
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sim.instruments import BTCUSD
from infra.settings import load_settings
from infra.settings_sources import SettingsError
from infra.settings_venues import BinanceSettings
from infra.venues.binance.budget import Budget
from infra.venues.binance.clock import Reading, VenueClock
from infra.venues.binance.credentials import Credentials, may_hold_a_key, read_credentials
from infra.venues.binance.filters import FiltersUnusable, check_definition, refusal, rules_of
from infra.venues.binance.orders import KnownOrders, NotSupported, order_type_of, parameters_of, plain
from infra.venues.binance.profiles import CONFIRMATION, PRODUCTION, TESTNET, addresses_of, is_real
from infra.venues.binance.reports import KnownOrder, of_event, of_placed, of_status
from infra.venues.binance.wire import (
    OrderFound,
    Placed,
    RateLimit,
    SocketMessage,
    SymbolFound,
    TradeFound,
    UserEvent,
    decode,
)
from schemas.orders import QueryRequested, ReportKind, SubmitRequested
from schemas.values import NS_PER_MS, NS_PER_S, Liquidity, OrderType, Side, TimeInForce, units

NOW = 1_700_000_000 * NS_PER_S
FILES: dict[str, Any] = {"api_key_file": Path("k"), "secret_file": Path("s")}
# The example of the venue's documents, whose signature was made with openssl.
EXAMPLE_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
EXAMPLE_QUERY = (
    "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
)
EXAMPLE_SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"


def test_a_request_is_signed_as_the_venues_own_example_is() -> None:
    assert Credentials("key", EXAMPLE_SECRET).sign(EXAMPLE_QUERY) == EXAMPLE_SIGNATURE


def _files(folder: Path, key: str = "the-key", secret: str = "the-secret", mode: int = 0o600) -> tuple[Path, Path]:
    paths = folder / "key", folder / "secret"
    for path, text in zip(paths, (key, secret), strict=True):
        path.write_text(text + "\n")
        path.chmod(mode)
    return paths


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_credentials_come_from_files_and_are_never_shown(tmp_path: Path, mode: int) -> None:
    found = read_credentials(*_files(tmp_path, mode=mode))
    assert found.key == "the-key"
    assert "the-" not in repr(found) + str(found) + f"{found!r:>80}" + repr([found])
    with pytest.raises(TypeError):
        pickle.dumps(found)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o700])
def test_credentials_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SettingsError, match=f"has mode 0{mode:o}, but must have 0600 or 0400") as refused:
        read_credentials(*_files(tmp_path, mode=mode))
    assert "the-" not in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "owner", "reader", "taken"),
    [
        *((mode, 1000, 1000, True) for mode in (0o600, 0o400)),
        *((mode, 0, 10001, True) for mode in (0o440, 0o640)),
        *((mode, 0, 0, False) for mode in (0o440, 0o640)),
        *((mode, 1000, 1000, False) for mode in (0o440, 0o640, 0o700)),
        *((mode, 0, 10001, False) for mode in (0o444, 0o644, 0o460)),
    ],
)
def test_only_its_owner_reads_a_key_or_the_group_that_kubernetes_mounts_it_for(
    mode: int, owner: int, reader: int, taken: bool
) -> None:
    assert may_hold_a_key(mode, owner, reader) is taken


@pytest.mark.parametrize("text", ["", "two words", "two\nlines", "schlüssel", "x" * 5000])
def test_a_file_that_holds_no_key_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="does not hold one key on one line") as refused:
        read_credentials(*_files(tmp_path, secret=text))
    assert not text or text not in str(refused.value)
    key, secret = _files(tmp_path)
    secret.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        read_credentials(key, secret)
    os.mkfifo(secret)
    with pytest.raises(SettingsError, match="is not a file"):
        read_credentials(key, secret)


def test_the_test_network_is_the_default_and_the_real_one_is_asked_for_twice() -> None:
    assert addresses_of(BinanceSettings(**FILES)) == TESTNET
    for confirmation in (None, "yes", CONFIRMATION.upper()):
        with pytest.raises(SettingsError, match="orders would be real"):
            addresses_of(BinanceSettings(profile="production", production_confirmation=confirmation, **FILES))
    confirmed = BinanceSettings(profile="production", production_confirmation=CONFIRMATION, **FILES)
    assert addresses_of(confirmed) == PRODUCTION


@pytest.mark.parametrize(
    "changes",
    [
        {"rest_url": "https://api.binance.com"},
        {"rest_url": "https://API1.Binance.com."},
        {"socket_url": "wss://ws-api.binance.com:9443/ws-api/v3"},
        {"rest_url": "https://api.binance.us"},
        {"rest_url": "https://api.binance.com", "production_confirmation": CONFIRMATION},
    ],
)
def test_no_address_leads_around_the_profile(changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"is the real exchange, and venues.binance.profile is not 'production'"):
        addresses_of(BinanceSettings(**FILES, **changes))
    assert not is_real("https://binance.com.example.org") and not is_real("https://notbinance.com")


@pytest.mark.parametrize("url", ["http://testnet.binance.vision", "ftp://127.0.0.1", "https://", "https://u:p@host"])
def test_keys_leave_this_machine_only_encrypted_and_never_in_an_address(url: str) -> None:
    with pytest.raises(SettingsError, match=r"must (begin with https|not hold credentials)"):
        addresses_of(BinanceSettings(rest_url=url, **FILES))


def test_settings_are_refused_when_a_request_could_arrive_after_it_was_given_up() -> None:
    overrides = {"venues.binance.api_key_file": "k", "venues.binance.secret_file": "s"}
    assert load_settings(None, overrides, {}).venues.binance is not None
    with pytest.raises(SettingsError, match=r"must be less than venue.takeover_wait_ms"):
        load_settings(None, overrides | {"venues.binance.recv_window_ms": 4_500}, {})
    with pytest.raises(SettingsError, match="is not a setting"):
        load_settings(None, overrides | {"venues.binance.secret": "in the open"}, {})


def test_the_hash_of_the_settings_names_the_network_and_nothing_else_of_it() -> None:
    overrides: dict[str, Any] = {"venues.binance.api_key_file": "k", "venues.binance.secret_file": "s"}
    testnet = load_settings(None, overrides, {}).settings_hash()
    assert load_settings(None, overrides | {"venues.binance.secret_file": "t"}, {}).settings_hash() == testnet
    assert load_settings(None, overrides | {"venues.binance.profile": "production"}, {}).settings_hash() != testnet


def _submit(**changes: Any) -> SubmitRequested:
    fields: dict[str, Any] = {
        "key": "main",
        "event_time_ns": NOW,
        "available_at_ns": NOW,
        "order_id": "0123456789abcdef0123456789abcdef",
        "instrument": "BINANCE:BTCUSDT",
        "side": Side.SELL,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "limit_price": units("60000.50"),
        "quantity": units("0.00100000"),
        "not_after_ns": NOW,
    }
    return SubmitRequested(**fields | changes)


def test_orders_are_said_in_the_venues_words() -> None:
    assert parameters_of(_submit()) == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.001",
        "price": "60000.5",
        "newClientOrderId": "0123456789abcdef0123456789abcdef",
        "newOrderRespType": "FULL",
    }
    maker = parameters_of(_submit(time_in_force=TimeInForce.POST_ONLY))
    assert maker["type"] == "LIMIT_MAKER" and "timeInForce" not in maker
    market = parameters_of(_submit(order_type=OrderType.MARKET, limit_price=None))
    assert market["type"] == "MARKET" and not {"price", "timeInForce"} & set(market)


@pytest.mark.parametrize(
    "changes",
    [
        {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.POST_ONLY},
        {"limit_price": None},
        {"order_id": "x" * 37},
        {"order_id": "no spaces"},
        {"order_id": ""},
    ],
)
def test_what_cannot_be_said_is_not_supported(changes: dict[str, Any]) -> None:
    with pytest.raises(NotSupported):
        parameters_of(_submit(**changes))


@given(st.integers(0, 2**63 - 1))
def test_numbers_are_written_exactly_and_without_an_exponent(value: int) -> None:
    text = plain(value)
    assert units(text) == value
    assert set(text) <= set("0123456789.")


def _symbol(**changes: Any) -> SymbolFound:
    filters: dict[str, dict[str, Any]] = {
        "PRICE_FILTER": {"minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
        "LOT_SIZE": {"minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
        "MARKET_LOT_SIZE": {"minQty": "0.00000000", "maxQty": "100.00000000", "stepSize": "0.00000000"},
        "NOTIONAL": {"minNotional": "5.00000000", "maxNotional": "9000000.00000000"},
        "MAX_NUM_ORDERS": {"maxNumOrders": 2},
        "SOMETHING_NEW": {"whatever": 1},
    }
    listed = [{"filterType": name, **values} for name, values in (filters | changes).items() if values]
    kinds = ["LIMIT", "LIMIT_MAKER", "MARKET"]
    return SymbolFound("BTCUSDT", "TRADING", "BTC", "USDT", kinds, listed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"limit_price": units("60000.005")}, "PRICE_FILTER: the price is not a multiple of the increment"),
        ({"limit_price": units("1000000.01")}, "PRICE_FILTER: the price is too large"),
        ({"limit_price": units("0.001")}, "PRICE_FILTER: the price is too small"),
        ({"quantity": units("0.000015")}, "LOT_SIZE: the quantity is not a multiple of the increment"),
        ({"quantity": units("0.000001")}, "LOT_SIZE: the quantity is too small"),
        ({"quantity": units("9000.00001")}, "LOT_SIZE: the quantity is too large"),
        ({"quantity": units("0.00008"), "limit_price": units("60000")}, "NOTIONAL: 4.8 is outside 5 to 9000000"),
        ({"quantity": units("200"), "limit_price": units("60000")}, "NOTIONAL: 12000000 is outside 5 to 9000000"),
        ({"limit_price": None}, "the order needs a price"),
    ],
)
def test_an_order_is_held_against_the_filters_before_it_is_sent(changes: dict[str, Any], reason: str | None) -> None:
    assert refusal(_submit(**changes), "LIMIT", rules_of(_symbol()), 0) == reason


def test_the_other_rules_of_a_symbol_are_kept_too() -> None:
    rules = rules_of(_symbol())
    market = _submit(order_type=OrderType.MARKET, limit_price=None, quantity=units("101"))
    assert refusal(market, "MARKET", rules, 0) == "MARKET_LOT_SIZE: the quantity is too large"
    assert refusal(_submit(), "LIMIT", rules, 2) == "MAX_NUM_ORDERS: 2 orders work already"
    assert refusal(_submit(), "STOP_LOSS", rules, 0) == "STOP_LOSS orders are not taken for the symbol"
    older = rules_of(_symbol(NOTIONAL={}, MIN_NOTIONAL={"minNotional": "10.0"}))
    assert (older.notional_min, older.notional_max) == (Decimal(10), None)
    with pytest.raises(FiltersUnusable, match="cannot be read"):
        rules_of(_symbol(PRICE_FILTER={"minPrice": "a lot", "maxPrice": "0", "tickSize": "0"}))
    with pytest.raises(
        FiltersUnusable, match=r"tick_size: the venue's is 0.40000000, of which ours must be a multiple"
    ):
        steps = {"minPrice": "0", "maxPrice": "0", "tickSize": "0.4"}
        check_definition(rules_of(_symbol(PRICE_FILTER=steps)), BTCUSD)


LIMITS = (
    RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 100),
    RateLimit("ORDERS", "SECOND", 10, 10),
    RateLimit("RAW_REQUESTS", "MINUTE", 5, 1),
)


def test_requests_stop_below_the_limit_and_cancels_have_a_part_of_their_own() -> None:
    budget = Budget(LIMITS, share=0.8, reserve=0.25)
    for _ in range(60):
        assert budget.refusal(NOW, 1) is None
        budget.spend(NOW, 1)
    assert budget.refusal(NOW, 1) == "60 of 100 REQUEST_WEIGHT per 60 s are used"
    for _ in range(20):
        assert budget.refusal(NOW, 1, cancel=True) is None
        budget.spend(NOW, 1)
    assert budget.refusal(NOW, 1, cancel=True) is not None
    assert budget.refusal(NOW + 60 * NS_PER_S, 1) is None, "the next minute has its own"


def test_the_limit_on_orders_keeps_nothing_for_cancels_which_are_none() -> None:
    budget = Budget(LIMITS, share=0.8, reserve=0.9)
    for _ in range(8):
        assert budget.refusal(NOW, 0, order=True) is None
        budget.spend(NOW, 0, order=True)
    assert budget.refusal(NOW, 0, order=True) == "8 of 10 ORDERS per 10 s are used"
    assert budget.refusal(NOW, 1, cancel=True) is None


def test_the_venues_own_count_stands_in_place_of_ours() -> None:
    budget = Budget(LIMITS, share=1.0, reserve=0.0)
    budget.read({"X-MBX-USED-WEIGHT-1M": "100", "x-mbx-order-count-10s": "3", "X-MBX-USED-WEIGHT": "7"}, NOW)
    assert budget.refusal(NOW, 1) is not None
    budget.read({"X-MBX-USED-WEIGHT-1M": "5", "X-MBX-ORDER-COUNT-10S": "lots"}, NOW)
    assert budget.refusal(NOW, 1) is not None, "an older answer that comes late does not give anything back"
    later = NOW + 60 * NS_PER_S
    budget.read({"x-mbx-order-count-10s": "10"}, later)
    assert budget.refusal(later, 1) is None and budget.refusal(later, 1, order=True) is not None
    assert budget.refusal(later + 10 * NS_PER_S, 1, order=True) is None


@pytest.mark.parametrize(
    ("headers", "wait_s"), [({"Retry-After": "120"}, 120), ({}, 10), ({"Retry-After": "soon"}, 10)]
)
def test_a_pause_that_the_venue_orders_holds_for_everything(headers: dict[str, str], wait_s: int) -> None:
    budget = Budget(LIMITS, share=1.0, reserve=0.0)
    budget.pause(headers, NOW)
    end = NOW + wait_s * NS_PER_S
    assert budget.refusal(end - 1, 1, cancel=True) is not None
    assert budget.refusal(end, 1) is None


def test_the_clock_is_the_surest_look_at_it_and_old_looks_do_not_count() -> None:
    clock = VenueClock(skew_max_ns=100 * NS_PER_MS, interval_ns=NS_PER_S)
    assert clock.refusal(NOW) == "the venue's clock is not known"
    slow = Reading(NOW, NOW + 900 * NS_PER_MS, NOW + 400 * NS_PER_MS)
    fast = Reading(NOW, NOW + 55 * NS_PER_MS, NOW + 10 * NS_PER_MS)
    clock.take([slow, fast])
    assert clock.timestamp_ms(NOW) == NOW // NS_PER_MS + 50
    assert clock.refusal(NOW + NS_PER_S) is None
    clock.take([])
    assert clock.refusal(NOW + 6 * NS_PER_S) == "the venue's clock was last seen 6 s ago"
    clock.take([Reading(NOW, NOW - 95 * NS_PER_MS, NOW)])
    assert clock.refusal(NOW) is None
    clock.take([Reading(NOW, NOW - 100 * NS_PER_MS, NOW)])
    assert clock.refusal(NOW) == "the clocks are up to 101 ms apart, more than 100"


def _event(**changes: Any) -> UserEvent:
    """An executionReport with every field of the venue's documents."""
    payload: dict[str, Any] = {
        **{"e": "executionReport", "E": 1499405658658, "s": "ETHBTC", "c": "o1", "S": "BUY", "o": "LIMIT", "f": "GTC"},
        **{"q": "1.00000000", "p": "0.10264410", "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "", "x": "NEW"},
        **{"X": "NEW", "r": "NONE", "i": 4293153, "l": "0.00000000", "z": "0.00000000", "L": "0.00000000", "n": "0"},
        **{"N": None, "T": 1499405658657, "t": -1, "I": 8641984, "w": True, "m": False, "M": False},
        **{"O": 1499405658657, "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000", "W": 1499405658657},
        **{"V": "EXPIRE_MAKER", "v": 3, "A": "3.000000", "u": 1, "Cs": "BTCUSDT", "uS": True},
    }
    message = json.dumps({"subscriptionId": 0, "event": payload | changes})
    event = decode(message, SocketMessage).event
    assert event is not None
    return event


def _order() -> KnownOrder:
    return KnownOrder(order_id="o1", account="main", instrument="BINANCE:ETHBTC", symbol="ETHBTC")


def test_each_thing_is_told_once_whoever_says_it() -> None:
    order = _order()
    trade = _event(x="TRADE", X="PARTIALLY_FILLED", l="0.4", L="0.1", z="0.4", n="0.0004", N="BNB", t=77, m=True)
    (accepted,) = of_event(order, _event())
    (fill,) = of_event(order, trade)
    assert (accepted.kind, accepted.venue_order_id) == (ReportKind.ACCEPTED, "4293153")
    assert (fill.kind, fill.fill_id, fill.last_quantity) == (ReportKind.TRADE, "ETHBTC-77", units("0.4"))
    assert (fill.fee, fill.fee_currency, fill.liquidity) == (Decimal("0.0004"), "BNB", Liquidity.MAKER)
    assert (fill.filled_quantity, fill.event_time_ns) == (units("0.4"), 1499405658657 * NS_PER_MS)
    answer = {
        **{"symbol": "ETHBTC", "orderId": 4293153, "orderListId": -1, "clientOrderId": "o1"},
        **{"transactTime": 1499405658657, "executedQty": "0.4", "status": "EXPIRED"},
        "fills": [{"price": "0.1", "qty": "0.4", "commission": "0.0004", "commissionAsset": "BNB", "tradeId": 77}],
    }
    (expired,) = of_placed(order, decode(json.dumps(answer), Placed))
    assert (expired.kind, expired.filled_quantity) == (ReportKind.EXPIRED, units("0.4"))
    assert not [*of_event(order, _event()), *of_event(order, trade), *of_event(order, _event(x="EXPIRED", X="EXPIRED"))]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"x": "CANCELED", "X": "CANCELED", "c": "cancel1", "C": "o1"}, ReportKind.CANCELED),
        ({"x": "EXPIRED", "X": "EXPIRED"}, ReportKind.EXPIRED),
        ({"x": "TRADE_PREVENTION", "X": "EXPIRED_IN_MATCH"}, ReportKind.EXPIRED),
        ({"x": "REJECTED", "X": "REJECTED", "r": "INSUFFICIENT_BALANCES"}, ReportKind.REJECTED),
        ({"x": "TRADE_PREVENTION", "X": "PARTIALLY_FILLED"}, None),
        ({"x": "REPLACED", "X": "NEW"}, ReportKind.REPLACED),
    ],
)
def test_every_end_of_an_order_is_told_for_what_it_is(changes: dict[str, str], kind: ReportKind | None) -> None:
    assert [report.kind for report in of_event(_order(), _event(**changes))] == ([] if kind is None else [kind])


def _found(status: str, executed: str) -> OrderFound:
    return OrderFound("ETHBTC", 7, "o1", "1.0", executed, status, "BUY", 1, 2)


def _trade(number: int, quantity: str) -> TradeFound:
    return TradeFound("ETHBTC", number, 7, "0.1", quantity, "0.0001", "ETH", 1499405658657, True, False)


@pytest.mark.parametrize("status", ["EXPIRED", "FILLED", "PARTIALLY_FILLED", "CANCELED"])
def test_a_status_without_all_of_its_fills_says_nothing(status: str) -> None:
    order = _order()
    assert of_status(order, _found(status, "0.5"), [_trade(1, "0.4")], NOW, "id") is None
    assert (order.fills, order.ended, order.filled) == (set(), False, 0)
    whole = of_status(order, _found(status, "0.5"), [_trade(1, "0.4"), _trade(2, "0.1")], NOW, "id")
    assert whole is not None and [fill.fill_id for fill in whole.fills] == ["ETHBTC-1", "ETHBTC-2"]
    assert (whole.filled_quantity, order.ended) == (units("0.5"), status != "PARTIALLY_FILLED")


def test_an_answer_that_the_stream_has_overtaken_takes_nothing_back() -> None:
    order = _order()
    list(of_event(order, _event(x="TRADE", X="FILLED", l="1", L="0.1", z="1", n="0", N="ETH", t=77)))
    assert of_status(order, _found("NEW", "0"), [], NOW, "id") is not None
    assert (order.fills, order.ended, order.filled) == ({77}, True, units("1"))


def test_orders_that_are_over_are_forgotten_oldest_first() -> None:
    known = KnownOrders(ended_kept=3)
    for number in range(5):
        times = {"event_time_ns": NOW, "available_at_ns": NOW}
        names = {"order_id": f"o{number}", "client_order_id": f"o{number}-1"}
        asked = QueryRequested(key="main", instrument="BINANCE:BTCUSDT", attempt=1, **names, **times)
        order = known.know(asked)
        order.ended = number != 0
        known.settle(order)
        known.settle(order)
    assert [number for number in range(5) if known.get(f"o{number}-1")] == [0, 2, 3, 4]
    assert [order.order_id for order in known.unfinished()] == ["o0"]


def test_every_order_type_that_there_is_has_its_words_or_is_refused() -> None:
    for kind in OrderType:
        request = _submit(order_type=kind)
        try:
            assert order_type_of(request) in ("LIMIT", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT")
        except NotSupported as refused:
            assert kind in str(refused)
