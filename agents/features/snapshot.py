"""What a grid time makes of an instrument's state: the features, the ballots they open, and the mark."""

import math
from typing import Final

from agents.features import volatility
from agents.features.book_features import depth, microprice_offset, share_imbalance
from agents.features.engine import current_mid, pass_buckets
from agents.features.returns import trailing_return
from agents.features.state import FeatureConfig, FeatureState
from schemas.event import derive_id
from schemas.market import InstrumentDefined
from schemas.opinions import FeatureSnapshot, MarketMark, MarkQuality, Question
from schemas.values import NS_PER_S

RETURN_SECONDS: Final = (1, 5, 10, 30, 60)
FEATURE_NAMES: Final = (
    *("microprice_offset", "spread", "spread_relative", "imbalance_1", "imbalance_5", "imbalance_10"),
    *("ofi_1s", "ofi_10s", "ofi_multi_1s", "trade_flow_1s", "trade_flow_10s", "trade_rate_10s", "vpin"),
    *("volatility", "volatility_fast", *(f"return_{seconds}s" for seconds in RETURN_SECONDS), "depth_10", "age_s"),
)
"""The keys of ``FeatureSnapshot.features``, in order; every snapshot has them all."""


def snapshot(state: FeatureState, grid_time_ns: int, config: FeatureConfig) -> FeatureSnapshot:
    """Return the features at a grid time, from what was available before it, and one question per horizon."""
    if grid_time_ns >= state.bucket_end_ns:
        pass_buckets(state, grid_time_ns)
    mid = current_mid(state)
    per_second = NS_PER_S // state.bucket_ns
    features = (
        _top_features(state, mid) | _flow_features(state, config, per_second) | _price_features(state, per_second)
    )
    features |= {"depth_10": _depth_10(state), "age_s": _age_s(state, grid_time_ns)}
    definition = config.instruments[state.instrument]
    sigma = features["volatility"]
    return FeatureSnapshot(
        key=state.instrument,
        event_time_ns=grid_time_ns,
        available_at_ns=grid_time_ns,
        grid_time_ns=grid_time_ns,
        deadline_ns=grid_time_ns + config.deadline_ns,
        mid=mid,
        synchronised=state.synchronised,
        features={name: features[name] for name in FEATURE_NAMES},
        questions=tuple(
            Question(
                ballot_id=derive_id(f"{state.instrument}|{grid_time_ns}", "ballot", horizon_ns),
                horizon_ns=horizon_ns,
                flat_band=flat_band(definition, mid, sigma, horizon_ns, config.flat_sigmas),
            )
            for horizon_ns in definition.horizons_ns
        ),
    )


def flat_band(
    definition: InstrumentDefined, mid: int | None, sigma: float | None, horizon_ns: int, flat_sigmas: float
) -> int:
    """Return the |change of mid| up to which a move is *flat*, in units of 1e-8: half a tick, or more with volatility.

    ``sigma`` is the realised volatility per square root of a second as a fraction of the mid.
    """
    half_tick = definition.tick_size // 2
    if mid is None or sigma is None:
        return half_tick
    return max(half_tick, int(flat_sigmas * sigma * mid * math.sqrt(horizon_ns / NS_PER_S)))


def mark(state: FeatureState, config: FeatureConfig, now_ns: int, grid_time_ns: int | None = None) -> MarketMark:
    """Return where the instrument stands *now*; with ``grid_time_ns`` on the grid, which starts the volume anew."""
    top = state.order_flow
    marked = MarketMark(
        key=state.instrument,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        mid=current_mid(state),
        bid_price=top.bid_price,
        ask_price=top.ask_price,
        bid_quantity=top.bid_quantity,
        ask_quantity=top.ask_quantity,
        volume=state.volume if state.sized else None,
        newest_time_ns=state.newest_ns,
        quality=mark_quality(state, config, now_ns),
        on_grid=grid_time_ns is not None,
        grid_time_ns=state.grid_time_ns if grid_time_ns is None else grid_time_ns,
    )
    if grid_time_ns is not None:
        state.volume = 0
        state.gap = False
    return marked


def mark_quality(state: FeatureState, config: FeatureConfig, now_ns: int) -> MarkQuality:
    """Return whether the mark may be traded on; the worst that holds."""
    top = state.order_flow
    if state.gap or (top.bid_price is None and top.ask_price is None):
        return MarkQuality.GAP
    if now_ns - state.newest_ns > config.stale_after_ns:
        return MarkQuality.STALE
    if top.bid_price is None or top.ask_price is None:
        return MarkQuality.ONE_SIDED
    if state.top_from_book and top.bid_price >= top.ask_price:
        return MarkQuality.CROSSED
    return MarkQuality.GOOD if state.synchronised else MarkQuality.TOP_ONLY


def _top_features(state: FeatureState, mid: int | None) -> dict[str, float | None]:
    top = state.order_flow
    bid, ask = top.bid_price, top.ask_price
    offset = imbalance = spread = None
    if mid is not None and bid is not None and ask is not None and bid <= ask:
        spread = ask - bid
        bid_quantity, ask_quantity = top.bid_quantity, top.ask_quantity
        if bid_quantity is not None and ask_quantity is not None:
            offset = microprice_offset(bid, ask, bid_quantity, ask_quantity)
            imbalance = share_imbalance(bid_quantity, ask_quantity)
    return {
        "microprice_offset": offset,
        "spread": None if spread is None else float(spread),
        "spread_relative": None if spread is None or not mid else spread / mid,
        "imbalance_1": imbalance,
        "imbalance_5": _book_imbalance(state, 5),
        "imbalance_10": _book_imbalance(state, 10),
    }


def _book_imbalance(state: FeatureState, levels: int) -> float | None:
    if not state.synchronised or state.book.crossed:
        return None
    quantities = depth(state.book, levels)
    return None if quantities is None else share_imbalance(*quantities)


def _depth_10(state: FeatureState) -> float | None:
    quantities = depth(state.book, 10) if state.synchronised else None
    return None if quantities is None else float(sum(quantities))


def _age_s(state: FeatureState, now_ns: int) -> float | None:
    return (now_ns - state.newest_ns) / NS_PER_S if state.newest_ns else None


def _flow_features(state: FeatureState, config: FeatureConfig, per_second: int) -> dict[str, float | None]:
    trades = state.trade_flow
    return {
        "ofi_1s": state.order_flow.imbalance(per_second),
        "ofi_10s": state.order_flow.imbalance(10 * per_second),
        "ofi_multi_1s": state.level_flow.imbalance(per_second),
        "trade_flow_1s": trades.imbalance(per_second),
        "trade_flow_10s": trades.imbalance(10 * per_second),
        "trade_rate_10s": trades.rate(10 * per_second, per_second),
        "vpin": state.vpin.value(config.vpin_buckets_min),
    }


def _price_features(state: FeatureState, per_second: int) -> dict[str, float | None]:
    mids = state.mids
    features: dict[str, float | None] = {
        "volatility": volatility.realised(mids, per_second),
        "volatility_fast": volatility.realised_fast(mids, per_second),
    }
    for seconds in RETURN_SECONDS:
        features[f"return_{seconds}s"] = trailing_return(mids, seconds * per_second)
    return features
