"""Other systems feed a running platform through its public topics: what is valid is heard, the rest is told why not."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from demo_process import ROOT, DemoProcess, running_demo
from outsider import Outsider, topic_of

pytestmark = pytest.mark.embedded
SCRIPT = ROOT / "docs" / "examples" / "produce_trades.py"
UNIT = 100_000_000
EXTERNAL = "EXT:DEMO"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    with running_demo(tmp_path_factory.mktemp("ingress")) as demo:
        yield demo


@pytest.fixture
def outsider(platform: DemoProcess) -> Outsider:
    return Outsider(platform.bootstrap, platform.registry)


def _produce_trades(platform: DemoProcess, instrument: str, price: str, count: int) -> str:
    command = [sys.executable, str(SCRIPT), platform.bootstrap, platform.registry, instrument, price, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _count(platform: DemoProcess, query: str, *values: object) -> int:
    [(number,)] = platform.rows(query, *values)
    return int(number)


def test_trades_of_another_system_become_market_data_and_bars(platform: DemoProcess) -> None:
    assert "40 trades written, 0 not" in _produce_trades(platform, EXTERNAL, "101.25", 40)
    trades = (
        "SELECT count(*) FROM market_data WHERE instrument = %s AND kind = 'TRADE' AND price = 101.25"
        " AND quantity = 0.01 AND aggressor IN ('BUY', 'SELL')"
    )
    platform.until(lambda: _count(platform, trades, EXTERNAL) == 40)
    bars = (
        "SELECT sum(trades), max(high_price), min(low_price) FROM bars"
        " WHERE instrument = %s AND interval_ns = (SELECT min(interval_ns) FROM bars)"
    )
    [(number, high, low)] = platform.until(lambda: [row for row in platform.rows(bars, EXTERNAL) if row[0] == 40])
    assert (number, float(high), float(low)) == (40, 101.25, 101.25)


def test_a_record_that_is_sent_again_counts_once(platform: DemoProcess, outsider: Outsider) -> None:
    trade = outsider.public("trade", trade_id="sent-twice", price=102 * UNIT, quantity=UNIT, aggressor=None)
    before = platform.stages()["ingress.trade"]["duplicates"]
    for _ in range(3):
        outsider.write(topic_of("trade"), trade)
    platform.until(lambda: platform.stages()["ingress.trade"]["duplicates"] == before + 2)
    found = "SELECT count(*) FROM market_data WHERE trade_id = 'sent-twice'"
    platform.until(lambda: _count(platform, found) > 0)
    assert _count(platform, found) == 1


def test_quotes_make_marks_and_depth_makes_a_book_that_notices_a_gap(platform: DemoProcess, outsider: Outsider) -> None:
    quote = {"bid_price": 100 * UNIT, "bid_quantity": UNIT, "ask_price": 101 * UNIT, "ask_quantity": UNIT}
    outsider.write(topic_of("quote"), outsider.public("quote", **quote))
    marked = "SELECT count(*) FROM market_marks WHERE instrument = %s AND mid = 100.5"
    platform.until(lambda: _count(platform, marked, EXTERNAL) > 0)

    sides = {"bid_prices": [100 * UNIT], "bid_quantities": [UNIT], "ask_prices": [101 * UNIT], "ask_quantities": [UNIT]}
    for snapshot, first, last in ((True, 1, 10), (False, 11, 12), (False, 15, 16)):
        record = outsider.public("depth", first_update_id=first, last_update_id=last, snapshot=snapshot, **sides)
        outsider.write(topic_of("depth"), record)
    books = (
        "SELECT kind, last_update_id FROM market_data WHERE instrument = %s AND kind IN ('BOOK', 'DEPTH') ORDER BY 2"
    )
    gap = "SELECT count(*) FROM quality_events WHERE instrument = %s AND kind = 'GAP'"
    platform.until(lambda: _count(platform, gap, EXTERNAL) > 0)
    platform.until(lambda: platform.rows(books, EXTERNAL) == [("BOOK", 10), ("DEPTH", 12)])


def test_a_question_is_answered_by_a_decision_that_is_advice(platform: DemoProcess, outsider: Outsider) -> None:
    asked = outsider.public(
        "request", instrument="SIM:BTCUSD", request_id="q-1", strategy="committee", horizon_ns=10_000_000_000
    )
    voted = "SELECT count(*) FROM tallies WHERE instrument = 'SIM:BTCUSD' AND horizon_ns = 10000000000"
    platform.until(lambda: _count(platform, voted) > 0)
    outsider.write(topic_of("request"), asked)
    platform.until(lambda: platform.rows("SELECT 1 FROM tallies WHERE request_id = 'q-1' AND advice_for = 'committee'"))
    decided = (
        "SELECT d.outcome, (SELECT count(*) FROM order_verdicts v WHERE v.decision_id = d.decision_id)"
        " FROM decisions d WHERE d.request_id = 'q-1'"
    )
    [(outcome, orders)] = platform.until(lambda: platform.rows(decided))
    assert (outcome, orders) == ("ADVICE", 0)


def test_an_outcome_that_another_system_knows_is_kept(platform: DemoProcess, outsider: Outsider) -> None:
    reported = outsider.public("outcome", decision_id="decision-1", kind="slippage", value=-0.25, note="a\nline")
    outsider.write(topic_of("outcome"), reported)
    platform.until(lambda: _count(platform, "SELECT count(*) FROM outcomes WHERE decision_id = 'decision-1'") == 1)


def test_nobody_else_writes_the_market_of_an_instrument_that_we_feed(platform: DemoProcess) -> None:
    _produce_trades(platform, "SIM:BTCUSD", "1", 5)
    refused = "SELECT count(*) FROM dead_letters WHERE topic = %s AND reason = 'INSTRUMENT_REFUSED' AND detail LIKE %s"
    platform.until(lambda: _count(platform, refused, topic_of("trade"), "%has a feed of its own%") == 5)
    assert not platform.rows("SELECT 1 FROM market_data WHERE instrument = 'SIM:BTCUSD' AND price = 1")


def test_an_instrument_that_is_not_defined_is_refused_by_name(platform: DemoProcess) -> None:
    _produce_trades(platform, "NOBODY:KNOWS", "1", 1)
    named = "SELECT count(*) FROM dead_letters WHERE reason = 'INSTRUMENT_REFUSED' AND detail LIKE %s"
    platform.until(lambda: _count(platform, named, "%NOBODY:KNOWS%") == 1)


def test_the_line_goes_on(platform: DemoProcess, outsider: Outsider) -> None:
    """Last in the file: after all of the above every worker still works."""
    began = time.time_ns()
    newest = "SELECT count(*) FROM tallies WHERE grid_time_ns > %s"
    platform.until(lambda: _count(platform, newest, began) > 0)
    outsider.write(
        topic_of("trade"), outsider.public("trade", trade_id="last", price=UNIT, quantity=1, aggressor="BUY")
    )
    platform.until(lambda: _count(platform, "SELECT count(*) FROM market_data WHERE trade_id = 'last'") == 1)
