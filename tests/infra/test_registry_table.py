"""What a worker asks a registry, how often, and what it does while the registry is away."""

import asyncio
import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import pytest
from registry_server import RegistryServer, registry_server

from infra.registry_client import Registered, RegistryClient, RegistryFailed, RegistryUnreachable
from infra.registry_table import RegistryTable, open_registry_table, registered_versions
from infra.settings_registry import RegistrySettings
from schemas.codec import Codec
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.ingress import IngestTrade
from schemas.schema_table import SchemaTable, subject_schemas
from schemas.topics import INGEST_TRADE, MARKET_EVENT

FOREIGN = {
    "type": "record",
    "name": "IngestTrade",
    "namespace": "another.team",
    "fields": [
        {"name": "desk", "type": "string"},
        {"name": "event_id", "type": "string"},
        {"name": "instrument", "type": "string"},
        {"name": "event_time_ns", "type": "long"},
        {"name": "trade_id", "type": "string"},
        {"name": "price", "type": "int"},
        {"name": "quantity", "type": "long"},
    ],
}
TRADE = {
    "desk": "d",
    "event_id": "e1",
    "instrument": "EXT:DEMO",
    "event_time_ns": 1,
    "trade_id": "t",
    "price": 100,
    "quantity": 7,
}


@dataclass
class Fetched:
    topic: str
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def _body(schema: Any, fields: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(dict(schema)), fields)
    return buffer.getvalue()


def _record(schema_id: int, schema: Any = FOREIGN, fields: Any = None) -> Fetched:
    return Fetched(INGEST_TRADE.name, b"\0" + struct.pack(">I", schema_id) + _body(schema, fields or TRADE))


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def _settings(server: RegistryServer, **changed: Any) -> RegistrySettings:
    return RegistrySettings(url=server.url, timeout_ms=2_000, **changed)


@pytest.fixture
def table(server: RegistryServer, tmp_path: Path) -> RegistryTable:
    return open_registry_table(_settings(server), tmp_path)


def _learn(table: RegistryTable, *records: Fetched) -> None:
    asyncio.run(table.learn(records))


def _decoded(table: RegistryTable, record: Fetched) -> Any:
    return Codec(table).decode(record.topic, record.value, record.headers)


def test_all_our_subjects_are_fetched_at_the_start_and_never_again(
    server: RegistryServer, table: RegistryTable
) -> None:
    assert table.subjects() == SchemaTable.committed().subjects()
    asked = len(server.asked)
    example = SchemaTable.committed()
    framed = b"\0" + struct.pack(">I", example.id_of(MARKET_EVENT.subject(MARKET_EVENT.records[0])))
    _learn(table, *[Fetched(MARKET_EVENT.name, framed)] * 1000)
    assert len(server.asked) == asked


def test_another_teams_schema_is_asked_for_once_and_then_read(server: RegistryServer, table: RegistryTable) -> None:
    server.extra[4711] = {"schema": json.dumps(FOREIGN)}
    record = _record(4711)
    with pytest.raises(BadRecord) as refused:
        _decoded(table, record)
    assert refused.value.reason is DeadLetterReason.SCHEMA_UNKNOWN
    _learn(table, *[record] * 500)
    _learn(table, record)
    trade = _decoded(table, record)
    assert isinstance(trade, IngestTrade)
    assert (trade.price, trade.quantity, trade.aggressor) == (100, 7, None)
    assert server.asked.count("/schemas/ids/4711") == 1


def test_a_guid_in_the_header_is_asked_for_once_and_then_read(server: RegistryServer, table: RegistryTable) -> None:
    guid = bytes(range(16))
    text = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    server.by_guid[text] = {"schema": json.dumps(FOREIGN), "guid": text}
    record = Fetched(INGEST_TRADE.name, _body(FOREIGN, TRADE), [("__value_schema_id", b"\x01" + guid)])
    _learn(table, record, record)
    assert isinstance(_decoded(table, record), IngestTrade)
    assert server.asked.count(f"/schemas/guids/{text}") == 1


def test_a_registrys_own_guid_of_our_schema_is_known_from_the_start(table: RegistryTable) -> None:
    schema = subject_schemas()[INGEST_TRADE.subject(IngestTrade)]
    guid = table._client.look_up(INGEST_TRADE.subject(IngestTrade), schema)
    assert guid is not None and guid.guid is not None
    record = Fetched(INGEST_TRADE.name, _body(schema, TRADE | {"aggressor": None}))
    record.headers = [("__value_schema_id", b"\x01" + guid.guid)]
    assert isinstance(_decoded(table, record), IngestTrade)
    assert table.questions == 0


def test_an_id_that_is_not_there_is_one_question_per_while(server: RegistryServer, tmp_path: Path) -> None:
    now = [0.0]
    known = open_registry_table(_settings(server), tmp_path)
    ours = {name: known._client.look_up(name, schema) for name, schema in subject_schemas().items()}
    complete = {name: [registered] for name, registered in ours.items() if registered is not None}
    table = RegistryTable(known._client, complete, 30, clock=lambda: now[0])
    record = _record(999_999)
    for _ in range(1000):
        _learn(table, record)
    assert server.asked.count("/schemas/ids/999999") == 1
    now[0] = 29.9
    _learn(table, record)
    assert server.asked.count("/schemas/ids/999999") == 1
    now[0] = 30.0
    server.extra[999_999] = {"schema": json.dumps(FOREIGN)}
    _learn(table, record)
    assert server.asked.count("/schemas/ids/999999") == 2
    assert isinstance(_decoded(table, record), IngestTrade)


