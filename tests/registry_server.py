"""The embedded registry as a server of the test's own, in a thread, which can be told to be away.

It counts what it is asked, and takes schemas beyond ours when a test puts them in: ``extra`` is id -> answer,
``registered`` is subject -> the schema that it has as version 1 in place of ours.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from infra.registry import EmbeddedRegistry
from schemas.schema_table import SchemaTable


class RegistryServer:
    """A running registry: ``url``, what it was asked, and whether it is away."""

    def __init__(self, table: SchemaTable) -> None:
        self.extra: dict[int, dict[str, Any]] = {}
        self.by_guid: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.away = False
        self.hidden = ""
        self.registered: dict[str, dict[str, Any]] = {}
        self.posted: list[str] = []
        self.credentials: set[str] = set()
        self.url = ""
        self._table = table
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Serve on a loopback port."""
        self._thread.start()
        assert self._ready.wait(10)

    def hide(self, subject: str) -> None:
        """Answer as if nobody had registered this subject."""
        self.hidden = subject

    def stop(self) -> None:
        """Serve no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = EmbeddedRegistry(self._table).application()
        app.middlewares.append(self._watch)
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    @web.middleware
    async def _watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path)
        self.credentials.add(request.headers.get("Authorization", ""))
        if request.method != "GET":
            self.posted.append(request.path)
        if self.away:
            return web.Response(status=503, text="away")
        if self.hidden and f"/subjects/{self.hidden}" in request.path:
            return web.Response(status=404, text=json.dumps({"error_code": 40401, "message": "Subject not found."}))
        for subject, schema in self.registered.items():
            if request.path == f"/subjects/{subject}/versions/1":
                return web.Response(text=json.dumps({"id": 1_000, "version": 1, "schema": json.dumps(schema)}))
        kind, _, name = request.path.removeprefix("/schemas/").partition("/")
        extra = {"ids": {str(number): answer for number, answer in self.extra.items()}, "guids": self.by_guid}
        answer = extra.get(kind, {}).get(name)
        if answer is None:
            found: web.StreamResponse = await handler(request)
            return found
        return web.Response(text=json.dumps(answer), content_type="application/json")


@contextmanager
def registry_server(table: SchemaTable | None = None) -> Iterator[RegistryServer]:
    """Run a registry for as long as the block lasts."""
    server = RegistryServer(table or SchemaTable.committed())
    server.start()
    try:
        yield server
    finally:
        server.stop()
