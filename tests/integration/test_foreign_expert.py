"""The foreign expert of ``docs/examples``: it joins a running platform, and its votes weigh what they are worth.

The market trends, as ``agents/sim/regimes.py`` states it, on a grid of 100 ms, so that 500 ballots over one horizon
take less than a minute; on the default grid of one second they take more than eight.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo_process import ROOT, DemoProcess, running_demo

SCRIPT = ROOT / "docs" / "examples" / "foreign_expert.py"
INSTRUMENT, HORIZON_NS = "SIM:BTCUSD", 1_000_000_000
BALLOTS = 500
OURS = {"schemas", "agents", "infra", "streams", "tests", "benchmarks"}
_WEIGHT = """
SELECT count(*), (array_agg((e.weight, n.voters)::text ORDER BY t.grid_time_ns))[%s]
FROM tallies t
CROSS JOIN LATERAL jsonb_to_recordset(t.entries) AS e(expert text, weight float8, p_up float8)
CROSS JOIN LATERAL (SELECT count(*) AS voters FROM jsonb_array_elements(t.entries) v WHERE v->>'p_up' IS NOT NULL) n
WHERE t.instrument = %s AND t.horizon_ns = %s AND e.expert = %s AND e.p_up IS NOT NULL AND t.advice_for IS NULL
"""


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    source = SCRIPT.read_text()
    assert len(source.splitlines()) < 60
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & OURS


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[DemoProcess]:
    changes = [
        ("step_ms", "step_ms = 100"),
        ("horizons_s", "horizons_s = [1, 10]"),
        ("# instruments = []", f'instruments = ["{INSTRUMENT}"]'),
        ('instruments = ["SIM:BTCUSD", "SIM:ETHUSD"]', f'instruments = ["{INSTRUMENT}"]'),
        ('regime = "mixed"', 'regime = "trending"'),
    ]
    with running_demo(tmp_path, changes=changes) as demo:
        yield demo


def _weight(platform: DemoProcess, expert: str) -> tuple[float, int] | None:
    """Return the weight in the 500th ballot that the expert answered, and how many voted; None before that."""
    [(voted, pair)] = platform.rows(_WEIGHT, BALLOTS, INSTRUMENT, HORIZON_NS, expert)
    if voted < BALLOTS:
        return None
    weight, voters = pair.strip("()").split(",")
    return float(weight), int(voters)


@pytest.mark.campaign
@pytest.mark.embedded
@pytest.mark.slow
def test_after_500_ballots_an_informative_one_weighs_more_than_its_share_and_a_uniform_one_less(
    platform: DemoProcess, record_property: Callable[[str, object], None]
) -> None:
    scripts = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), platform.bootstrap, platform.registry, f"guest.{kind}", kind],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for kind in ("informative", "uniform")
    ]
    try:
        informative, voters = platform.until(lambda: _weight(platform, "guest.informative"), 180)
        uniform, voters_then = platform.until(lambda: _weight(platform, "guest.uniform"), 60)
    finally:
        for script in scripts:
            script.terminate()
            _, said = script.communicate(timeout=10)
            assert b"Traceback" not in said, said
    record_property("informative", informative)
    record_property("uniform", uniform)
    assert informative > 1 / voters
    assert uniform < 1 / voters_then
    assert not platform.rows("SELECT reason, detail FROM dead_letters"), "each of their votes was taken"
