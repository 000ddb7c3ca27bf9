"""A real schema registry: the platform writes with its ids, reads what others registered, and outlives it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from demo_process import DemoProcess, running_demo
from outsider import Outsider, topic_of
from typer.testing import CliRunner, Result

from infra.registry_client import FULL_TRANSITIVE, RegistryClient, RegistryRefused
from infra.servers import RealRegistry
from infra.settings_registry import RegistrySettings
from schemas.schema_table import SchemaTable, subject_schemas
from schemas.topics import INGEST_TRADE, TOPICS, VOTE_TALLY
from streams.cli import app

pytestmark = pytest.mark.slow
SUBJECT = INGEST_TRADE.subject(INGEST_TRADE.records[0])
UNIT = 100_000_000
FOREIGN = {
    "type": "record",
    "name": "IngestTrade",
    "namespace": "another.team",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "instrument", "type": "string"},
        {"name": "event_time_ns", "type": "long"},
        {"name": "trade_id", "type": "string"},
        {"name": "price", "type": "long"},
        {"name": "quantity", "type": "int"},
        {"name": "desk", "type": {"type": "enum", "name": "Desk", "symbols": ["EAST", "WEST"]}},
    ],
}


def _client(registry: RealRegistry) -> RegistryClient:
    return RegistryClient(RegistrySettings(url=registry.url))


def _run(registry: RealRegistry, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["schemas", *arguments, "--registry", registry.url])


def _states(result: Result) -> dict[str, str]:
    return {row["subject"]: row["state"] for row in json.loads(result.stdout)}


def _with_a_first_id_of_others(registry: RealRegistry) -> None:
    """Take the first ids, so that the registry's are not by chance the committed ones."""
    for number in range(3):
        schema = {"type": "record", "name": f"Other{number}", "fields": [{"name": "a", "type": "long"}]}
        _client(registry).register(f"others-{number}", schema)


