"""What one snapshot costs each expert, in microseconds: `python -m benchmarks.experts`. The budget is 400 for all."""

import math
import time
from collections.abc import Iterator

from agents.experts._registry import load
from schemas.event import derive_id
from schemas.opinions import FeatureSnapshot, Question
from schemas.values import NS_PER_S

SNAPSHOTS = 5_000
BUDGET_US = 400
_HORIZONS_S = (1, 10, 60)
_NAMES = (
    *("microprice_offset", "imbalance_1", "imbalance_5", "imbalance_10", "ofi_1s", "ofi_10s", "ofi_multi_1s"),
    *("trade_flow_1s", "trade_flow_10s", "return_1s", "return_5s", "return_10s", "return_30s", "return_60s"),
)


def snapshots() -> Iterator[FeatureSnapshot]:
    """Yield snapshots whose inputs swing at different paces, so that no expert idles."""
    for step in range(SNAPSHOTS):
        grid_time_ns = (1_700_000_000 + step) * NS_PER_S
        mid = int(6e12 * (1 + 1e-3 * math.sin(step / 40)))
        features: dict[str, float | None] = {
            name: 1e-4 * math.sin(step / (3 + index)) for index, name in enumerate(_NAMES)
        }
        features |= {"spread": 1e7, "spread_relative": 1e7 / mid, "depth_10": 4e9, "age_s": 0.01}
        features |= {"trade_rate_10s": 5 + math.sin(step / 9), "vpin": 0.3 + 0.1 * math.sin(step / 70)}
        features |= {"volatility": 5e-5, "volatility_fast": 5e-5 * (1.5 + math.sin(step / 50))}
        yield FeatureSnapshot(
            key="SIM:BTCUSD",
            event_time_ns=grid_time_ns,
            available_at_ns=grid_time_ns,
            grid_time_ns=grid_time_ns,
            deadline_ns=grid_time_ns + NS_PER_S // 2,
            mid=mid,
            synchronised=True,
            features=features,
            questions=tuple(
                Question(
                    ballot_id=derive_id(str(step), "ballot", horizon_s),
                    horizon_ns=horizon_s * NS_PER_S,
                    flat_band=int(0.43 * 5e-5 * mid * math.sqrt(horizon_s)),
                )
                for horizon_s in _HORIZONS_S
            ),
        )


def main() -> None:
    """Print one line per expert and the sum."""
    story, total_us = list(snapshots()), 0.0
    for name, expert in load().items():
        state = expert.initial()
        began = time.process_time()
        for snapshot in story:
            state, _ = expert.assess(state, snapshot)
        cost_us = (time.process_time() - began) / SNAPSHOTS * 1e6
        total_us += cost_us
        print(f"{name:20} {cost_us:6.1f} us per snapshot of {len(_HORIZONS_S)} horizons")
    print(f"{'all':20} {total_us:6.1f} us, budget {BUDGET_US}")


if __name__ == "__main__":
    main()
