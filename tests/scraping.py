"""Asks workers what they tell of themselves, as Prometheus and the kubelet do."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, Mapping[str, str], float]


def targets_of(directory: Path) -> dict[str, int]:
    """Return worker -> port, as a run tells it to Prometheus."""
    listed = json.loads((directory / "prometheus-targets.json").read_text())
    return {one["labels"]["worker"]: int(one["targets"][0].rpartition(":")[2]) for one in listed}


def scrape(port: int) -> list[Sample]:
    """Return all samples that a worker tells, parsed by Prometheus' own parser."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def ours(ports: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of all workers that bear our name."""
    for port in ports.values():
        yield from (sample for sample in scrape(port) if sample[0].startswith("tradermind_"))


def probe(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of a probe; 0 where nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)
    except (URLError, ConnectionError, TimeoutError):
        return 0, {}
