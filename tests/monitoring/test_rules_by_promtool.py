"""Prometheus' and Alertmanager's own tools on the files of deploy/: rules, their unit tests, and who is told what."""

import subprocess

import pytest
from alert_files import ALERTMANAGER, PROMETHEUS, alerts

from infra.servers.prometheus import amtool, promtool


@pytest.mark.slow(seconds=8)
@pytest.mark.usefixtures("prometheus_programs")
def test_every_alert_fires_when_it_must_and_only_then() -> None:
    files = sorted(str(file) for file in (PROMETHEUS / "tests").glob("*.yaml"))
    told = subprocess.run([promtool(), "test", "rules", *files], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("SUCCESS") == len(files)


@pytest.mark.usefixtures("prometheus_programs")
def test_alertmanager_takes_its_configuration() -> None:
    told = subprocess.run([amtool(), "check-config", str(ALERTMANAGER)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.usefixtures("prometheus_programs")
def test_every_alert_goes_to_whom_its_labels_say() -> None:
    told = {}
    for severity, team in {(alert.labels["severity"], alert.labels["team"]) for alert in alerts()}:
        told[severity, team] = _receiver(alertname="Some", severity=severity, team=team)
    assert told == {
        ("page", "trading"): "page-trading",
        ("page", "platform"): "page-platform",
        ("warning", "trading"): "warning",
        ("warning", "platform"): "warning",
        ("info", "trading"): "info",
        ("info", "platform"): "info",
    }
    assert _receiver(alertname="WatchdogAlwaysFiring", severity="info", team="platform") == "watchdog"


def _receiver(**labels: str) -> str:
    given = [f"{name}={value}" for name, value in labels.items()]
    command = [amtool(), "config", "routes", "test", f"--config.file={ALERTMANAGER}", *given]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return told.stdout.strip()
