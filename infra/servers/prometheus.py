"""Prometheus and Alertmanager: what is on the PATH, or else Debian's, fetched into the cache without being root."""

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.servers.child_server import ChildServer
from infra.servers.debian import debian_packages, unpacked_folder
from infra.servers.ports import LOOPBACK, free_port
from infra.servers.process import ChildProcess, Launch, ServerFailed, start_process, wait_until_ready

JOB: Final = "tradermind"
_NAME: Final = "prometheus"
_PACKAGES: Final = ("prometheus", "prometheus-alertmanager")
# Debian calls it so because another package had the name first.
_ALERTMANAGER: Final = ("alertmanager", "prometheus-alertmanager")
# Debian's Alertmanager reads its templates from a folder that only root can make. A program keeps the length of such
# a name beside it, so a name of the same length takes its place: one that begins at the folder it is started in.
_TEMPLATES: Final = b"/usr/share/prometheus/alertmanager"
_TEMPLATES_HERE: Final = b"./././././././././././alertmanager"
_START_S: Final = 30.0
_ANSWER_S: Final = 5.0
_RETENTION: Final = "15d"
# What fires before Alertmanager is known, or while it is away, is told this much later; by default after a minute.
_TOLD_AGAIN: Final = "5s"


class PrometheusMissing(ServerFailed):
    """Prometheus or one of its tools cannot be run here, and why, in one clear sentence."""


@dataclass(slots=True)
class RealPrometheus(ChildServer):
    """A running Prometheus; its data stays in ``directory`` over a stop."""

    url: str
    directory: Path
    process: ChildProcess
    port: int

    def reload(self) -> None:
        """Have it read its configuration and rules again. Raises ServerFailed when it refuses them."""
        status, text = _request("POST", self.port, "/-/reload")
        if status != http.client.OK:
            raise ServerFailed(f"Prometheus refuses its configuration: {text.strip()}")


@dataclass(slots=True)
class RealAlertmanager(ChildServer):
    """A running Alertmanager; its silences and what it has told stay in ``directory`` over a stop."""

    url: str
    directory: Path
    process: ChildProcess
    port: int


def start_prometheus(
    directory: Path,
    targets_file: Path,
    rules: Path | None = None,
    *,
    alertmanager: str | None = None,
    scrape_interval_s: float = 1.0,
    port: int = 0,
) -> RealPrometheus:
    """Start a Prometheus that scrapes what ``targets_file`` (file_sd) names, and return when it answers.

    ``rules`` is the folder of rule files, evaluated as often as it scrapes; ``alertmanager`` a URL. ``port`` 0 means
    any free one. Raises PrometheusMissing or ServerFailed.
    """
    program = _program("prometheus")
    place, port = directory.resolve(), port or free_port()
    place.mkdir(parents=True, exist_ok=True)
    configuration = _configuration(targets_file.resolve(), rules, alertmanager, scrape_interval_s)
    (place / "prometheus.yaml").write_text(json.dumps(configuration, indent=2))  # What is JSON is YAML, too.
    command = [
        str(program),
        f"--config.file={place / 'prometheus.yaml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--storage.tsdb.retention.time={_RETENTION}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--web.enable-lifecycle",
        f"--rules.alert.resend-delay={_TOLD_AGAIN}",
        "--log.level=warn",
    ]
    child = start_process(Launch("Prometheus", command, place / "prometheus.log", directory=place))
    wait_until_ready(child, lambda: _answers(port), _START_S)
    return RealPrometheus(f"http://{LOOPBACK}:{port}", place, child, port)


def _configuration(
    targets_file: Path, rules: Path | None, alertmanager: str | None, interval_s: float
) -> dict[str, object]:
    interval = f"{round(interval_s * 1000)}ms"
    scrape = {
        "job_name": JOB,
        "honor_labels": True,  # A worker says itself who it is, with each series; the target says it of `up`.
        "file_sd_configs": [{"files": [str(targets_file)], "refresh_interval": "5s"}],
    }
    configuration: dict[str, object] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [scrape],
    }
    if rules is not None:
        configuration["rule_files"] = [str(rules.resolve() / "*.yaml")]
    if alertmanager is not None:
        address = alertmanager.removeprefix("http://").rstrip("/")
        configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    return configuration


def start_alertmanager(
    directory: Path, webhook_url: str | None = None, *, config: Path | None = None, port: int = 0
) -> RealAlertmanager:
    """Start an Alertmanager and return when it answers. Raises PrometheusMissing or ServerFailed.

    It goes by the file ``config``; without one it tells every alert to ``webhook_url`` at once. ``port`` 0 means any
    free one.
    """
    program, folder = _alertmanager()
    place, port = directory.resolve(), port or free_port()
    place.mkdir(parents=True, exist_ok=True)
    if config is None:
        config = place / "alertmanager.yaml"
        config.write_text(json.dumps(_everything_to(webhook_url), indent=2))
    command = [
        str(program),
        f"--config.file={config.resolve()}",
        f"--storage.path={place / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--cluster.listen-address=",  # One of its kind: it would wait a while for others, and listen for them.
        "--log.level=warn",
    ]
    child = start_process(Launch("Alertmanager", command, place / "alertmanager.log", directory=folder))
    wait_until_ready(child, lambda: _answers(port), _START_S)
    return RealAlertmanager(f"http://{LOOPBACK}:{port}", place, child, port)


def _everything_to(webhook_url: str | None) -> Mapping[str, Any]:
    receiver: dict[str, object] = {"name": "everything"}
    if webhook_url is not None:
        receiver["webhook_configs"] = [{"url": webhook_url, "send_resolved": True}]
    route = {"receiver": "everything", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"}
    return {"route": route, "receivers": [receiver]}


def promtool() -> Path:
    """Return Prometheus' tool, which checks and tests rules. Raises PrometheusMissing."""
    return _program("promtool")


def amtool() -> Path:
    """Return Alertmanager's tool, which checks and tests routes. Raises PrometheusMissing."""
    return _program("amtool")


def promtool_at_hand() -> Path | None:
    """Return the tool if it need not be fetched: what must work without a network asks this one."""
    found = shutil.which("promtool")
    place = Path(found) if found is not None else unpacked_folder(_NAME) / "usr/bin/promtool"
    return place if place.is_file() else None


def prometheus_version() -> str:
    """Return what the program says of itself, such as ``2.42.0+ds``. Raises PrometheusMissing or ServerFailed."""
    told = subprocess.run([_program("prometheus"), "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\S+)", told.stdout + told.stderr)
    if match is None:
        raise ServerFailed("The program prometheus does not tell its version.")
    return match[1]


def _program(name: str) -> Path:
    found = shutil.which(name)
    return Path(found) if found is not None else _fetched() / "usr/bin" / name


def _alertmanager() -> tuple[Path, Path]:
    """Return the program and the folder to start it in."""
    for name in _ALERTMANAGER:
        found = shutil.which(name)
        if found is not None:
            return Path(found), Path.cwd()
    fetched = _fetched()
    program = fetched / "usr/bin/alertmanager"
    if not program.is_file():
        theirs = (fetched / "usr/bin/prometheus-alertmanager").read_bytes()
        ours = program.with_name(f".alertmanager.{os.getpid()}")
        ours.write_bytes(theirs.replace(_TEMPLATES, _TEMPLATES_HERE))
        ours.chmod(0o755)
        ours.rename(program)
    return program, fetched / "usr/share/prometheus"


def _fetched() -> Path:
    return debian_packages(_NAME, _PACKAGES, PrometheusMissing)


def _answers(port: int) -> bool:
    try:
        return _request("GET", port, "/-/ready")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _request(method: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()
