"""What all tests share: the servers' fixtures, and hypothesis without wall-clock deadlines."""

import importlib.util

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["servers"]

TRAINING = importlib.util.find_spec("torch") is not None
collect_ignore = [] if TRAINING else ["training"]

# A loaded machine is not a failing test: no deadline, and no complaint that data is slow to make.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the test that takes by far the longest: of two processes none must wait for it at the end."""

    def seconds(item: pytest.Item) -> float:
        marker = item.get_closest_marker("slow")
        return 0.0 if marker is None else float(marker.kwargs.get("seconds", 0))

    items.sort(key=seconds, reverse=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this environment cannot run."""
    if not TRAINING:
        terminalreporter.write_line("not run here: tests/training, which need torch: make test-train")
