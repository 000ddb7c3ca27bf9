"""The port of a worker: ``/metrics``, ``/livez``, ``/readyz`` and ``/startupz``, served by a thread of its own.

A thread, because the one question that matters most is whether the worker's event loop still turns, and a loop that
hangs cannot answer it.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from typing import Final

from aiohttp import web

from infra.metrics.health import Health, Verdict
from infra.metrics.registry import Metrics

_STOP_S: Final = 5.0
_HEADER_BYTES_MAX: Final = 8 * 1024


class PortTaken(Exception):
    """The port cannot be had, in one clear sentence."""


class MetricsPort:
    """Serves until ``close``. ``before`` is called before each scrape, in the serving thread."""

    def __init__(self, metrics: Metrics, health: Health, before: Callable[[], None] = lambda: None) -> None:
        self._metrics = metrics
        self._health = health
        self._before = before
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._socket is not None
        number: int = self._socket.getsockname()[1]
        return number

    def open(self, host: str, port: int) -> None:
        """Listen, and answer from now on; port 0 is a free one. Raises PortTaken."""
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise PortTaken(
                f"The metrics cannot be served on {host}:{port}: {error.strerror or error}. Give another port by"
                " --metrics-port or metrics.port; 0 is none."
            ) from error
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(_STOP_S)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._until_ended())
        self._loop.close()

    async def _until_ended(self) -> None:
        app = web.Application(client_max_size=0)
        app.add_routes(
            [
                web.get("/metrics", self._tell),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/startupz", self._startupz),
            ]
        )
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.5, handle_signals=False, max_field_size=_HEADER_BYTES_MAX
        )
        await runner.setup()
        assert self._socket is not None
        await web.SockSite(runner, self._socket).start()
        await self._ended.wait()
        await runner.cleanup()

    async def _tell(self, request: web.Request) -> web.Response:
        self._before()
        text, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _livez(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._health.alive())

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._health.ready())

    async def _startupz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._health.started())


def _answer(verdict: Verdict) -> web.Response:
    body = {"ok": verdict.ok, "reasons": list(verdict.reasons), **verdict.facts}
    return web.Response(
        status=200 if verdict.ok else 503, text=json.dumps(body) + "\n", content_type="application/json"
    )
