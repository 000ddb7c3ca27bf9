"""Streams of feature snapshots made up from a seed, for the tests of experts, of voting and of what reads them."""

import math
import random
from collections.abc import Iterator

import msgspec

from schemas.event import derive_id
from schemas.opinions import FeatureSnapshot, Question
from schemas.values import NS_PER_MS, NS_PER_S

INSTRUMENT = "SIM:BTCUSD"
HORIZONS_NS = (1 * NS_PER_S, 10 * NS_PER_S, 60 * NS_PER_S)
START_NS = 1_700_000_000 * NS_PER_S
WINDOWS_S = (1, 5, 10, 30, 60)
INPUTS = (
    *("microprice_offset", "spread", "spread_relative", "imbalance_1", "imbalance_5", "imbalance_10"),
    *("ofi_1s", "ofi_10s", "ofi_multi_1s", "trade_flow_1s", "trade_flow_10s", "trade_rate_10s", "vpin"),
    *("volatility", "volatility_fast", *(f"return_{seconds}s" for seconds in WINDOWS_S), "depth_10", "age_s"),
)


def questions(grid_time_ns: int, mid: int | None, volatility: float | None) -> tuple[Question, ...]:
    """Return the questions a snapshot of the platform asks."""
    return tuple(
        Question(
            ballot_id=derive_id(f"{INSTRUMENT}|{grid_time_ns}", "ballot", horizon_ns),
            horizon_ns=horizon_ns,
            flat_band=int(0.43 * (volatility or 0.0) * (mid or 0) * math.sqrt(horizon_ns / NS_PER_S)),
        )
        for horizon_ns in HORIZONS_NS
    )


def make_snapshot(
    step: int, mid: int | None, features: dict[str, float | None], *, synchronised: bool = True
) -> FeatureSnapshot:
    """Return the snapshot of second ``step``; features not given are null."""
    grid_time_ns = START_NS + step * NS_PER_S
    return FeatureSnapshot(
        key=INSTRUMENT,
        event_time_ns=grid_time_ns,
        available_at_ns=grid_time_ns,
        event_id=derive_id("story", "snapshot", step),
        grid_time_ns=grid_time_ns,
        deadline_ns=grid_time_ns + 500 * NS_PER_MS,
        mid=mid,
        synchronised=synchronised,
        features=dict.fromkeys(INPUTS) | features,
        questions=questions(grid_time_ns, mid, features.get("volatility")),
    )


def walk(seed: int, steps: int, *, drift: float = 0.0, volatility: float = 5e-5) -> Iterator[FeatureSnapshot]:
    """Yield snapshots of a random walk whose next step leans to the order flow; ``drift`` is in sigmas a second."""
    generator = random.Random(seed)
    mids = [60_000 * 10**8]
    lean = 0.0
    for step in range(steps):
        mid = mids[-1]
        spread = 10**8 * generator.choice((0.1, 0.1, 0.2))
        features: dict[str, float | None] = {
            "microprice_offset": lean * spread / mid / 2,
            "spread": spread,
            "spread_relative": spread / mid,
            "imbalance_1": math.tanh(lean + generator.gauss(0, 0.3)),
            "imbalance_5": math.tanh(0.5 * lean + generator.gauss(0, 0.3)),
            "imbalance_10": math.tanh(generator.gauss(0, 0.3)),
            "ofi_1s": lean + generator.gauss(0, 0.5),
            "ofi_10s": generator.gauss(0, 1),
            "ofi_multi_1s": lean + generator.gauss(0, 0.5),
            "trade_flow_1s": math.tanh(lean) if generator.random() < 0.8 else None,
            "trade_flow_10s": math.tanh(generator.gauss(0, 0.5)),
            "trade_rate_10s": generator.uniform(1, 20),
            "vpin": generator.uniform(0, 0.6),
            "volatility": volatility if step >= 10 else None,
            "volatility_fast": volatility * math.exp(generator.gauss(0, 0.3)) if step >= 5 else None,
            "depth_10": 40e8 * math.exp(generator.gauss(0, 0.2)),
            "age_s": generator.uniform(0, 0.05),
        }
        for seconds in WINDOWS_S:
            if step >= seconds:
                features[f"return_{seconds}s"] = mid / mids[-1 - seconds] - 1
        yield make_snapshot(step, mid, features)
        mids.append(round(mid * (1 + volatility * (drift + 0.6 * lean + 0.8 * generator.gauss(0, 1)))))
        lean = generator.gauss(0, 1)


def without(snapshot: FeatureSnapshot, *names: str) -> FeatureSnapshot:
    """Return the snapshot with some inputs missing."""
    return msgspec.structs.replace(snapshot, features=snapshot.features | dict.fromkeys(names))
