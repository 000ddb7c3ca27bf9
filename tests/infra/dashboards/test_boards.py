"""The boards as files: fresh, and held to rules that no schema knows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.experts._registry import load
from infra.dashboards.__main__ import main, stale
from infra.dashboards.board import ANNOTATIONS, Board, mentions
from infra.dashboards.boards.foreign import NATIVE_EXPERTS
from infra.dashboards.every_board import BOARDS, ROOT, files
from infra.dashboards.panels import Panel, Table
from infra.dashboards.queries import Prom, Source
from infra.dashboards.variables import VARIABLES
from infra.metrics.table import SERIES, TABLE

ALERTS = ROOT / "deploy" / "prometheus" / "rules" / "alerts.yaml"
PROVISIONED = ROOT / "deploy" / "grafana" / "provisioning"
FOREIGN_SERIES = frozenset(("process_resident_memory_bytes", "process_cpu_seconds_total", "ALERTS"))
"""Of Prometheus and of its library: they are not of our table."""
PANELS = [(f"{board.name}: {panel.title}", panel) for board in BOARDS for panel in board.panels]


def _alerts() -> dict[str, str]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def test_there_are_twelve_and_nobody_has_anothers_uid_or_title() -> None:
    assert len(BOARDS) == 12
    assert len({board.uid for board in BOARDS}) == len({board.title for board in BOARDS}) == 12
    assert [int(board.title.split()[0]) for board in BOARDS] == list(range(1, 13))
    assert all(re.fullmatch(r"tradermind-[a-z]+", board.uid) for board in BOARDS)


def test_the_committed_json_and_the_page_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_a_changed_file_a_missing_one_and_one_too_many_are_told(tmp_path: Path) -> None:
    path, text = next(iter(files().items()))
    assert stale({path: text}) != [], "the others are no board's then"
    [sentence, *_] = stale({path: text + " "})
    assert "is stale" in sentence


def test_a_panel_says_what_it_shows_and_in_which_unit() -> None:
    for name, panel in PANELS:
        made: dict[str, Any] = panel.json(1, 0, 0)
        assert len(made["description"]) > 25, name
        assert made["description"].endswith((".", "`.")), name
        assert made["fieldConfig"]["defaults"]["unit"], name
        assert made["fieldConfig"]["defaults"]["noValue"], name
        assert panel.queries, name
        # Panels but tables make one number of a table, and draw the last row alone.
        tables = {query.table for query in panel.queries if isinstance(query, Prom)}
        assert tables <= {isinstance(panel.kind, Table)}, name


def test_every_series_that_is_asked_for_is_told_by_somebody_with_these_labels() -> None:
    labels = {name: set(metric.labels) | {"worker", "le"} for metric in TABLE for name in metric.series}
    for panel_name, panel in PANELS:
        for text, legend in [(query.text, query.legend) for query in panel.queries if isinstance(query, Prom)]:
            asked = re.findall(r"\b(?:tradermind_\w+|process_\w+|ALERTS)\b", text)
            assert asked, panel_name
            assert set(asked) <= SERIES | FOREIGN_SERIES, panel_name
            for name, where in re.findall(r"(tradermind_\w+)\{([^}]*)\}", text):
                assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", where)) <= labels[name], panel_name
            by = {label for group in re.findall(r"by \(([^)]*)\)", text) for label in re.split(r",\s*", group)}
            assert by <= {label for name in asked for label in labels.get(name, {"worker"})}, panel_name
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= by, (
                f"{panel_name}: its legend names what is summed away"
            )


def test_every_metric_is_on_some_board() -> None:
    asked = "\n".join(query.text for _, panel in PANELS for query in panel.queries if isinstance(query, Prom))
    assert not [metric.name for metric in TABLE if not re.search(rf"\b{metric.name}(_bucket|_count|_sum)?\b", asked)]


def _asked(panel: Panel) -> set[str]:
    """Return the metrics that a panel asks for, histograms by their own name."""
    names = {name for query in panel.queries for name in re.findall(r"tradermind_[a-z_]+", query.text)}
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names if isinstance(panel.queries[0], Prom)}


def test_a_limit_that_names_an_alert_is_the_alerts() -> None:
    alerts = _alerts()
    for name, panel in PANELS:
        for limit in [limit for limit in panel.limits.limits if limit.alert is not None]:
            expression = alerts[limit.alert]
            numbers = re.findall(r"(==|>=|<=|[<>])\s*([\d.]+)", expression)
            # A count that is above 0 is at least 1, and a panel's limit is reached where an alert's is passed.
            allowed = {float(text) for _, text in numbers} | {float(text) + 1 for sign, text in numbers if sign == ">"}
            assert limit.value in allowed, f"{name}: {limit.alert} is {expression}"
            assert _asked(panel) & set(re.findall(r"tradermind_[a-z_]+", expression)), f"{name}: {expression}"


def test_a_limit_without_an_alert_is_of_something_that_no_alert_watches_alone() -> None:
    watched = {name for text in _alerts().values() if len(names := set(re.findall(r"tradermind_[a-z_]+", text))) == 1
               for name in names}  # fmt: skip
    for name, panel in PANELS:
        if any(limit.alert is None for limit in panel.limits.limits):
            assert not _asked(panel) & watched, f"{name}: name the alert of {_asked(panel) & watched}"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_board_fits_its_grid_and_offers_what_it_uses(board: Board) -> None:
    made: dict[str, Any] = board.json()
    places = [panel["gridPos"] for panel in made["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    taken = [(x, y) for place in places for x in range(place["x"], place["x"] + place["w"])
             for y in range(place["y"], place["y"] + place["h"])]  # fmt: skip
    assert len(taken) == len(set(taken)), "panels lie over each other"
    assert len({panel["id"] for panel in made["panels"]}) == len(places)
    assert len({panel.title for panel in board.panels}) == len(board.panels), "two panels have one title"
    offered = {variable["name"] for variable in made["templating"]["list"]}
    text = json.dumps(made)
    assert all(mentions(text.replace(f'"name": "{name}"', ""), name) for name in offered)
    used = set(re.findall(r"\$\{?([a-z]\w*)", text)) - {"timeFilter"}
    assert {name for name in used if not name.startswith("tag_")} <= offered
    assert made["refresh"] == "10s"
    [link] = made["links"]
    assert (link["keepTime"], link["includeVars"]) == (True, True)


def test_no_board_names_a_data_source_of_its_own() -> None:
    for board in BOARDS:
        uids = set(re.findall(r'"uid": "([^"]+)"', json.dumps(board.json()))) - {board.uid}
        assert uids <= {"${" + source.variable + "}" for source in Source}


def test_the_data_sources_are_provisioned_under_the_uids_that_the_boards_begin_with() -> None:
    sources = yaml.safe_load((PROVISIONED / "datasources" / "tradermind.yaml").read_text())["datasources"]
    assert {(one["uid"], one["type"]) for one in sources} == {(one.provisioned, one.kind) for one in Source}
    for one in sources:
        assert one["editable"] is False
        for secret in one.get("secureJsonData", {}).values():
            assert re.search(r"\$[A-Z_]+$", secret), "a secret comes from the environment"
    page = (ROOT / "docs" / "dashboards.md").read_text()
    for name in re.findall(r"\$([A-Z_]+)", (PROVISIONED / "datasources" / "tradermind.yaml").read_text()):
        assert name in page
    [provider] = yaml.safe_load((PROVISIONED / "dashboards" / "tradermind.yaml").read_text())["providers"]
    assert (provider["allowUiUpdates"], provider["options"]["foldersFromFilesStructure"]) == (False, True)


def test_kills_releases_and_changes_of_limits_are_marked_on_every_board() -> None:
    assert {annotation.name for annotation in ANNOTATIONS} == {
        "Kills and levels",
        "Model releases",
        "Changes of limits",
    }
    for board in BOARDS:
        made: dict[str, Any] = board.json()
        assert [one["name"] for one in made["annotations"]["list"]] == [one.name for one in ANNOTATIONS]


def test_every_variable_of_the_table_is_offered_by_some_board() -> None:
    assert {variable.name for board in BOARDS for variable in board.variables} == {one.name for one in VARIABLES}


def test_the_experts_that_are_ours_are_those_of_the_registry() -> None:
    assert set(NATIVE_EXPERTS) == set(load())
