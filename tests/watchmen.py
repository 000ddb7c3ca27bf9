"""Prometheus and Alertmanager over running workers, by the files that are deployed, with a webhook at their end."""

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from alert_files import ALERTMANAGER, RULES
from alert_receiver import AlertReceiver, alert_receiver, asked, queried
from patience import PATIENCE

from infra.servers import start_alertmanager, start_prometheus

_DEPLOYED = "http://127.0.0.1:9095"
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Watchmen:
    """What watches: Prometheus' URL, and who is told."""

    url: str
    receiver: AlertReceiver

    def values(self, expression: str) -> list[float]:
        """Return the values of an expression now."""
        return [value for _, value in queried(self.url, expression)]

    def firing(self, alert: str) -> set[str]:
        """Return the workers of which an alert fires now, told or held back."""
        found = queried(self.url, f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
        return {labels["worker"] for labels, _ in found}

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule as Prometheus keeps it, with how its evaluation went."""
        return [rule for group in asked(self.url, "api/v1/rules")["groups"] for rule in group["rules"]]


@contextlib.contextmanager
def watchmen(folder: Path, targets: Path) -> Iterator[Watchmen]:
    """Both, started afresh; the addresses that are deployed lead to the webhook, by the same routes."""
    with alert_receiver() as receiver, contextlib.ExitStack() as stack:
        routes = folder / "routes.yaml"
        deployed = ALERTMANAGER.read_text()
        assert _DEPLOYED in deployed
        routes.write_text(deployed.replace(_DEPLOYED, receiver.url))
        manager = start_alertmanager(folder / "alertmanager", config=routes)
        stack.callback(manager.stop)
        server = start_prometheus(folder / "prometheus", targets, RULES, alertmanager=manager.url)
        stack.callback(server.stop)
        yield Watchmen(server.url, receiver)


def probe(port: int, path: str) -> tuple[int, list[str]]:
    """Return what a worker says to a probe: the status, and its reasons."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)["reasons"]
    except HTTPError as error:
        return error.code, json.load(error)["reasons"]


def wait_until(what: str, holds: Callable[[], bool], limit_s: float) -> float:
    """Return after how many seconds it held; fails when it does not within the limit."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s * PATIENCE, f"not within {limit_s * PATIENCE:g} s: {what}"
        time.sleep(POLL_S)
    return time.monotonic() - began
