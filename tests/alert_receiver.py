"""Whom Alertmanager tells (a webhook on loopback), and what a Prometheus answers when asked."""

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from patience import PATIENCE


@dataclass(frozen=True, slots=True)
class Told:
    """One alert as it reached the webhook: by which route, and the wall clock at which it did."""

    at_s: float
    receiver: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at_s: float


class AlertReceiver:
    """A running webhook: ``url`` (with any path), and all it was told, in order."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.told: list[Told] = []
        self._more = threading.Condition()

    def take(self, body: Mapping[str, Any]) -> None:
        """Note one notification, which holds the alerts of one group."""
        at_s = time.time()
        with self._more:
            for alert in body["alerts"]:
                starts_at_s = datetime.fromisoformat(alert["startsAt"]).timestamp()
                told = (body["receiver"], alert["status"], alert["labels"], alert["annotations"], starts_at_s)
                self.told.append(Told(at_s, *told))
            self._more.notify_all()

    def wait_for(self, name: str, deadline_s: float, *, status: str = "firing", **labels: str) -> Told:
        """Return the first such alert, told already or within ``deadline_s``. Fails with what was told instead."""
        with self._more:
            self._more.wait_for(lambda: self._find(name, status, labels) is not None, deadline_s * PATIENCE)
            found = self._find(name, status, labels)
            heard = sorted({(told.labels["alertname"], told.status) for told in self.told})
            assert found is not None, f"{name} was not told {status} within {deadline_s * PATIENCE:g} s, but {heard}"
            return found

    def _find(self, name: str, status: str, labels: Mapping[str, str]) -> Told | None:
        for told in self.told:
            if (told.labels["alertname"], told.status) == (name, status) and labels.items() <= told.labels.items():
                return told
        return None


@contextmanager
def alert_receiver() -> Iterator[AlertReceiver]:
    """A webhook on a free loopback port for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.take(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing: the tests read what was told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = AlertReceiver(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def asked(prometheus_url: str, path: str, **parameters: str) -> Any:
    """Return the ``data`` of an answer of Prometheus' HTTP interface, such as ``api/v1/rules``."""
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    with urllib.request.urlopen(f"{prometheus_url}/{path}{query}", timeout=5) as answer:
        body = json.load(answer)
    assert body["status"] == "success", body
    return body["data"]


def queried(prometheus_url: str, expression: str) -> list[tuple[Mapping[str, str], float]]:
    """Return the series of an instant query, each with its labels and value."""
    found = asked(prometheus_url, "api/v1/query", query=expression)["result"]
    return [(series["metric"], float(series["value"][1])) for series in found]
