"""Reads every point back out of a real InfluxDB, by InfluxQL, to be held against what was meant to be in it."""

import json
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from infra.servers import RealInflux

Identity = tuple[str, tuple[tuple[str, str], ...], int]
"""Measurement, tags that have a value, time in ns."""
Points = dict[Identity, dict[str, object]]


def ask(server: RealInflux, bucket: str, query: str) -> list[dict[str, Any]]:
    """Return the series that an InfluxQL query answers with; an error that it tells fails the test."""
    asked = urllib.parse.urlencode({"db": bucket, "epoch": "ns", "q": query})
    (answer,) = server.ask("GET", f"/query?{asked}")["results"]
    assert "error" not in answer, answer
    series: list[dict[str, Any]] = answer.get("series", [])
    return series


def rows_of(series: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return every row of an answer, its tags beside its columns."""
    found = []
    for one in series:
        tags: Mapping[str, object] = one.get("tags", {})
        for row in one["values"]:
            found.append({**tags, **dict(zip(one["columns"], row, strict=True))})
    return found


def all_points(server: RealInflux, bucket: str) -> Points:
    """Return every point of a bucket."""
    found: Points = {}
    for one in ask(server, bucket, "SELECT * FROM /.*/ GROUP BY *"):
        tags: Mapping[str, str] = one.get("tags", {})
        said = tuple(sorted((name, value) for name, value in tags.items() if value))
        for row in one["values"]:
            fields = dict(zip(one["columns"], row, strict=True))
            time_ns = fields.pop("time")
            identity = (str(one["name"]), said, time_ns)
            assert identity not in found
            found[identity] = {name: value for name, value in fields.items() if value is not None}
    return found


def differing(ours: Points, theirs: Points, shown: int = 5) -> str:
    """Return where two sets of points differ, for a message; empty when they do not."""
    missing, added = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
    other = [identity for identity in ours.keys() & theirs.keys() if ours[identity] != theirs[identity]]
    if not (missing or added or other):
        return ""
    said = [f"{len(missing)} missing, {len(added)} more, {len(other)} other, of {len(ours)}"]
    said += [f"missing {identity}" for identity in sorted(missing)[:shown]]
    said += [f"more {identity}" for identity in sorted(added)[:shown]]
    for identity in sorted(other)[:shown]:
        apart = {
            name: (ours[identity].get(name), theirs[identity].get(name))
            for name in ours[identity].keys() | theirs[identity].keys()
            if ours[identity].get(name) != theirs[identity].get(name)
        }
        said.append(f"other {identity}: {json.dumps(apart, default=str)}")
    return "\n".join(said)
