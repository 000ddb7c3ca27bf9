"""A shard puts CloudEvents headers beside the origin's, on the topics of the setting, and the same ones in a re-run."""

import pytest
from engine_runs import trade
from engine_toys import HOSTINGS, PARTITIONS

from schemas.cloudevents import CloudEventsOn
from schemas.codec import Codec
from schemas.partition import partition_of
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT, MARKET_MARK
from streams.engine.ports import Outgoing, RawRecord
from streams.engine.shard import ORIGIN_HEADER, ShardCore

OWN = [number for number in range(400) if partition_of(trade(number).key, PARTITIONS) == 0]


def _emitted(on: CloudEventsOn) -> list[Outgoing]:
    codec = Codec(SchemaTable.committed(), on)
    core = ShardCore(HOSTINGS["experts"], f"{MARKET_EVENT.name}/0", 0, codec, PARTITIONS)
    for offset, number in enumerate(OWN[:40]):
        value = codec.encode(MARKET_EVENT.name, trade(number))
        core.take(RawRecord(MARKET_EVENT.name, 0, offset, b"k", value, ((ORIGIN_HEADER, b"7"),), 1))
    return core.outgoing


def test_every_record_carries_the_headers_of_its_own_event() -> None:
    codec = Codec(SchemaTable.committed())
    emitted = _emitted(CloudEventsOn.ALL)
    assert emitted
    for record in emitted:
        headers = dict(record.headers)
        event = codec.decode(record.topic, record.value)
        assert headers[ORIGIN_HEADER] == b"7"
        assert headers["ce_id"] == event.event_id.encode()
        assert headers["ce_source"] == f"/tradermind/{event.source}".encode()
    assert emitted == _emitted(CloudEventsOn.ALL)


@pytest.mark.parametrize("on", [CloudEventsOn.OFF, CloudEventsOn.MONEY])
def test_the_market_path_carries_none_unless_asked(on: CloudEventsOn) -> None:
    with_headers, without = _emitted(CloudEventsOn.ALL), _emitted(on)
    assert MARKET_MARK.name in {record.topic for record in without}
    assert all(dict(record.headers) == {ORIGIN_HEADER: b"7"} for record in without)
    assert [record.value for record in without] == [record.value for record in with_headers]
