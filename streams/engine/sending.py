"""Records to the broker: none awaited by itself, a batch's acknowledgements awaited once, a failure ends the worker."""

import asyncio
from collections.abc import Sequence
from typing import Any

from streams.engine.ports import Outgoing, WorkerFailed

Acknowledgements = list["asyncio.Future[Any]"]


class Sender:
    """Sends by the app's producer. The order of calls is the order in each partition (the producer is idempotent)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def send(self, outgoing: Sequence[Outgoing]) -> list[tuple[str, int, int]]:
        """Write records; return (topic, partition, offset) of each. Raises WorkerFailed when one is refused."""
        return await self.confirm(await self.post(outgoing))

    async def post(self, outgoing: Sequence[Outgoing]) -> Acknowledgements:
        """Hand records to the producer, in order, and return what ``confirm`` waits for. Raises WorkerFailed."""
        send = self._app.producer.send
        try:
            return [await send(o.topic, o.key, o.value, o.partition, None, list(o.headers) or None) for o in outgoing]
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise _failure(error) from error

    async def confirm(self, pending: Acknowledgements) -> list[tuple[str, int, int]]:
        """Wait until Kafka has every record; return (topic, partition, offset) of each. Raises WorkerFailed."""
        try:
            written = await asyncio.gather(*pending)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise _failure(error) from error
        return [(metadata.topic, metadata.partition, metadata.offset) for metadata in written]


def _failure(error: Exception) -> WorkerFailed:
    # Whatever the client raises: numbered records after a lost one must not follow it.
    return WorkerFailed(f"Kafka did not take a record: {error}")
