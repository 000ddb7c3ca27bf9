"""Execution against the simulated venue for thousands of random steps: in the end both keep the same books."""

from decimal import Decimal

import msgspec
import pytest
from captures import USDM_20240808
from trading_desk import Desk
from venue_trading import FAULTS, Trading, simulated, trade

from agents.market.stage import Ingestion, IngestionConfig
from agents.sim.instruments import BTCUSD, START_PRICES
from agents.sim.loopback import Loopback
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.population_engine import PopulationEngine
from agents.sim.replay_engine import ReplayEngine
from agents.sim.venue import SimulatedVenue
from agents.sim.venue_record import Queued, encode_batch, encode_line, restore
from agents.sim.venue_state import Fault, VenueChanges, VenueState
from agents.stage import ShardState
from infra.feeds.capture import open_capture
from schemas.event import Event
from schemas.orders import CancelRequested, OrderStatus, SubmitRequested
from schemas.values import NS_PER_MS, OrderType, Side, TimeInForce, units


@pytest.mark.slow
@pytest.mark.parametrize("faults", [(), FAULTS], ids=["sound", "faulty"])
def test_after_thousands_of_steps_in_the_population_both_sides_keep_the_same_books(faults: tuple[Fault, ...]) -> None:
    trading = simulated(3, faults)
    trade(trading, 2_500)
    trading.check()
    outcomes = trading.outcomes()
    assert trading.count > 1_000
    taken = [made for order in trading.venue.state.orders.values() for made in order.amends.values()]
    # With faults an order that is unknown holds the others of its instrument up, amends too.
    assert taken.count(True) > (10 if faults else 100)
    assert taken.count(False) > (0 if faults else 2)
    busted = [fill for order in trading.venue.state.orders.values() for fill in order.fills if fill.busted]
    assert bool(busted) is bool(faults)
    assert len(outcomes) >= trading.count - len(trading.desk.account.open_orders)
    assert all(len(statuses) == 1 for statuses in outcomes.values()), "exactly one final outcome"
    seen = {status for statuses in outcomes.values() for status in statuses}
    expected = {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED}
    assert seen >= expected | ({OrderStatus.NOT_SENT} if faults else set())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = simulated(4, FAULTS), simulated(4, FAULTS)
    trade(first, 300)
    trade(second, 300)
    assert msgspec.msgpack.encode(first.desk.events) == msgspec.msgpack.encode(second.desk.events)
    assert msgspec.msgpack.encode(first.venue.state) == msgspec.msgpack.encode(second.venue.state)


def test_on_a_capture_both_sides_keep_the_same_books() -> None:
    """The first 20,000 messages of the futures capture: quotes alone at first, then the synchronised book."""
    key = "BINANCE_USDM:BTCUSDT"
    definition = msgspec.structs.replace(
        BTCUSD, key=key, tick_size=units("0.1"), lot_size=units("0.001"), quote_currency="USDT"
    )
    trading = Trading(ReplayEngine({}), {key: definition}, 9)
    ingestion, state = Ingestion(IngestionConfig(instruments={key: definition})), ShardState()
    newest_mark_ns = 0
    for record in open_capture([USDM_20240808]).records():
        if record.position >= 20_000:
            break
        for raw in record.events:
            trading.desk.now_ns = max(trading.desk.now_ns, raw.available_at_ns)
            for event in ingestion.step(state, raw)[1]:
                trading.loopback.on_market(event)
        trading.pass_time(0)
        if trading.desk.now_ns - newest_mark_ns > 500 * NS_PER_MS:
            newest_mark_ns = trading.desk.now_ns
            trading.order_at_random(key)
    for _ in range(20):
        trading.pass_time(1_000)
    trading.check()
    fills = [fill for order in trading.venue.state.orders.values() for fill in order.fills]
    assert {fill.liquidity for fill in fills} == {"TAKER", "MAKER"}
    assert len(fills) > 50


