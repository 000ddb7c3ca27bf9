"""The rule files of deploy/ as data: what Prometheus evaluates, and what its unit tests say of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = PROMETHEUS / "rules"
ALERTMANAGER: Final = ROOT / "deploy" / "alertmanager" / "alertmanager.yaml"
ALERTS_PAGE: Final = ROOT / "docs" / "alerts.md"
TABLE_BEGIN: Final = "<!-- made of the rules: begin -->\n"
TABLE_END: Final = "<!-- made of the rules: end -->"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, and how often it is evaluated."""

    name: str
    expression: str
    lasts: str
    labels: dict[str, str]
    annotations: dict[str, str]
    interval: str


def groups(file: str) -> list[dict[str, Any]]:
    """Return the groups of a rule file, as they lie there."""
    return list(yaml.safe_load((RULES / file).read_text())["groups"])


def alerts() -> list[Alert]:
    """Return every alert, in the order of the file."""
    return [
        Alert(rule["alert"], rule["expr"], rule["for"], rule["labels"], rule["annotations"], group["interval"])
        for group in groups("alerts.yaml")
        for rule in group["rules"]
    ]


def recorded() -> dict[str, list[str]]:
    """Return name -> expressions of what is recorded."""
    found: dict[str, list[str]] = {}
    for group in groups("recording.yaml"):
        for rule in group["rules"]:
            found.setdefault(rule["record"], []).append(rule["expr"])
    return found


def unit_tests() -> Iterator[dict[str, Any]]:
    """Yield each test of promtool's, whatever file it lies in."""
    for file in sorted((PROMETHEUS / "tests").glob("*.yaml")):
        yield from yaml.safe_load(file.read_text())["tests"]


def seconds(duration: str) -> int:
    """Return a duration of Prometheus', of one unit, in seconds."""
    match = re.fullmatch(r"(\d+)([smh])", duration)
    assert match is not None, duration
    return int(match[1]) * _SECONDS[match[2]]


def table_of_alerts() -> str:
    """Return the table of docs/alerts.md as the rules have it."""
    lines = ["| alert | told | after | to | what it says |", "|---|---|---|---|---|"]
    for alert in alerts():
        name = f"[{alert.name}](runbooks/{alert.name}.md)"
        summary = re.sub(r"\{\{ *\$labels\.(\w+) *\}\}", r"*\1*", alert.annotations["summary"])
        summary = re.sub(r"\{\{ *\$value[^}]*\}\}", "*value*", summary)
        lines.append(f"| {name} | {alert.labels['severity']} | {alert.lasts} | {alert.labels['team']} | {summary} |")
    return "\n".join(lines) + "\n"
