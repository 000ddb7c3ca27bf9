"""Orders on recorded data: takers walk what is displayed and use it up, makers wait for their turn."""

from decimal import Decimal
from typing import Any

from agents.sim.engine import Arrival, Terms, VenueOrder
from agents.sim.replay_engine import ReplayEngine, Slippage
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote, Trade
from schemas.values import OrderType, Side, TimeInForce

KEY = "X:Y"
FIELDS: dict[str, Any] = {"key": KEY, "event_time_ns": 1, "available_at_ns": 1}


def _order(name: str, side: Side, quantity: int, price: int | None, time_in_force: TimeInForce) -> VenueOrder:
    return VenueOrder(
        order_id=name,
        venue_order_id=name,
        account="main",
        instrument=KEY,
        side=side,
        order_type=OrderType.LIMIT if price is not None else OrderType.MARKET,
        time_in_force=time_in_force,
        limit_price=price,
        quantity=quantity,
        number=1,
        created_at_ns=0,
    )


def _book(engine: ReplayEngine) -> None:
    engine.on_market(
        BookSnapshot(
            **FIELDS,
            update_id=1,
            bid_prices=(99, 98),
            bid_quantities=(10, 20),
            ask_prices=(101, 102, 103),
            ask_quantities=(5, 5, 50),
        )
    )


def _update(engine: ReplayEngine, **changes: Any) -> None:
    engine.on_market(DepthUpdate(**FIELDS, first_update_id=2, last_update_id=2, **changes))


def _trade(engine: ReplayEngine, price: int, quantity: int | None, aggressor: Side | None) -> None:
    engine.on_market(Trade(**FIELDS, trade_id="1", price=price, quantity=quantity, aggressor=aggressor))


def _fills(engine: ReplayEngine) -> list[tuple[str, int, int]]:
    return [(fill.order_id, fill.price, fill.quantity) for fill in engine.take_maker_fills()]


def test_a_taker_walks_the_depth_up_to_its_limit() -> None:
    engine = ReplayEngine({})
    _book(engine)
    arrival = engine.place(_order("a", Side.BUY, 20, 102, TimeInForce.IOC), 0)
    assert arrival.taken == [(101, 5), (102, 5)]
    assert not arrival.rests


def test_what_was_taken_is_gone_until_the_level_is_reported_again() -> None:
    engine = ReplayEngine({})
    _book(engine)
    engine.place(_order("a", Side.BUY, 7, None, TimeInForce.IOC), 0)
    assert engine.place(_order("b", Side.BUY, 7, 102, TimeInForce.IOC), 0).taken == [(102, 3)]
    _update(engine, ask_prices=(101,), ask_quantities=(4,))
    assert engine.place(_order("c", Side.BUY, 9, 102, TimeInForce.IOC), 0).taken == [(101, 4)]


def test_fill_or_kill_and_post_only() -> None:
    engine = ReplayEngine({})
    _book(engine)
    assert engine.place(_order("a", Side.BUY, 11, 102, TimeInForce.FOK), 0) == ([], False, None)
    assert sum(taken.quantity for taken in engine.place(_order("b", Side.BUY, 10, 102, TimeInForce.FOK), 0).taken) == 10
    assert engine.place(_order("c", Side.SELL, 1, 99, TimeInForce.POST_ONLY), 0).refused is not None
    assert engine.place(_order("d", Side.SELL, 1, 100, TimeInForce.POST_ONLY), 0).rests


def test_a_maker_waits_behind_what_is_displayed_and_for_the_right_aggressor() -> None:
    engine = ReplayEngine({})
    _book(engine)
    order = _order("m", Side.BUY, 6, 99, TimeInForce.GTC)
    assert engine.place(order, 0).rests
    _trade(engine, 99, 4, Side.SELL)
    _trade(engine, 99, 50, Side.BUY)
    assert _fills(engine) == []
    _trade(engine, 99, 8, Side.SELL)
    assert _fills(engine) == [("m", 99, 2)], "6 were still ahead of it"
    order.filled_quantity = 2
    _trade(engine, 98, 3, Side.SELL)
    assert _fills(engine) == [("m", 99, 3)], "a trade through its price reaches it first, at its own price"
    order.filled_quantity = 5
    _update(engine, ask_prices=(99,), ask_quantities=(1,))
    assert _fills(engine) == [("m", 99, 1)], "the other side cannot have passed it by"


def test_those_ahead_who_leave_move_a_maker_up() -> None:
    engine = ReplayEngine({})
    _book(engine)
    engine.place(_order("m", Side.BUY, 6, 98, TimeInForce.GTC), 0)
    _update(engine, bid_prices=(98,), bid_quantities=(3,))
    _trade(engine, 98, 5, None)
    assert _fills(engine) == [("m", 98, 2)]


def test_two_trades_in_one_go_never_fill_more_than_was_ordered() -> None:
    engine = ReplayEngine({})
    _book(engine)
    engine.place(_order("m", Side.BUY, 6, 100, TimeInForce.GTC), 0)
    _trade(engine, 100, 4, Side.SELL)
    _trade(engine, 99, 9, Side.SELL)
    _trade(engine, 99, 9, Side.SELL)
    assert _fills(engine) == [("m", 100, 4), ("m", 100, 2)]


