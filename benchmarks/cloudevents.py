"""What CloudEvents headers cost a record, from the stage that emits it to the reader that parses it.

``python -m benchmarks.cloudevents`` prints microseconds of CPU and bytes per record, without and with the headers:
making them, putting records into a batch and taking them out again as aiokafka does, and the outbox row.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from benchmarks.machine import describe
from schemas.cloudevents import CloudEvents, CloudEventsOn
from schemas.codec import Codec
from schemas.decisions import OrderDenied
from schemas.schema_table import SchemaTable
from schemas.topics import ORDER_DENIED, TOPICS
from streams.engine.journal import encode_outbox
from streams.engine.ports import Outgoing
from streams.engine.shard import ORIGIN_HEADER

_RECORDS: Final = 20_000
_BATCH: Final = 500
_ROUNDS: Final = 7


def _event() -> Any:
    from importlib.resources import files

    file = files("schemas") / "examples" / "accepted" / f"{ORDER_DENIED.subject(OrderDenied)}.v1.json"
    framed = bytes.fromhex(json.loads(file.read_text())["framed_hex"])
    return framed, Codec(SchemaTable.committed()).decode(ORDER_DENIED.name, framed)


def _emit(cloud: CloudEvents) -> list[Outgoing]:
    value, event = _event()
    origin = ((ORIGIN_HEADER, str(time.time_ns()).encode()),)
    topic = ORDER_DENIED.name
    return [Outgoing(topic, 0, b"SIM:BTCUSD", value, origin + cloud.headers(topic, event)) for _ in range(_RECORDS)]


def _batches(outgoing: Sequence[Outgoing]) -> list[bytes]:
    batches = []
    for start in range(0, _RECORDS, _BATCH):
        builder: Any = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 16 * 2**20)
        for offset, record in enumerate(outgoing[start : start + _BATCH]):
            builder.append(offset, 0, record.key, record.value, list(record.headers))
        batches.append(bytes(builder.build()))
    return batches


def _read(batches: Sequence[bytes]) -> int:
    parsed: Any = DefaultRecordBatch
    return sum(len(record.headers) for batch in batches for record in parsed(batch))


def _rows(outgoing: Sequence[Outgoing]) -> int:
    return sum(len(encode_outbox(outgoing[start : start + _BATCH]) or b"") for start in range(0, _RECORDS, _BATCH))


def _us(work: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / _RECORDS * 1e6


def measure(on: CloudEventsOn) -> dict[str, float]:
    """Return CPU microseconds and bytes per record with the headers on these topics."""
    cloud = CloudEvents("risk/0", on)
    outgoing = _emit(cloud)
    batches = _batches(outgoing)
    return {
        "emit_us": _us(lambda: _emit(cloud)),
        "produce_us": _us(lambda: _batches(outgoing)),
        "fetch_us": _us(lambda: _read(batches)),
        "outbox_us": _us(lambda: _rows(outgoing)),
        "kafka_bytes": sum(map(len, batches)) / _RECORDS,
        "outbox_bytes": _rows(outgoing) / _RECORDS,
    }


def main() -> None:
    """Print both columns."""
    print(describe())
    without, with_headers = measure(CloudEventsOn.OFF), measure(CloudEventsOn.ALL)
    print(f"{'':14} {'without':>9} {'with':>9} {'more':>9}")
    for name, value in without.items():
        print(f"{name:14} {value:9.2f} {with_headers[name]:9.2f} {with_headers[name] - value:+9.2f}")
    print(f"of {len(TOPICS)} topics, {sum(topic.money for topic in TOPICS.values())} carry them by default")


if __name__ == "__main__":
    main()
