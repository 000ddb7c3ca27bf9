"""Market events for tests: made by hand, and read from the recorded captures (each read and ingested once)."""

import functools
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from agents.features.engine import apply, due_grid_time
from agents.features.snapshot import mark, snapshot
from agents.features.state import FeatureConfig, FeatureState, new_state
from agents.market.stage import Ingestion, IngestionConfig
from agents.stage import ShardState, run_step
from infra.feeds.capture import open_capture
from schemas.event import Event, Heartbeat
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quote, Session, Trade
from schemas.opinions import FeatureSnapshot, MarketMark
from schemas.values import NS_PER_S, Side

KEY = "BINANCE:BTCUSDT"
UNIT = 100_000_000
START_NS = 1_723_161_600 * NS_PER_S
HORIZONS_NS = (NS_PER_S, 10 * NS_PER_S, 60 * NS_PER_S)


def definition(key: str = KEY, *, inferred: bool = False, tick_size: int = 1_000_000) -> InstrumentDefined:
    """A linear instrument with BTC-like increments, a grid of 1 s and horizons of 1, 10 and 60 s."""
    venue, _, symbol = key.partition(":")
    return InstrumentDefined(
        key=key,
        event_time_ns=0,
        available_at_ns=0,
        venue=venue,
        symbol=symbol,
        tick_size=tick_size,
        lot_size=1_000,
        quantity_min=1_000,
        quantity_max=1_000 * UNIT,
        notional_min=Decimal(5),
        multiplier=Decimal(1),
        inverse=False,
        base_currency="BTC",
        quote_currency="USDT",
        maker_fee_rate=Decimal("0.0002"),
        taker_fee_rate=Decimal("0.0005"),
        funding_rate=Decimal(0),
        funding_interval_ns=0,
        shortable=True,
        session=Session.CONTINUOUS,
        grid_ns=NS_PER_S,
        horizons_ns=HORIZONS_NS,
        inferred=inferred,
    )


def ns(seconds: float) -> int:
    """A time ``seconds`` after the start of every hand-made story, to the millisecond."""
    return START_NS + round(seconds * 1_000) * 1_000_000


def quote(
    at: float,
    bid: int | None = 100,
    ask: int | None = 101,
    sizes: tuple[int | None, int | None] = (1, 1),
    update_id: int | None = None,
) -> Quote:
    """A quote in whole units of price and quantity."""
    return Quote(
        key=KEY,
        event_time_ns=ns(at),
        available_at_ns=ns(at),
        bid_price=None if bid is None else bid * UNIT,
        bid_quantity=None if sizes[0] is None else sizes[0] * UNIT,
        ask_price=None if ask is None else ask * UNIT,
        ask_quantity=None if sizes[1] is None else sizes[1] * UNIT,
        update_id=update_id,
    )


def trade(
    at: float, price: int = 100, quantity: int | None = 1, aggressor: Side | None = Side.BUY, trade_id: str = ""
) -> Trade:
    """A trade in whole units; its id is its time where none is given."""
    return Trade(
        key=KEY,
        event_time_ns=ns(at),
        available_at_ns=ns(at),
        trade_id=trade_id or f"at-{at}",
        price=price * UNIT,
        quantity=None if quantity is None else quantity * UNIT,
        aggressor=aggressor,
    )


def book(at: float, update_id: int, bids: dict[int, int], asks: dict[int, int]) -> BookSnapshot:
    """A whole book in whole units."""
    bid_prices, ask_prices = sorted(bids, reverse=True), sorted(asks)
    return BookSnapshot(
        key=KEY,
        event_time_ns=ns(at),
        available_at_ns=ns(at),
        update_id=update_id,
        bid_prices=tuple(price * UNIT for price in bid_prices),
        bid_quantities=tuple(bids[price] * UNIT for price in bid_prices),
        ask_prices=tuple(price * UNIT for price in ask_prices),
        ask_quantities=tuple(asks[price] * UNIT for price in ask_prices),
    )


def diff(
    at: float,
    ids: tuple[int, int],
    bids: dict[int, int] | None = None,
    asks: dict[int, int] | None = None,
    previous: int | None = None,
) -> DepthUpdate:
    """A change of depth in whole units; ``ids`` are its first and last update id."""
    bids, asks = bids or {}, asks or {}
    return DepthUpdate(
        key=KEY,
        event_time_ns=ns(at),
        available_at_ns=ns(at),
        first_update_id=ids[0],
        last_update_id=ids[1],
        previous_update_id=previous,
        bid_prices=tuple(price * UNIT for price in bids),
        bid_quantities=tuple(quantity * UNIT for quantity in bids.values()),
        ask_prices=tuple(price * UNIT for price in asks),
        ask_quantities=tuple(quantity * UNIT for quantity in asks.values()),
    )


def beat(at: float, clock: str = "capture") -> Heartbeat:
    """A Heartbeat of the capture's clock."""
    return Heartbeat(key="market.event", event_time_ns=ns(at), available_at_ns=ns(at), clock=clock)


def ingest(events: Iterable[Event], stage: Ingestion | None = None, state: ShardState | None = None) -> list[Event]:
    """Everything ingestion makes of raw events, in order."""
    stage = stage or Ingestion(IngestionConfig(instruments={KEY: definition()}))
    state = ShardState() if state is None else state
    return [output for event in events for output in run_step(stage, state, event)[1]]


@functools.cache
def raw_events(path: Path) -> tuple[Event, ...]:
    """All events of a capture, Heartbeats included and a closing Heartbeat."""
    events = [event for record in open_capture([path]).records() for event in record.events]
    last = events[-1].available_at_ns
    events.append(Heartbeat(key="market.event", event_time_ns=last, available_at_ns=last, clock="closing"))
    return tuple(events)


@functools.cache
def trusted_events(path: Path) -> tuple[Event, ...]:
    """What ingestion makes of a capture."""
    raw = raw_events(path)
    keys = {event.key for event in raw if type(event) is not Heartbeat}
    stage = Ingestion(IngestionConfig(instruments={key: definition(key) for key in keys}))
    return tuple(ingest(raw, stage))


def drive(
    events: Iterable[Event], config: FeatureConfig, state: FeatureState
) -> Iterable[FeatureSnapshot | MarketMark]:
    """What the experts stage does with one instrument: snapshot and mark on the grid, a mark at each Heartbeat."""
    grid_ns = config.instruments[state.instrument].grid_ns
    for event in events:
        grid_time = due_grid_time(state, event.available_at_ns, grid_ns)
        if grid_time is not None:
            yield snapshot(state, grid_time, config)
            yield mark(state, config, grid_time, grid_time)
        if type(event) is Heartbeat:
            yield mark(state, config, event.available_at_ns)
        apply(state, event)


def featured(
    events: Iterable[Event], config: FeatureConfig | None = None, key: str = KEY
) -> list[FeatureSnapshot | MarketMark]:
    """All snapshots and marks of one instrument over a story."""
    config = config or FeatureConfig(instruments={key: definition(key)})
    return list(drive(events, config, new_state(key, config)))


def snapshots(outputs: Sequence[FeatureSnapshot | MarketMark]) -> list[FeatureSnapshot]:
    """Only the snapshots."""
    return [output for output in outputs if isinstance(output, FeatureSnapshot)]