def test_what_was_refused_is_bounded(table: RegistryTable) -> None:
    for number in range(10_050):
        table._refuse(1_000_000 + number, DeadLetterReason.SCHEMA_UNKNOWN, "is not registered")
    assert len(table._refused) == 10_000


def test_while_the_registry_is_away_the_known_flows_and_the_new_waits(
    server: RegistryServer, table: RegistryTable
) -> None:
    server.extra[77] = {"schema": json.dumps(FOREIGN)}
    server.away = True
    known = Fetched(INGEST_TRADE.name, b"\0" + struct.pack(">I", table.id_of(INGEST_TRADE.subject(IngestTrade))))

    async def outage() -> None:
        await asyncio.wait_for(table.learn([known] * 100), 0.5)
        waiting = asyncio.ensure_future(table.learn([_record(77)]))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        server.away = False
        await asyncio.wait_for(waiting, 5)

    asyncio.run(outage())
    assert isinstance(_decoded(table, _record(77)), IngestTrade)


def test_a_start_while_the_registry_is_away_uses_the_ids_of_the_last_one(
    server: RegistryServer, table: RegistryTable, tmp_path: Path
) -> None:
    server.away = True
    again = open_registry_table(_settings(server), tmp_path)
    assert again.subjects() == table.subjects()
    with pytest.raises(RegistryUnreachable):
        open_registry_table(_settings(server), tmp_path / "elsewhere")
    kept = json.loads((tmp_path / "registry-ids.json").read_text())
    (tmp_path / "registry-ids.json").write_text(json.dumps(kept | {"url": "http://another"}))
    with pytest.raises(RegistryUnreachable):
        open_registry_table(_settings(server), tmp_path)


def test_a_kept_id_of_another_schema_is_not_used(server: RegistryServer, table: RegistryTable, tmp_path: Path) -> None:
    file = tmp_path / "registry-ids.json"
    kept = json.loads(file.read_text())
    kept["ids"][INGEST_TRADE.subject(IngestTrade)][-1][1] = "the fingerprint of a former version"
    file.write_text(json.dumps(kept))
    server.away = True
    with pytest.raises(RegistryUnreachable):
        open_registry_table(_settings(server), tmp_path)


def test_a_schema_of_ours_that_the_registry_lacks_is_one_sentence(tmp_path: Path) -> None:
    with registry_server() as server:
        missing = INGEST_TRADE.subject(IngestTrade)
        server.hide(missing)
        with pytest.raises(RegistryFailed, match=r"lacks 1 of our \d+ schemas, the first under .*schemas register"):
            open_registry_table(_settings(server), tmp_path)


_NESTED = '{"type": "record", "name": "IngestTrade", "fields": [{"name": "a", "type": %s"long"%s}]}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"schema": _NESTED % ("[" * 100_000, "]" * 100_000)}, "more levels than can be read"),
        ({"schema": _NESTED % ("[" * 900, "]" * 900)}, "levels"),
        ({"schema": "{}", "schemaType": "PROTOBUF"}, "only Avro"),
        ({"schema": "{}", "references": [{"name": "a"}]}, "refers to other schemas"),
        ({"schema": json.dumps({"type": "array", "items": "null"})}, "no record"),
        ({"schema": json.dumps({"type": "record", "name": "IngestTrade", "fields": [{"name": "a"}]})}, "no Avro"),
    ],
)
def test_a_schema_that_is_not_to_be_read_with_is_refused_with_its_reason(
    server: RegistryServer, table: RegistryTable, answer: dict[str, Any], reason: str
) -> None:
    server.extra[900] = answer
    record = _record(900)
    _learn(table, record)
    with pytest.raises(BadRecord, match=reason) as refused:
        _decoded(table, record)
    assert refused.value.reason is DeadLetterReason.SCHEMA_REFUSED


def test_an_offline_reader_may_ask_in_the_middle(server: RegistryServer, tmp_path: Path) -> None:
    server.extra[4711] = {"schema": json.dumps(FOREIGN)}
    table = open_registry_table(_settings(server), tmp_path, blocking=True)
    assert isinstance(_decoded(table, _record(4711)), IngestTrade)
    for _ in range(3):
        with pytest.raises(BadRecord):
            _decoded(table, _record(4712))
    assert server.asked.count("/schemas/ids/4712") == 1


class OneSubject(RegistryClient):
    """A registry that has these schemas of one subject."""

    def __init__(self, *schemas: Any) -> None:
        super().__init__(RegistrySettings(url="http://127.0.0.1:1"))
        self.schemas = schemas

    def look_up(self, subject: str, schema: Any) -> Registered | None:
        return Registered(10 + self.schemas.index(schema), schema) if schema in self.schemas else None


def test_former_versions_are_known_from_the_start_as_far_as_they_were_registered() -> None:
    first, second, third = ({"type": "record", "name": "R", "fields": [], "number": number} for number in range(3))
    committed = {"subject": [first, second, third]}
    found = registered_versions(OneSubject(first, third), committed)
    assert [(one.schema_id, one.schema["number"]) for one in found["subject"]] == [(10, 0), (11, 2)]
    with pytest.raises(RegistryFailed, match="lacks 1 of our 1"):
        registered_versions(OneSubject(first, second), committed)
