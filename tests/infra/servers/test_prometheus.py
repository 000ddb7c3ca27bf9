"""The real Prometheus and Alertmanager, found or fetched: they scrape what they are told, and tell what they find."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alert_receiver import alert_receiver, asked, queried
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from infra.servers import ServerFailed, start_alertmanager, start_prometheus
from infra.servers.prometheus import RealPrometheus, amtool, promtool, promtool_at_hand

_RULES = """groups:
  - name: test
    rules:
      - alert: TooHot
        expr: tradermind_test_heat > 5
        labels: {severity: page}
        annotations: {summary: "It is {{ $value }} degrees."}
"""


@pytest.fixture
def heat(tmp_path: Path) -> Iterator[Gauge]:
    """A gauge that is scraped by whoever reads targets.json; its target calls itself by another label, too."""
    registry = CollectorRegistry()
    gauge = Gauge("tradermind_test_heat", "How hot it is.", ["worker"], registry=registry)
    gauge.labels(worker="stove").set(1)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    target = {"targets": [f"127.0.0.1:{server.server_port}"], "labels": {"worker": "stove-0"}}
    (tmp_path / "targets.json").write_text(json.dumps([target]))
    yield gauge
    server.shutdown()
    server.server_close()
    thread.join(5)


def _wait_for(server: RealPrometheus, expression: str) -> list[dict[str, str]]:
    end = time.monotonic() + 15
    while not (found := queried(server.url, expression)):
        assert time.monotonic() < end, f"nothing for {expression}"
        time.sleep(0.05)
    return [dict(labels) for labels, _ in found]


@pytest.mark.usefixtures("prometheus_programs")
def test_a_target_is_scraped_and_an_alert_of_a_rule_reaches_the_webhook(tmp_path: Path, heat: Gauge) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "test.yaml").write_text(_RULES)
    with alert_receiver() as receiver:
        manager = start_alertmanager(tmp_path / "alertmanager", receiver.url)
        server = start_prometheus(
            tmp_path / "prometheus",
            tmp_path / "targets.json",
            tmp_path / "rules",
            alertmanager=manager.url,
            scrape_interval_s=0.2,
        )
        try:
            assert _wait_for(server, "tradermind_test_heat")[0]["worker"] == "stove"
            assert _wait_for(server, 'up{job="tradermind"} == 1')[0]["worker"] == "stove-0"
            assert receiver.told == []
            heat.labels(worker="stove").set(9)
            told = receiver.wait_for("TooHot", 15, worker="stove")
            assert told.annotations["summary"] == "It is 9 degrees."
            heat.labels(worker="stove").set(2)
            receiver.wait_for("TooHot", 15, status="resolved")
        finally:
            server.stop()
            manager.stop()
    assert not server.process.alive()
    assert not manager.process.alive()


@pytest.mark.usefixtures("prometheus_programs")
def test_rules_are_read_again_and_wrong_ones_refused_in_one_sentence(tmp_path: Path, heat: Gauge) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    server = start_prometheus(tmp_path / "prometheus", tmp_path / "targets.json", rules, scrape_interval_s=0.2)
    try:
        (rules / "test.yaml").write_text(_RULES)
        server.reload()
        groups = asked(server.url, "api/v1/rules")["groups"]
        assert [rule["name"] for group in groups for rule in group["rules"]] == ["TooHot"]
        (rules / "test.yaml").write_text(_RULES.replace("> 5", "> > 5"))
        with pytest.raises(ServerFailed, match="refuses its configuration"):
            server.reload()
    finally:
        server.stop()


@pytest.mark.usefixtures("prometheus_programs")
def test_the_tools_are_there_once_fetched() -> None:
    assert promtool().is_file()
    assert amtool().is_file()
    assert promtool_at_hand() == promtool()
