"""A network between an executor and the exchange that can hold the executor's words back, and deliver them much later.

To the venue it is the same as a sender that was stalled after its last check: a request that was made long ago, by
somebody who may have been replaced since.
"""

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Self

from infra.servers import free_port
from infra.servers.ports import LOOPBACK

_READ_BYTES = 64 * 1024
_LINGER_S = 1.0


class HeldLine:
    """A proxy on a port of its own, in a thread of its own. What the exchange says always passes.

    ``held_orders`` counts the requests for orders that are held at this moment.
    """

    def __init__(self, target: str) -> None:
        self._target_port = int(target.rsplit(":", 1)[1])
        self.port = free_port()
        self.held_orders = 0
        self._loop = asyncio.new_event_loop()
        self._free = asyncio.Event()

    @property
    def url(self) -> str:
        """Where the exchange seems to be."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Listen; return itself."""
        listening: Future[None] = Future()
        threading.Thread(target=self._serve, args=(listening,), name="held line", daemon=True).start()
        listening.result(10)
        return self

    def hold(self) -> None:
        """Hold back whatever is said from now on."""
        self._loop.call_soon_threadsafe(self._free.clear)

    def release(self) -> None:
        """Deliver what was held back, and hold nothing more."""
        self._loop.call_soon_threadsafe(self._free.set)

    def stop(self) -> None:
        """Deliver what is left and end."""
        self.release()
        self._loop.call_soon_threadsafe(self._loop.call_later, _LINGER_S, self._loop.stop)

    def _serve(self, listening: "Future[None]") -> None:
        asyncio.set_event_loop(self._loop)
        self._free.set()
        self._loop.run_until_complete(asyncio.start_server(self._connect, LOOPBACK, self.port))
        listening.set_result(None)
        self._loop.run_forever()

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            answers, far = await asyncio.open_connection(LOOPBACK, self._target_port)
        except OSError:
            near.transport.abort()
            return
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pass_on(reader, far), self._answer(answers, near))

    async def _pass_on(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while said := await reader.read(_READ_BYTES):
            orders = said.count(b"POST /v1/order ")
            if not self._free.is_set():
                self.held_orders += orders
                await self._free.wait()
                self.held_orders -= orders
            far.write(said)
            await far.drain()
        # A server that hears of the end together with the request would not carry it out.
        await asyncio.sleep(_LINGER_S)
        far.close()

    async def _answer(self, answers: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        while said := await answers.read(_READ_BYTES):
            near.write(said)
            await near.drain()
        near.close()
