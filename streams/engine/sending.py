"""Records to the broker: none awaited by itself, a batch's acknowledgements awaited once, a failure ends the worker."""

import asyncio
from collections.abc import Sequence
from typing import Any

from streams.engine.flow import Flow
from streams.engine.ports import Outgoing, WorkerFailed
from streams.engine.producing import Acknowledgement

Acknowledgements = list[Acknowledgement]


class Sender:
    """Sends by the app's producer. The order of calls is the order in each partition (the producer is idempotent)."""

    def __init__(self, app: Any, flow: Flow | None = None) -> None:
        self._app = app
        self._flow = flow or Flow()

    async def send(self, outgoing: Sequence[Outgoing]) -> list[tuple[str, int, int]]:
        """Write records; return (topic, partition, offset) of what is in Kafka. Raises WorkerFailed at a refusal."""
        return await self.confirm(await self.post(outgoing))

    async def post(self, outgoing: Sequence[Outgoing]) -> Acknowledgements:
        """Hand records to the producer, in order, and return what ``confirm`` waits for. Raises WorkerFailed."""
        lanes: dict[tuple[str, int], list[Outgoing]] = {}
        for record in outgoing:
            lanes.setdefault((record.topic, record.partition), []).append(record)
        pending: Acknowledgements = []
        try:
            for (topic, partition), records in lanes.items():
                pending += await self._app.producer.write(topic, partition, records)
                self._flow.post(topic, len(records))
            return pending
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise _failure(error) from error

    async def confirm(self, pending: Acknowledgements) -> list[tuple[str, int, int]]:
        """Wait until Kafka has everything; return (topic, partition, offset of the last) of each. Raises WorkerFailed.

        Whoever else waits for the same batch goes on doing so when this is cancelled.
        """
        try:
            written = await asyncio.gather(*(asyncio.shield(one.taken) for one in pending))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise _failure(error) from error
        return [
            (one.topic, one.partition, metadata.offset + one.behind)
            for one, metadata in zip(pending, written, strict=True)
        ]


def _failure(error: Exception) -> WorkerFailed:
    # Whatever the client raises: numbered records after a lost one must not follow it.
    return WorkerFailed(f"Kafka did not take a record: {error}")
