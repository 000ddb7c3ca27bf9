"""The simulated market: the same seed gives the same bytes, its data is without a gap, its signals are as stated."""

import hashlib
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from agents.sim.generator import seeded
from agents.sim.instruments import BTCUSD, SIM_INSTRUMENTS, START_PRICES
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.regimes import FairValue, Regime
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade
from schemas.values import NS_PER_S

STEPS_PER_S = 20


def _market(seed: int, regime: Regime | None = None, keys: tuple[str, ...] = (BTCUSD.key,)) -> SimulatedMarket:
    instruments = tuple(SIM_INSTRUMENTS[key] for key in keys)
    terms = MarketTerms(instruments=instruments, start_prices=START_PRICES, seed=seed, start_ns=0, regime=regime)
    return SimulatedMarket(terms)


def _digest(seed: int, steps: int) -> str:
    market, digest = _market(seed, keys=tuple(SIM_INSTRUMENTS)), hashlib.blake2b()
    for _ in range(steps):
        for event in market.advance():
            digest.update(type(event).__name__.encode() + msgspec.msgpack.encode(event))
    return digest.hexdigest()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert _digest(5, 400) == _digest(5, 400)
    assert _digest(5, 400) != _digest(6, 400)


def test_the_bytes_are_those_of_the_day_it_was_written() -> None:
    """Every machine draws the same market; whoever changes it on purpose changes this digest too."""
    assert _digest(1, 200)[:32] == "4910a6cc7e761a7e6183f9c2dc75bc92"


def test_diffs_follow_without_a_gap_and_rebuild_the_book_that_is_snapshot_and_quoted() -> None:
    market = _market(3)
    sides: list[dict[int, int]] = [{}, {}]
    newest, snapshots = 0, 0
    times: list[int] = []
    for _ in range(65 * STEPS_PER_S):
        for event in market.advance():
            times.append(event.available_at_ns)
            if isinstance(event, DepthUpdate):
                assert event.first_update_id == newest + 1
                newest = event.last_update_id
                _apply(sides[0], event.bid_prices, event.bid_quantities)
                _apply(sides[1], event.ask_prices, event.ask_quantities)
            elif isinstance(event, BookSnapshot):
                snapshots += 1
                assert event.update_id == newest
                assert dict(zip(event.bid_prices, event.bid_quantities, strict=True)) == sides[0]
                assert dict(zip(event.ask_prices, event.ask_quantities, strict=True)) == sides[1]
            elif isinstance(event, Quote):
                assert (event.bid_price, event.bid_quantity) == max(sides[0].items())
                assert (event.ask_price, event.ask_quantity) == min(sides[1].items())
                assert max(sides[0]) < min(sides[1])
    assert snapshots == 2, "one at the start, one a minute later"
    assert all(earlier < later for earlier, later in pairwise(times))


def _apply(side: dict[int, int], prices: tuple[int, ...], quantities: tuple[int, ...]) -> None:
    for price, quantity in zip(prices, quantities, strict=True):
        side[price] = quantity
        if quantity == 0:
            del side[price]


def _signals(regime: Regime, seed: int) -> dict[str, float]:
    """Sample the market each second for 300 s."""
    market = _market(seed, regime)
    mids, imbalances, flows = [], [], []
    flow, quote, messages = 0, None, 0
    for step in range(300 * STEPS_PER_S):
        for event in market.advance():
            messages += 1
            if isinstance(event, Trade) and event.aggressor is not None:
                flow += event.aggressor.sign * (event.quantity or 0)
            elif isinstance(event, Quote):
                quote = event
        if step % STEPS_PER_S == STEPS_PER_S - 1:
            assert quote is not None
            bid, ask = quote.bid_quantity or 0, quote.ask_quantity or 0
            mids.append(((quote.bid_price or 0) + (quote.ask_price or 0)) / 2)
            imbalances.append((bid - ask) / (bid + ask))
            flows.append(flow)
            flow = 0
    mid = np.array(mids)
    move = np.diff(mid) / mid[:-1] * 1e4
    slow = (mid[10:] - mid[:-10]) / mid[:-10] * 1e4
    return {
        "imbalance": float(np.corrcoef(imbalances[:-1], move)[0, 1]),
        "flow": float(np.corrcoef(flows[1:], move)[0, 1]),
        "persistence": float(np.corrcoef(slow[:-10], slow[10:])[0, 1]),
        "mean_1s": float(move.mean()),
        "sd_10s": float(slow.std()),
        "rate": messages / 300,
    }


_STATED = {
    Regime.TRENDING: {"imbalance": (0.3, 0.45), "flow": (0.85, 0.95), "persistence": (0.4, 0.7), "sd_10s": (6, 10)},
    Regime.REVERTING: {"imbalance": (0.2, 0.3), "flow": (0.8, 0.95), "persistence": (-0.55, -0.35), "sd_10s": (4, 5)},
    Regime.QUIET: {"imbalance": (0.05, 0.3), "flow": (0.7, 0.9), "persistence": (-0.25, 0.15), "sd_10s": (0.6, 1.2)},
    Regime.CRASH: {"imbalance": (0.0, 0.25), "flow": (0.3, 0.5), "persistence": (-0.25, 0.25), "mean_1s": (-17, -13)},
}


@pytest.mark.slow
@pytest.mark.parametrize("regime", list(Regime))
def test_each_regime_has_the_signal_and_the_noise_that_are_stated(regime: Regime) -> None:
    found = _signals(regime, seed=2)
    for name, (low, high) in _STATED[regime].items():
        assert low <= found[name] <= high, f"{regime} {name}: {found[name]:.3f}, stated {low} to {high}"
    assert 35 <= found["rate"] <= 200, "messages per second"


def test_the_regimes_alternate() -> None:
    fair, seen = FairValue(value=1.0, anchor=1.0), set()
    for step in range(20_000):
        fair.advance(seeded("alternate", step), 0.05, None)
        seen.add(fair.regime)
    assert seen == set(Regime)


def test_times_are_those_of_the_steps() -> None:
    market = _market(1)
    events: list[Event] = []
    for _ in range(STEPS_PER_S):
        events.extend(market.advance())
    assert events[0].available_at_ns >= 0
    assert events[-1].available_at_ns < NS_PER_S
    assert market.next_time_ns == NS_PER_S
