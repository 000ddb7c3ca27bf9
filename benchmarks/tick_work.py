"""The work that every contestant of the transport benchmark does for a tick, and nothing of how it came.

Decode one Avro trade, keep an average price and a flow per symbol, vote once in a hundred ticks. It imports no package
of ours, so that a contestant in another environment can run it.
"""

import io
import json
from pathlib import Path
from typing import Any

import fastavro

VOTE_EVERY = 100
FRAME_BYTES = 5
WEIGHT = 0.05
SUBJECT = "tradermind.market.event.v1-Trade"


def committed_schema() -> Any:
    """Return the parsed schema of a trade, from the file that producers are given."""
    folder = Path(__file__).resolve().parents[1] / "schemas" / "avro"
    return fastavro.parse_schema(json.loads((folder / f"{SUBJECT}.v1.avsc").read_text()))


class TickWork:
    """One reader's state: per symbol (ticks, average price, signed flow)."""

    def __init__(self) -> None:
        self._schema = committed_schema()
        self._state: dict[str, tuple[int, float, int]] = {}

    def take(self, value: bytes) -> bytes | None:
        """Return a vote for every hundredth tick of a symbol, else None."""
        buffer = io.BytesIO(value)
        buffer.seek(FRAME_BYTES)
        tick: Any = fastavro.schemaless_reader(buffer, self._schema, None)
        count, average, flow = self._state.get(tick["key"], (0, float(tick["price"]), 0))
        average += WEIGHT * (tick["price"] - average)
        flow += tick["quantity"]
        self._state[tick["key"]] = (count + 1, average, flow)
        if (count + 1) % VOTE_EVERY:
            return None
        return json.dumps({"symbol": tick["key"], "count": count + 1, "average": average, "flow": flow}).encode()
