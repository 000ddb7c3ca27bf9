"""The boards by Grafana's own types, version 13; and that these types are no formality."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from grafana_schema import errors_of

from infra.dashboards.every_board import BOARDS, files

pytestmark = pytest.mark.slow(seconds=6)


def _changed(board: dict[str, Any], *path: str | int, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(board)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


def test_every_board_is_of_grafanas_types(grafana_schema: Path) -> None:
    boards = {path.stem: json.loads(path.read_text()) for path in files()}
    assert len(boards) == len(BOARDS)
    assert errors_of(grafana_schema, boards) == []


def test_a_wrong_field_a_wrong_value_and_a_wrong_option_are_found(grafana_schema: Path) -> None:
    board = next(one for one in BOARDS if one.name == "overview").json()
    panels: Any = board["panels"]
    line = next(place for place, panel in enumerate(panels) if panel["type"] == "timeseries")
    wrong = {
        "fine": board,
        "field": _changed(board, "refreshed", value="10s"),
        "value": _changed(board, "graphTooltip", value=7),
        "variable": _changed(board, "templating", "list", 0, "type", value="querry"),
        "annotation": _changed(board, "annotations", "list", 0, "iconColor", value=3),
        "option": _changed(board, "panels", line, "options", "legend", "displayMode", value="tables"),
        "unknown_option": _changed(board, "panels", line, "options", "legends", value={}),
        "drawn": _changed(board, "panels", line, "fieldConfig", "defaults", "custom", "drawStyle", value="lines"),
        "colour": _changed(board, "panels", line, "fieldConfig", "defaults", "color", "mode", value="palette"),
        "limit": _changed(board, "panels", line, "fieldConfig", "defaults", "thresholds", "mode", value="relative"),
        "panel": _changed(board, "panels", line, "describtion", value="x"),
    }
    errors = errors_of(grafana_schema, wrong)
    assert {line.split(".ts(")[0] for line in errors if ".ts(" in line} == wrong.keys() - {"fine"}
