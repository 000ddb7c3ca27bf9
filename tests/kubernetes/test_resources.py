"""What workers ask for on Kubernetes follows from what they were seen to use: the table of docs/benchmarks.md."""

import re
from pathlib import Path

import pytest
from kube_rendered import named, resources

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("kubectl_here")]
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_MEASURED = _PAGE.read_text().partition("## How a worker starts")[2]
_ROW = re.compile(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", re.MULTILINE)
SEEN = {name: (float(start), int(load), float(cpu)) for name, _, start, _, load, cpu in _ROW.findall(_MEASURED)}
"""Worker -> processor seconds until it was ready, MiB under load, processor seconds in all."""
LOAD_S = 60.0
HOSTED = {"feed": "ingestion", "ingress": "ingestion"}
WORKLOADS = (
    *(("Deployment", name) for name in ("feed", "decider", "risk", "execution", "feedback", "control")),
    *(("StatefulSet", name) for name in ("ingress", "experts", "voting", "sinks")),
)
_STEP_MIB = 64


def test_the_table_has_every_worker() -> None:
    assert {HOSTED.get(name, name) for _, name in WORKLOADS} == SEEN.keys()


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_it_asks_for_what_it_was_seen_to_use(kind: str, name: str) -> None:
    [container] = named(resources("prod"), kind, name)["spec"]["template"]["spec"]["containers"]
    asked, limit = container["resources"]["requests"], container["resources"]["limits"]
    start_s, load_mib, cpu_s = SEEN[HOSTED.get(name, name)]
    least = -(-load_mib * 1.25 // _STEP_MIB) * _STEP_MIB
    assert least <= _mib(asked["memory"]) <= 2 * least
    assert _mib(limit["memory"]) >= 2 * _mib(asked["memory"])
    assert _cores(asked["cpu"]) >= (cpu_s - start_s) / LOAD_S


def _mib(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]  # it fails the test
    return float(number) * (1024 if unit == "Gi" else 1)


def _cores(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
