"""The port on which a worker tells of itself: which one it is, and everything that stands behind it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from infra.metrics.health import Health
from infra.metrics.port import MetricsPort, PortTaken
from infra.metrics.registry import Metrics, our_version
from infra.servers.ports import LOOPBACK
from infra.settings import SettingsError
from infra.settings_metrics import MetricsSettings
from streams.composition import Run
from streams.engine.flow import Flow
from streams.engine.ports import EngineSettings
from streams.engine.telling import Teller

TARGETS: Final = "prometheus-targets.json"
"""The file of a run that tells a Prometheus where its workers are (file_sd)."""


def worker_name(stages: Sequence[str]) -> str:
    """Return the name of a worker process: its stages."""
    return "-".join(stages)


def port_of(settings: MetricsSettings, described: Mapping[str, Any], stages: Sequence[str], given: int | None) -> int:
    """Return the port of a worker: the one that was given, else its own of the run, else that of the settings.

    A run that says nothing of ports has several workers on one machine, which cannot share one: they have none.
    """
    if given is not None:
        return given
    if not described:
        return settings.port
    ports: Mapping[str, int] = described.get("metrics", {})
    return ports.get(worker_name(stages), 0)


def teller_of(run: Run, engine: EngineSettings, stages: Sequence[str], port: int) -> Teller | None:
    """Return what tells of a worker; None for port 0, where nobody asks."""
    if port == 0:
        return None
    metrics = Metrics(worker_name(stages), stages).with_process()
    health = Health(loop_still_s=run.settings.metrics.loop_still_s)
    teller = Teller(metrics, health, Flow(on_capture=run.on_capture))
    teller.build(our_version(), engine.code_version, engine.settings_hash)
    return teller


def open_port(teller: Teller | None, host: str, port: int) -> None:
    """Serve a worker's metrics and probes from now on. Raises SettingsError where the port is taken."""
    if teller is None:
        return
    try:
        MetricsPort(teller.metrics, teller.health, teller.before_scrape).open(host, port)
    except PortTaken as error:
        raise SettingsError(str(error)) from error


def write_targets(file: Path, ports: Mapping[str, int]) -> None:
    """Tell a Prometheus of the workers of a run on this machine, each by its name; in one step, since it watches."""
    targets = [{"targets": [f"{LOOPBACK}:{port}"], "labels": {"worker": name}} for name, port in ports.items()]
    half = file.with_suffix(".half")
    half.write_text(json.dumps(targets, indent=1) + "\n")
    half.replace(file)