def _above(mid: int) -> int:
    return (mid // BTCUSD.tick_size + 100) * BTCUSD.tick_size


def test_funding_is_charged_to_the_holder_at_each_due_time() -> None:
    every = 10_000 * NS_PER_MS
    perpetual = msgspec.structs.replace(BTCUSD, funding_interval_ns=every)
    market = MarketTerms(instruments=(perpetual,), start_prices=START_PRICES, seed=1, start_ns=Desk().now_ns)
    trading = Trading(PopulationEngine(SimulatedMarket(market)), {perpetual.key: perpetual}, 1)
    trading.pass_time(100)
    mid = trading.engine.mid(perpetual.key)
    assert mid is not None
    buy = {"instrument": perpetual.key, "limit_price": _above(mid), "quantity": units("0.1")}
    trading.follow(trading.desk.approve("o1", decision_mid=mid, **buy))
    trading.pass_time(1_000)
    assert trading.desk.order("o1").status is OrderStatus.FILLED
    assert not trading.venue.state.accounts["main"].funding
    for times in (1, 2):
        trading.pass_time(10_000)
        paid = trading.venue.state.accounts["main"].funding["USD"]
        due = times * Decimal(mid).scaleb(-8) * Decimal("0.1") * perpetual.funding_rate
        assert paid == pytest.approx(due, rel=Decimal("0.01")), "at the mid of the time, which has hardly moved"
        trading.pass_time(100)
        assert trading.venue.state.accounts["main"].funding["USD"] == paid, "once"
        trading.desk.mark(perpetual.key, mid)
        assert trading.desk.account.positions[f"alpha|{perpetual.key}"].funding == paid, "what the venue says, exactly"


def _recorded(seed: int, steps: int) -> tuple[Trading, list[bytes]]:
    """Trade while writing the record down as the exchange process does: requests at once, changes at each advance."""
    trading = simulated(seed, ())
    changes, lines = VenueChanges(), []
    trading.venue = SimulatedVenue(trading.venue.terms, trading.engine, VenueState(), changes)
    submit, cancel, advance = trading.venue.submit, trading.venue.cancel, trading.venue.advance

    class Writing(Loopback):
        def perform(self, request: Event):  # type: ignore[no-untyped-def]
            if isinstance(request, SubmitRequested):
                lines.append(encode_line(Queued(submit(request, request.available_at_ns))))
                return ()
            if isinstance(request, CancelRequested):
                lines.append(encode_line(Queued(cancel(request, request.available_at_ns))))
                return ()
            return super().perform(request)

        def advance(self, now_ns: int):  # type: ignore[no-untyped-def]
            reports = advance(now_ns)
            if changes:
                lines.extend(encode_batch(trading.venue.state, changes, {}).splitlines(keepends=True))
            changes.clear()
            return reports

    trading.loopback = Writing(trading.venue)
    for step in range(steps):
        trading.pass_time(50)
        if step % 3 == 0:
            trading.order_at_random(BTCUSD.key)
    return trading, lines


def test_the_record_adds_up_to_the_venue_that_wrote_it() -> None:
    trading, lines = _recorded(5, 200)
    restored = restore([*lines, b'{"type":"queued","act'], trading.venue.terms.name)
    state = trading.venue.state
    assert restored.state.orders == state.orders
    assert restored.state.accounts == state.accounts
    assert restored.state.report_sequence == state.report_sequence
    assert [sequence for sequence, _ in restored.history] == list(range(1, state.report_sequence + 1))
    ids = {report.event_id for _, report in restored.history}
    assert len(ids) == state.report_sequence, "a report keeps its identity"
    given = {event.event_id for _, event in restored.history if event.order_id in state.orders}
    assert given <= ids


def test_a_record_cut_anywhere_knows_every_order_it_has_answered_for() -> None:
    _, lines = _recorded(6, 60)
    for cut in range(0, len(lines), 3):
        restored = restore(lines[:cut], "SIM/6")
        queued = {action.submit.order_id for action in restored.state.actions if action.submit is not None}
        known = queued | set(restored.state.orders)
        written = [msgspec.json.decode(line) for line in lines[:cut]]
        asked = {
            line["action"]["submit"]["order_id"]
            for line in written
            if line["type"] == "queued" and line["action"]["submit"]
        }
        assert known == asked, "a request that was acknowledged is either carried out or still to be"


def test_a_second_submit_of_an_id_changes_nothing() -> None:
    trading = simulated(8, ())
    trading.pass_time(100)
    mid = trading.engine.mid(BTCUSD.key)
    assert mid is not None
    outputs = trading.desk.approve("o1", instrument=BTCUSD.key, decision_mid=mid, limit_price=_above(mid))
    (request,) = [event for event in outputs if isinstance(event, SubmitRequested)]
    for _ in range(3):
        trading.loopback.perform(request)
    trading.pass_time(200)
    assert len(trading.venue.state.orders) == 1
    trading.check()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quantity": 1}, "lot"),
        ({"quantity": units("1000")}, "bounds"),
        ({"limit_price": units("60000") + 1}, "tick"),
        ({"limit_price": None}, "needs a price"),
        ({"instrument": "SIM:DOGE"}, "unknown instrument"),
        ({"limit_price": units("1"), "quantity": units("0.0001")}, "notional"),
        ({"instrument": "SIM:ETHUSD", "side": Side.SELL, "limit_price": units("3000")}, "inventory"),
        ({"time_in_force": TimeInForce.POST_ONLY, "limit_price": units("70000")}, "would take"),
    ],
)
def test_the_venue_refuses_by_its_own_rules(changes: dict[str, object], reason: str) -> None:
    trading = simulated(2, ())
    trading.pass_time(100)
    now_ns = trading.desk.now_ns
    fields: dict[str, object] = {
        "key": "main",
        "event_time_ns": now_ns,
        "available_at_ns": now_ns,
        "order_id": "x",
        "instrument": BTCUSD.key,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.IOC,
        "limit_price": units("60000"),
        "quantity": units("0.01"),
        "not_after_ns": now_ns + 1,
    }
    trading.venue.submit(SubmitRequested(**fields | changes), now_ns)  # type: ignore[arg-type]
    (report,) = trading.venue.advance(now_ns + 100 * NS_PER_MS)
    assert report.status is OrderStatus.REJECTED
    assert reason in (report.reason or "")
