"""Records to the broker: none awaited by itself, all acknowledgements awaited once, a failure ends the worker."""

import asyncio
from collections.abc import Sequence
from typing import Any

from streams.engine.ports import Outgoing, WorkerFailed


class Sender:
    """Sends by the app's producer. The order of calls is the order in each partition (the producer is idempotent)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def send(self, outgoing: Sequence[Outgoing]) -> list[tuple[str, int, int]]:
        """Write records; return (topic, partition, offset) of each. Raises WorkerFailed when one is refused."""
        producer = self._app.producer
        try:
            pending = [
                await producer.send(o.topic, o.key, o.value, o.partition, None, list(o.headers) or None)
                for o in outgoing
            ]
            written = await asyncio.gather(*pending)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Whatever the client raises: numbered records after a lost one must not follow it.
            raise WorkerFailed(f"Kafka did not take a record: {error}") from error
        return [(metadata.topic, metadata.partition, metadata.offset) for metadata in written]
