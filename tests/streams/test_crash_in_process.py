"""The same input with and without crashes gives the same bytes on every topic."""

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from campaign import SETTINGS
from captures import SPOT_20240808, USDM_20240808
from crashing_line import CODEC, CrashingLine

from infra.settings import load_settings
from schemas.orders import Fill, OrderEvent
from streams.composition import Run, compose

_RECORDS = 2_500
_PROBE: dict[str, Any] = {"policy": "probe", "horizon_s": 1, "parameters": {"every": 2, "size": 0.5}}


def _run(capture: Path) -> Run:
    changes: dict[str, Any] = {
        "run.clock": "capture",
        "feed.kind": "capture",
        "feed.paths": [str(capture)],
        "feed.speed": "max",
        "grid.step_ms": 200,
        "grid.horizons_s": [1],
        "strategies.committee": _PROBE,
        "strategies.pulse": {**_PROBE, "instruments": ["*"], "time_in_force": "GTC"},
    }
    return compose(load_settings(SETTINGS, changes))


@pytest.mark.parametrize(
    ("capture", "order_events"),
    # What cannot be sold short trades once and then waits.
    [
        pytest.param(USDM_20240808, 20, id="perpetual"),
        pytest.param(SPOT_20240808, 5, id="spot", marks=pytest.mark.slow),
    ],
)
def test_crashes_change_no_byte(capture: Path, order_events: int) -> None:
    run = _run(capture)
    assert run.capture is not None
    undisturbed = CrashingLine(run, random.Random(1), crash_every=0)
    undisturbed.run(list(itertools.islice(run.capture.records(), _RECORDS)))
    expected = undisturbed.taken()

    for seed in (1, 2):
        crashed = CrashingLine(run, random.Random(seed), crash_every=40)
        # A capture's records are read anew: identities are written into them.
        crashed.run(list(itertools.islice(run.capture.records(), _RECORDS)))
        assert crashed.crashes > 200
        found = crashed.taken()
        assert found.keys() == expected.keys()
        for lane, records in expected.items():
            assert found[lane] == records, f"{lane}: seed {seed}"

    kinds = Counter(
        type(CODEC.decode(topic, value, ())).__name__ for (topic, _), lane in expected.items() for value in lane
    )
    assert kinds[OrderEvent.__name__] > order_events, kinds
    assert kinds[Fill.__name__] > 1, kinds
