"""The codec against its contract: committed examples, every event type, and hostile bytes."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import RECORD_BYTES_MAX, Codec
from schemas.dead_letters import BadRecord, DeadLetterReason, UnknownRecordType
from schemas.ingress import IngestTrade
from schemas.market import BookSnapshot, Quote
from schemas.schema_table import SchemaTable
from schemas.topics import EXPERT_VOTE, INGEST_TRADE, INGEST_VOTE, MARKET_EVENT, TOPICS

EXAMPLES = Path(__file__).resolve().parents[2] / "schemas" / "examples"
CODEC = Codec(SchemaTable.committed())
INTEGERS = st.integers(-(2**63), 2**63 - 1)


def _load(folder: str) -> list[Any]:
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in sorted((EXAMPLES / folder).iterdir())]


@pytest.mark.parametrize("example", _load("accepted"))
def test_accepted_example_is_read_and_written_to_the_same_bytes(example: dict[str, Any]) -> None:
    framed = bytes.fromhex(example["framed_hex"])
    event = CODEC.decode(example["topic"], framed)
    assert type(event).__name__ == example["record"]
    assert json.loads(msgspec.json.encode(event)) == example["fields"]
    assert CODEC.encode(example["topic"], event) == framed


@pytest.mark.parametrize("example", _load("refused"))
def test_refused_example_is_refused_with_its_reason(example: dict[str, Any]) -> None:
    with pytest.raises(BadRecord) as refused:
        CODEC.decode(example["topic"], bytes.fromhex(example["framed_hex"]))
    assert refused.value.reason == example["reason"]


def test_every_record_of_the_topic_table_has_an_accepted_example() -> None:
    names = {path.stem for path in (EXAMPLES / "accepted").iterdir()}
    assert names == {f"{topic.subject(record)}.v1" for topic in TOPICS.values() for record in topic.records}


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_never_crash(value: bytes) -> None:
    with pytest.raises((BadRecord, UnknownRecordType)):
        CODEC.decode(INGEST_VOTE.name, value)


@given(st.binary(max_size=300), st.sampled_from(sorted(SchemaTable.committed().subjects().values())))
def test_random_bodies_under_a_known_id_end_as_an_event_or_a_refusal(body: bytes, schema_id: int) -> None:
    value = b"\0" + schema_id.to_bytes(4, "big") + body
    try:
        event = CODEC.decode(INGEST_TRADE.name, value)
    except (BadRecord, UnknownRecordType):
        return
    assert isinstance(event, IngestTrade)


@given(bid=st.none() | INTEGERS, ask=st.none() | INTEGERS, event_time=INTEGERS)
def test_a_quote_survives_the_wire(bid: int | None, ask: int | None, event_time: int) -> None:
    quote = Quote(
        key="X:Y",
        event_time_ns=event_time,
        available_at_ns=1,
        bid_price=bid,
        bid_quantity=None,
        ask_price=ask,
        ask_quantity=7,
    )
    assert CODEC.decode(MARKET_EVENT.name, CODEC.encode(MARKET_EVENT.name, quote)) == quote


def test_a_type_that_does_not_belong_to_the_topic_is_unknown_there() -> None:
    quote = Quote(
        key="X:Y", event_time_ns=1, available_at_ns=1, bid_price=1, bid_quantity=1, ask_price=2, ask_quantity=1
    )
    with pytest.raises(UnknownRecordType):
        CODEC.decode(EXPERT_VOTE.name, CODEC.encode(MARKET_EVENT.name, quote))


def test_too_large_a_record_is_refused_both_ways() -> None:
    levels = tuple(range(2**62, 2**62 + 80_000))
    book = BookSnapshot(
        key="X:Y",
        event_time_ns=1,
        available_at_ns=1,
        update_id=1,
        bid_prices=levels,
        bid_quantities=levels,
        ask_prices=(),
        ask_quantities=(),
    )
    with pytest.raises(BadRecord) as refused:
        CODEC.encode(MARKET_EVENT.name, book)
    assert refused.value.reason is DeadLetterReason.TOO_LARGE
    with pytest.raises(BadRecord) as refused:
        CODEC.decode(MARKET_EVENT.name, b"\0" * (RECORD_BYTES_MAX + 1))
    assert refused.value.reason is DeadLetterReason.TOO_LARGE


def test_an_avro_bomb_is_refused_without_memory() -> None:
    """A map or array that claims 2^40 items in a few bytes must fail on its missing bytes, not allocate for them."""
    schema_id = SchemaTable.committed().id_of(INGEST_VOTE.subject(INGEST_VOTE.records[0]))
    zigzag = bytearray()
    count = (1 << 40) << 1
    while count > 0x7F:
        zigzag.append(count & 0x7F | 0x80)
        count >>= 7
    zigzag.append(count)
    example = json.loads((EXAMPLES / "accepted" / f"{INGEST_VOTE.name}-IngestVote.v1.json").read_text())
    body = bytes.fromhex(example["framed_hex"])[5:]
    tracemalloc.start()
    with pytest.raises(BadRecord) as refused:
        CODEC.decode(INGEST_VOTE.name, b"\0" + schema_id.to_bytes(4, "big") + body[:-22] + bytes(zigzag))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.reason is DeadLetterReason.MALFORMED
    assert peak < 1_000_000


def test_a_schema_guid_in_the_headers_names_the_schema() -> None:
    table = SchemaTable.committed()
    trade = json.loads((EXAMPLES / "accepted" / f"{INGEST_TRADE.name}-IngestTrade.v1.json").read_text())
    framed = bytes.fromhex(trade["framed_hex"])
    writer = table.writer(int.from_bytes(framed[1:5], "big"))
    assert writer is not None
    headers = [("__value_schema_id", b"\x01" + bytes.fromhex(writer.fingerprint[:32]))]
    assert CODEC.decode(INGEST_TRADE.name, framed[5:], headers) == CODEC.decode(INGEST_TRADE.name, framed)
    with pytest.raises(BadRecord) as refused:
        CODEC.decode(INGEST_TRADE.name, framed[5:], [("__value_schema_id", b"\x01" + b"\0" * 16)])
    assert refused.value.reason is DeadLetterReason.SCHEMA_UNKNOWN


def test_a_guid_header_without_a_value_is_no_guid() -> None:
    """Kafka allows a header whose value is null; the clients give None, whatever their types say."""
    trade = json.loads((EXAMPLES / "accepted" / f"{INGEST_TRADE.name}-IngestTrade.v1.json").read_text())
    headers: Any = [("__value_schema_id", None)]
    framed = bytes.fromhex(trade["framed_hex"])
    assert CODEC.decode(INGEST_TRADE.name, framed, headers) == CODEC.decode(INGEST_TRADE.name, framed)


def test_a_record_without_a_value_is_refused() -> None:
    with pytest.raises(BadRecord):
        CODEC.decode(INGEST_TRADE.name, None)


def test_the_codec_writes_what_fastavro_reads_alone() -> None:
    example = json.loads((EXAMPLES / "accepted" / f"{MARKET_EVENT.name}-Quote.v1.json").read_text())
    framed = bytes.fromhex(example["framed_hex"])
    schema = json.loads((EXAMPLES.parent / "avro" / f"{MARKET_EVENT.name}-Quote.v1.avsc").read_text())
    assert fastavro.schemaless_reader(io.BytesIO(framed[5:]), schema) == example["fields"]
