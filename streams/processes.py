"""How a process of ours is started by another: the same interpreter, the same settings, the run's addresses."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.servers.process import ChildProcess, Launch, start_process
from infra.settings import Settings, SettingsError, load_settings


def python_module(module: str) -> list[str]:
    """Return the command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module]


def start_worker(
    stages: Sequence[str],
    run_file: Path,
    settings_file: Path | None,
    directory: Path,
    instance: str | None = None,
) -> ChildProcess:
    """Start a worker process that hosts ``stages``; its output goes to ``logs/<stages>.log``.

    With ``instance`` it is a static member of its consumer group: restarted, it has its partitions back at once.
    """
    name = "-".join(stages)
    command = [*python_module("streams.cli"), "worker", *stages, "--run-file", str(run_file)]
    if settings_file is not None:
        command += ["--settings", str(settings_file)]
    if instance is not None:
        command += ["--instance", instance]
    return start_process(Launch(f"The worker {name}", command, directory / "logs" / f"{name}.log"))


def read_run_file(run_file: Path) -> dict[str, Any]:
    """Return what a run has written about itself. Raises SettingsError."""
    try:
        content: dict[str, Any] = json.loads(run_file.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{run_file} does not describe a run: {error}.") from error
    return content


def settings_of_run(run_file: Path | None, settings_file: Path | None) -> Settings:
    """Return the settings of a file, by default the one that the run was started with, overridden by what the run says.

    Raises SettingsError.
    """
    if run_file is None:
        return load_settings(settings_file)
    described = read_run_file(run_file)
    if settings_file is None and "settings" in described:
        settings_file = Path(described["settings"])
    return load_settings(settings_file, described["overrides"])


def dsn_of(dsn: str | None, run_file: Path | None, settings_file: Path | None) -> str:
    """Return the database that a command was told, else that of the run or of the settings. Raises SettingsError."""
    if dsn is not None:
        return dsn
    configured = settings_of_run(run_file, settings_file).postgres.conninfo()
    if configured is None:
        raise SettingsError("postgres.dsn is not set, and no --dsn was given.")
    return configured
