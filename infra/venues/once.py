"""What goes to a venue goes once: aiohttp itself would send it again.

When a kept connection breaks, aiohttp sends a PUT or a DELETE (which HTTP calls idempotent) once more over a new one,
and nobody is told. An error of another kind than it looks for ends that; who sent the request then asks about it.
"""

import aiohttp


class ConnectionBroken(aiohttp.ClientError):
    """The connection broke; the request may have arrived."""


async def send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Perform a request; a middleware of ``aiohttp.ClientSession``. Raises ConnectionBroken."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionBroken(type(error).__name__) from error