def test_check_and_register_against_a_real_registry(real_registry: RealRegistry) -> None:
    client = _client(real_registry)
    dry = _run(real_registry, "register", "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    assert set(_states(dry).values()) == {"new"}
    assert client.subjects() == []

    first = _run(real_registry, "register", "--json")
    assert first.exit_code == 0, first.output
    public = {f"{topic.name}-value" for topic in TOPICS.values() if topic.public}
    assert set(_states(first)) == set(client.subjects()) == set(subject_schemas()) | public
    assert client.compatibility(SUBJECT) == FULL_TRANSITIVE

    again = _run(real_registry, "register", "--json")
    assert set(_states(again).values()) == {"registered"}
    assert all(client.versions(subject) == [1] for subject in client.subjects())
    assert _run(real_registry, "check").exit_code == 0

    # What we say is compatible, and what is not, the registry's own check says, too.
    changed = json.loads(json.dumps(subject_schemas()[SUBJECT]))
    changed["fields"].append({"name": "added", "type": "long"})
    with pytest.raises(RegistryRefused) as refused:
        client.register(SUBJECT, changed)
    assert refused.value.status == 409

    client.set_compatibility(SUBJECT, "NONE")
    client.register(SUBJECT, changed)
    different = _run(real_registry, "check")
    assert different.exit_code == 1
    assert f"{SUBJECT} cannot be read by registered version 2: reader field missing default value" in different.stderr
    unchanged = _run(real_registry, "register")
    assert unchanged.exit_code == 1
    assert client.compatibility(SUBJECT) == "NONE"


@pytest.fixture
def registered(real_registry: RealRegistry) -> RealRegistry:
    """A registry with our schemas, under ids that are not the committed ones."""
    _with_a_first_id_of_others(real_registry)
    result = _run(real_registry, "register")
    assert result.exit_code == 0, result.output
    return real_registry


@pytest.fixture
def platform(registered: RealRegistry, tmp_path: Path) -> Iterator[DemoProcess]:
    with running_demo(tmp_path, changes=[('# url = "http://host:8081"', f'url = "{registered.url}"')]) as demo:
        yield demo


def _fields(number: int, **more: Any) -> dict[str, Any]:
    common = {"event_id": f"e{number}", "instrument": "EXT:DEMO", "event_time_ns": 1, "trade_id": f"t{number}"}
    return common | {"price": 100 * UNIT, "quantity": 1_000_000} | more


def _trades(platform: DemoProcess) -> set[str]:
    return {name for (name,) in platform.rows("SELECT trade_id FROM market_data WHERE instrument = 'EXT:DEMO'")}


@pytest.mark.embedded
def test_the_platform_lives_by_a_registry_and_outlives_it(registered: RealRegistry, platform: DemoProcess) -> None:
    assert platform.registry == registered.url
    outsider = Outsider(platform.bootstrap, platform.registry)

    # Another team writes with Confluent's own serialiser, by a schema of its own that no file of ours holds.
    theirs = SchemaRegistryClient({"url": registered.url})
    serializer = AvroSerializer(theirs, json.dumps(FOREIGN))
    context = SerializationContext("another-team.trades", MessageField.VALUE)
    value: Any = serializer(_fields(1, desk="WEST"), context)
    assert SchemaTable.committed().writer(int.from_bytes(value[1:5], "big")) is None
    outsider.write(topic_of("trade"), value)
    outsider.write(topic_of("trade"), outsider.public("trade", **_fields(2, aggressor="BUY")))
    platform.until(lambda: {"t1", "t2"} <= _trades(platform))

    # What we write carries the registry's ids, and anyone finds the schema by them.
    tally = outsider.at(VOTE_TALLY.name, 0, 0)
    number = int.from_bytes((tally.value() or b"")[1:5], "big")
    client = _client(registered)
    found = client.look_up(
        "tradermind.vote.tally.v1-VoteTally", subject_schemas()["tradermind.vote.tally.v1-VoteTally"]
    )
    assert found is not None and found.schema_id == number
    assert number != SchemaTable.committed().id_of("tradermind.vote.tally.v1-VoteTally")

    # An id that nobody has given: refused, with its reason, and asked about once.
    unknown = b"\0" + (999_999).to_bytes(4, "big") + value[5:]
    outsider.write_all(topic_of("trade"), [unknown] * 50)
    platform.until(lambda: platform.stages()["ingress.trade"]["dead_letters"] == 50)

    # An id that is registered, but seen for the first time when the registry has gone, waits; the rest flows.
    later = dict(FOREIGN, fields=[*FOREIGN["fields"], {"name": "note", "type": "string", "default": ""}])
    new_id = theirs.register_schema("another-team.later-value", Schema(json.dumps(later), "AVRO"))
    before = platform.stages()
    registered.pause()
    outsider.write(topic_of("trade"), value.replace(b"t1", b"t3").replace(b"e1", b"e3"))
    platform.until(lambda: "t3" in _trades(platform))
    outsider.write(topic_of("trade"), _framed(new_id, later, _fields(4, desk="EAST", note="n")))
    platform.until(lambda: platform.stages()["voting"]["records"] > before["voting"]["records"] + 20)
    assert "t4" not in _trades(platform)
    assert platform.stages()["ingress.trade"]["dead_letters"] == 50
    registered.resume()
    platform.until(lambda: "t4" in _trades(platform))

    # And for good: it is killed, and everything known goes on.
    registered.kill()
    before = platform.stages()
    outsider.write(topic_of("trade"), _framed(new_id, later, _fields(5, desk="EAST", note="n")))
    platform.until(lambda: "t5" in _trades(platform))
    platform.until(lambda: platform.stages()["decider"]["records"] > before["decider"]["records"] + 20)


def _framed(schema_id: int, schema: Any, fields: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), fields)
    return b"\0" + schema_id.to_bytes(4, "big") + body.getvalue()