def test_a_cancelled_maker_is_not_filled() -> None:
    engine = ReplayEngine({})
    _book(engine)
    order = _order("m", Side.SELL, 6, 101, TimeInForce.GTC)
    engine.place(order, 0)
    engine.cancel(order, 0)
    _trade(engine, 105, 100, Side.BUY)
    assert _fills(engine) == []


def test_without_a_book_the_quote_is_taken_and_without_sizes_a_configured_maximum() -> None:
    engine = ReplayEngine({KEY: 4})
    assert engine.place(_order("z", Side.BUY, 9, None, TimeInForce.IOC), 0).taken == []
    engine.on_market(Quote(**FIELDS, bid_price=99, bid_quantity=3, ask_price=101, ask_quantity=3))
    assert engine.place(_order("a", Side.BUY, 9, 101, TimeInForce.IOC), 0).taken == [(101, 3)]
    assert engine.place(_order("b", Side.BUY, 9, 101, TimeInForce.IOC), 0).taken == []
    engine.on_market(Quote(**FIELDS, bid_price=99, bid_quantity=None, ask_price=101, ask_quantity=None))
    assert engine.place(_order("c", Side.BUY, 9, 101, TimeInForce.IOC), 0).taken == [(101, 4)]
    assert engine.mid(KEY) == 100


def test_behind_a_quote_without_depth_a_taker_pays_what_trading_was_found_to_cost() -> None:
    engine = ReplayEngine({}, {KEY: Slippage(Decimal("0.015"), 1)})
    quote = Quote(**FIELDS, bid_price=100, bid_quantity=3, ask_price=102, ask_quantity=3)
    engine.on_market(quote)
    assert engine.place(_order("a", Side.BUY, 2, 103, TimeInForce.IOC), 0).taken == [], "its limit holds all the same"
    assert engine.place(_order("b", Side.BUY, 2, None, TimeInForce.IOC), 0).taken == [(104, 2)]
    assert engine.place(_order("c", Side.SELL, 2, 98, TimeInForce.IOC), 0).taken == [(98, 2)]
    assert engine.mid(KEY) == 101
    engine = ReplayEngine({}, {KEY: Slippage(Decimal("-0.5"), 1)})
    engine.on_market(quote)
    assert engine.place(_order("a", Side.BUY, 2, None, TimeInForce.IOC), 0).taken == [(102, 2)], "never better than it"
    engine = ReplayEngine({}, {KEY: Slippage(Decimal("0.5"), 1)})
    _book(engine)
    (first, *_) = engine.place(_order("a", Side.BUY, 1, None, TimeInForce.IOC), 0).taken
    assert first.price == 101, "a recorded book is walked as it is"


def test_a_book_that_is_not_trusted_is_not_traded_on() -> None:
    engine = ReplayEngine({})
    _book(engine)
    engine.on_market(Quality(**FIELDS, kind=QualityKind.GAP))
    engine.on_market(Quote(**FIELDS, bid_price=98, bid_quantity=2, ask_price=104, ask_quantity=2))
    assert engine.place(_order("a", Side.BUY, 9, None, TimeInForce.IOC), 0).taken == [(104, 2)]


def _behind(engine: ReplayEngine, order: VenueOrder, quantity: int, price: int) -> Arrival:
    """Change an order as the venue does: it has its new terms when the engine hears of it."""
    former = Terms(order.limit_price, order.leaves_quantity)
    order.quantity, order.limit_price = quantity, price
    return engine.amend(order, former, 2)


def test_a_smaller_order_keeps_its_place_and_any_other_change_goes_to_the_end() -> None:
    for quantity, price, filled in ((4, 99, 4), (6, 99, 0), (4, 98, 0)):
        engine = ReplayEngine({})
        _book(engine)
        order = _order("m", Side.BUY, 5, 99, TimeInForce.GTC)
        engine.place(order, 1)
        engine.on_market(Trade(**FIELDS, trade_id="1", price=99, quantity=10, aggressor=Side.SELL))
        assert engine.take_maker_fills() == []
        assert _behind(engine, order, quantity, price).rests
        engine.on_market(Trade(**FIELDS, trade_id="2", price=99, quantity=4, aggressor=Side.SELL))
        assert sum(fill.quantity for fill in engine.take_maker_fills()) == filled, (quantity, price)


def test_a_change_that_would_take_takes_or_is_refused_if_it_may_only_make() -> None:
    for time_in_force, taken in ((TimeInForce.GTC, 3), (TimeInForce.POST_ONLY, 0)):
        engine = ReplayEngine({})
        _book(engine)
        order = _order("m", Side.BUY, 5, 99, time_in_force)
        engine.place(order, 1)
        arrival = _behind(engine, order, 3, 101)
        assert sum(item.quantity for item in arrival.taken) == taken
        assert (arrival.refused is None) is (taken > 0)
