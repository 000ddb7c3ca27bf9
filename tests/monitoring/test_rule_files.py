"""Rules, their tests and their runbooks fit together and to the table of metrics. Nothing is started here."""

import re
import subprocess
from collections import Counter

import pytest
import yaml
from alert_files import (
    ALERTS_PAGE,
    PROMETHEUS,
    ROOT,
    RULES,
    TABLE_BEGIN,
    TABLE_END,
    Alert,
    alerts,
    groups,
    recorded,
    seconds,
    table_of_alerts,
    unit_tests,
)
from typer.main import get_command

from infra.metrics.table import METRICS, SERIES
from infra.servers.prometheus import promtool_at_hand
from streams.cli import app

_COMMANDS = get_command(app)
_HEADINGS = ["What it means", "What is at risk", "First look", "Mend", "When it is over"]
_NAME = re.compile(r"\b(?:[a-z_]+:)?tradermind_[a-z0-9_]+(?::[a-z0-9_]+)?")
_OF_PROMETHEUS = {"up"}
_OF_A_SCRAPE = {"worker", "instance", "job"}
_MADE_UP = {"tradermind_bad", "tradermind_objective"}  # Of the service levels: no metric, but what is made of some.


def _series_of(metric: str) -> set[str]:
    return {metric, *(f"{metric}_{part}" for part in ("bucket", "count", "sum"))}


def test_every_name_in_an_expression_is_told_or_recorded() -> None:
    expressions = [alert.expression for alert in alerts()] + [text for texts in recorded().values() for text in texts]
    asked = {name for text in expressions for name in _NAME.findall(text)}
    assert len(asked) > 30
    assert asked <= SERIES | set(recorded())


@pytest.mark.parametrize("name", sorted(recorded()))
def test_what_is_recorded_says_level_metric_and_operation(name: str) -> None:
    level, metric, operation = name.split(":")
    assert level
    assert operation
    assert metric in _MADE_UP or metric in METRICS or f"{metric}_total" in METRICS


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_what_it_must(alert: Alert) -> None:
    assert alert.labels.keys() == {"severity", "team"}
    assert alert.labels["severity"] in {"page", "warning", "info"}
    assert alert.labels["team"] in {"trading", "platform"}
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert.annotations["summary"].endswith(".")
    assert alert.annotations["description"].endswith(".")
    assert seconds(alert.lasts) >= 0
    assert (ROOT / alert.annotations["runbook_url"]).is_file()


def test_what_is_about_money_is_evaluated_every_second() -> None:
    paged = [alert for alert in alerts() if (alert.labels["severity"], alert.labels["team"]) == ("page", "trading")]
    at_once = {alert.name: alert.interval for alert in paged if alert.lasts == "0s"}
    assert at_once["RiskLimitBreach"] == at_once["KillSwitchActive"] == at_once["ReconcileMismatch"] == "1s"


def test_whoever_scrapes_does_so_every_second_under_the_name_that_rules_know() -> None:
    for path in (PROMETHEUS / "prometheus.yaml", ROOT / "deploy" / "compose" / "prometheus.yaml"):
        (job,) = [job for job in yaml.safe_load(path.read_text())["scrape_configs"] if job["job_name"] == "tradermind"]
        assert (job["scrape_interval"], job["honor_labels"]) == ("1s", True), path
    monitor = yaml.safe_load((ROOT / "deploy/k8s/components/monitoring/pod-monitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["honorLabels"]) == ("1s", True)
    assert {"targetLabel": "job", "replacement": "tradermind"} in endpoint["relabelings"]


def test_every_alert_is_tested_both_ways() -> None:
    fires, quiet = Counter[str](), Counter[str]()
    for test in unit_tests():
        for check in test["alert_rule_test"]:
            (fires if check.get("exp_alerts") else quiet)[check["alertname"]] += 1
    names = [alert.name for alert in alerts()]
    assert len(names) == len(set(names))
    assert [name for name in names if not fires[name]] == []
    # The dead man's switch has no other way.
    assert [name for name in names if not quiet[name]] == ["WatchdogAlwaysFiring"]
    assert set(fires) | set(quiet) == set(names)


def test_the_tests_use_series_as_the_platform_tells_them() -> None:
    known = {name: set(metric.labels) for metric in METRICS.values() for name in _series_of(metric.name)}
    for test in unit_tests():
        for series in (one["series"] for one in test["input_series"]):
            name, _, rest = series.partition("{")
            labels = set(re.findall(r"(\w+)=", rest))
            if name not in _OF_PROMETHEUS:
                assert name in SERIES, series
                assert labels <= known[name] | _OF_A_SCRAPE | {"le"}, series


def test_every_runbook_is_an_alert_s() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {alert.name for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_a_runbook_has_its_headings_and_commands_that_exist(alert: Alert) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{alert.name}.md").read_text()
    assert text.startswith(f"# {alert.name}\n")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert parts[1::2] == _HEADINGS
    assert all(len(part.split()) >= 3 for part in parts[2::2])
    first_look = re.search(r"```sh\n(.*?)```", parts[2 * _HEADINGS.index("First look") + 2], re.DOTALL)
    assert first_look is not None
    assert first_look[1].startswith("tradermind ")
    told = [*first_look[1].splitlines(), *re.findall(r"`(tradermind [^`]+)`", text)]
    for line in told:
        _assert_exists(line.partition("#")[0].split())


def _assert_exists(words: list[str]) -> None:
    """Hold a command line, as people are told to type it, to the command line that there is."""
    command, rest = _COMMANDS, words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    wrong = [word for word in rest if word.startswith("--") and word not in options]
    assert not wrong, f"{' '.join(words)}: there is no {wrong}"
    takes = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    assert takes or not rest or rest[0].startswith("-"), f"{' '.join(words)}: there is no {rest[0]}"
    assert not getattr(command, "commands", {}) or not rest, f"{' '.join(words)}: there is no {rest[:1]}"


def test_the_page_lists_what_the_rules_say() -> None:
    page = ALERTS_PAGE.read_text()
    listed = page.partition(TABLE_BEGIN)[2].partition(TABLE_END)[0]
    assert listed == table_of_alerts(), f"between its marks docs/alerts.md must say:\n{table_of_alerts()}"


def test_a_group_is_named_once_and_says_how_often() -> None:
    both = groups("alerts.yaml") + groups("recording.yaml")
    names = [group["name"] for group in both]
    assert len(names) == len(set(names))
    assert all(group["interval"] in {"1s", "5s", "15s"} for group in both)


def test_promtool_takes_the_rules() -> None:
    """The check that works without a network. Where the tool is not at hand, the suite's summary must say so."""
    tool = promtool_at_hand()
    if tool is None:
        pytest.skip("promtool is not in the cache: the rules were not given to it")
    files = [str(RULES / "alerts.yaml"), str(RULES / "recording.yaml"), str(PROMETHEUS / "prometheus.yaml")]
    for arguments in (["check", "rules", *files[:2]], ["check", "config", files[2]]):
        told = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
