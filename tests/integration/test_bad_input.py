"""What is wrong on any topic ends as a dead letter with its reason and its own bytes, and the line goes on."""

import hashlib
import math
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_process import PUBLIC, DemoProcess, resident_mib, running_demo
from outsider import Headers, Outsider, topic_of

from schemas.topics import TOPICS
from streams.launch import WORKERS
from streams.quarantined import readers_of

UNIT = 100_000_000
MIB = 2**20
GARBAGE = b"\xde\xad\xbe\xef" * 10
INSTRUMENT = "SIM:BTCUSD"
Build = Callable[[Outsider], bytes | None]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    with running_demo(tmp_path_factory.mktemp("bad")) as demo:
        yield demo


@pytest.fixture(scope="module")
def outsider(platform: DemoProcess) -> Outsider:
    return Outsider(platform.bootstrap, platform.registry)


def _trade(outsider: Outsider, **fields: Any) -> bytes:
    good = {"trade_id": "t", "price": 100 * UNIT, "quantity": UNIT, "aggressor": None}
    return outsider.public("trade", **good | fields)


def _vote(outsider: Outsider, **fields: Any) -> bytes:
    good = {
        "instrument": INSTRUMENT,
        "ballot_id": "no-such-ballot",
        "expert": "stranger",
        "horizon_ns": 10_000_000_000,
        "expires_at_ns": time.time_ns() + 10_000_000_000,
        "p_down": 0.2,
        "p_flat": 0.3,
        "p_up": 0.5,
        "text_fed": False,
        "evidence": {},
    }
    return outsider.public("vote", **good | fields)


def _depth(outsider: Outsider, **fields: Any) -> bytes:
    good = {"first_update_id": 1, "last_update_id": 2, "snapshot": True}
    sides = {"bid_prices": [UNIT], "bid_quantities": [UNIT], "ask_prices": [2 * UNIT], "ask_quantities": [UNIT]}
    return outsider.public("depth", **good | sides | fields)


def _zigzag(number: int) -> bytes:
    value, out = (number << 1) ^ (number >> 63), bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _array_bomb(outsider: Outsider) -> bytes:
    prices = [UNIT + number for number in range(3)]
    plain = _depth(outsider, bid_prices=prices, bid_quantities=prices)
    head = _zigzag(3) + b"".join(map(_zigzag, prices))
    assert plain.count(head) == 2
    return plain.replace(head, _zigzag(2**40) + head[1:], 1)


def _string_bomb(outsider: Outsider) -> bytes:
    plain = _trade(outsider, trade_id="trade-number-one")
    name = _zigzag(16) + b"trade-number-one"
    assert plain.count(name) == 1
    return plain.replace(name, _zigzag(2**40) + name[1:])


def _not_a_number(outsider: Outsider) -> bytes:
    plain = _vote(outsider, p_up=0.123456789)
    sound = struct.pack("<d", 0.123456789)
    assert plain.count(sound) == 1
    return plain.replace(sound, struct.pack("<d", math.nan))


PUBLIC_CASES: dict[str, tuple[str, Build, str]] = {
    **{f"garbage on {short}": (short, lambda _: GARBAGE, "MALFORMED") for short in PUBLIC},
    "nothing": ("trade", lambda _: None, "MALFORMED"),
    "no bytes": ("trade", lambda _: b"", "MALFORMED"),
    "an unknown schema id": ("trade", lambda o: b"\0\0\x98\x96\x7f" + _trade(o)[5:], "SCHEMA_UNKNOWN"),
    "a body cut short": ("trade", lambda o: _trade(o)[:-3], "MALFORMED"),
    "bytes after the record": ("trade", lambda o: _trade(o) + b"\0", "MALFORMED"),
    "a probability that is no number": ("vote", _not_a_number, "NOT_FINITE"),
    "an outcome without end": (
        "outcome",
        lambda o: o.public("outcome", instrument=INSTRUMENT, decision_id="d", kind="k", value=math.inf, note=""),
        "NOT_FINITE",
    ),
    "evidence that is no number": ("vote", lambda o: _vote(o, evidence={"x": math.nan}), "NOT_FINITE"),
    "a negative price": ("trade", lambda o: _trade(o, price=-UNIT), "INVALID_VALUE"),
    "a price of zero": ("trade", lambda o: _trade(o, price=0), "INVALID_VALUE"),
    "a negative quantity": ("trade", lambda o: _trade(o, quantity=-1), "INVALID_VALUE"),
    "a crossed quote": (
        "quote",
        lambda o: o.public("quote", bid_price=2, bid_quantity=1, ask_price=-1, ask_quantity=1),
        "INVALID_VALUE",
    ),
    "a time in the future": ("trade", lambda o: _trade(o, event_time_ns=time.time_ns() + 60 * 10**9), "FUTURE_TIME"),
    "an array without end": ("depth", _array_bomb, "MALFORMED"),
    "a string without end": ("trade", _string_bomb, "MALFORMED"),
    "levels without number": (
        "depth",
        lambda o: _depth(o, bid_prices=[1] * 400_000, bid_quantities=[1] * 400_000),
        "INVALID_VALUE",
    ),
    "evidence without number": (
        "vote",
        lambda o: _vote(o, evidence={f"{number}": 1.0 for number in range(50_000)}),
        "INVALID_VALUE",
    ),
    "a native expert's name": ("vote", lambda o: _vote(o, expert="order_flow"), "NAME_CLAIMED"),
    "a native expert's name in capitals": ("vote", lambda o: _vote(o, expert="Order_Flow"), "NAME_CLAIMED"),
    "a name that looks like another": ("vote", lambda o: _vote(o, expert="оrder_flow"), "INVALID_VALUE"),
    "probabilities that sum to two": ("vote", lambda o: _vote(o, p_up=1.0, p_down=1.0, p_flat=0.0), "INVALID_VALUE"),
    "a horizon without ballots": ("vote", lambda o: _vote(o, horizon_ns=7), "INVALID_VALUE"),
    "an instrument that is not defined": ("trade", lambda o: _trade(o, instrument="X:Y"), "INSTRUMENT_REFUSED"),
    "an instrument with a feed of ours": ("trade", lambda o: _trade(o, instrument=INSTRUMENT), "INSTRUMENT_REFUSED"),
}


def _expect_dead_letter(
    platform: DemoProcess, outsider: Outsider, topic: str, reason: str, **record: Any
) -> dict[str, bytes]:
    """Write a record; find it in Postgres and in the dead-letter topic, as it was; return the letter's headers."""
    written = outsider.write(topic, **record)
    where = (topic, written.partition(), written.offset())
    query = (
        "SELECT reason, value, key, dlq_topic, dlq_partition, dlq_offset FROM dead_letters"
        ' WHERE topic = %s AND partition = %s AND "offset" = %s ORDER BY reason = %s DESC'
    )
    rows = platform.until(lambda: platform.rows(query, *where, reason))
    found, value, key, *place = rows[0]
    assert (found, value, key) == (reason, record["value"], b"outsider")
    assert place[0] == f"{topic}.dlq"
    letter = outsider.at(*place)
    assert (letter.value(), letter.key()) == (record["value"], b"outsider")
    headers = dict(letter.headers())
    assert headers["__tradermind.errors.reason"] == reason.encode()
    assert (headers["__tradermind.errors.topic"], headers["__tradermind.errors.offset"]) == (
        topic.encode(),
        str(written.offset()).encode(),
    )
    return headers


@pytest.mark.embedded
@pytest.mark.parametrize("case", PUBLIC_CASES)
def test_a_bad_record_on_a_public_topic_is_a_dead_letter_with_its_reason(
    platform: DemoProcess, outsider: Outsider, case: str
) -> None:
    short, build, reason = PUBLIC_CASES[case]
    _expect_dead_letter(platform, outsider, topic_of(short), reason, value=build(outsider))


@pytest.mark.embedded
def test_headers_that_imitate_ours_or_are_no_text_are_kept_and_believed_in_nothing(
    platform: DemoProcess, outsider: Outsider
) -> None:
    imitated: Headers = [("__tradermind.errors.reason", b"TAKEN"), ("nul", b"\0\xff"), ("", b"")]
    _expect_dead_letter(platform, outsider, topic_of("trade"), "MALFORMED", value=GARBAGE, headers=imitated)


@pytest.mark.embedded
@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS.values() if not topic.public])
def test_garbage_on_a_topic_of_ours_is_a_dead_letter_of_each_stage_on_it_or_else_of_the_sinks(
    platform: DemoProcess, outsider: Outsider, topic: str
) -> None:
    left = "SELECT sum((counters ->> 'left_to_stage')::int) FROM worker_status WHERE stage = 'sinks'"
    [(before,)] = platform.rows(left)
    _expect_dead_letter(platform, outsider, topic, "MALFORMED", value=GARBAGE)
    readers = set(readers_of(TOPICS[topic])) & set(WORKERS)
    if readers:
        platform.until(lambda: platform.rows(left)[0][0] > (before or 0))
    query = "SELECT DISTINCT stage FROM dead_letters WHERE topic = %s AND reason = 'MALFORMED'"
    stages = readers or {"sinks"}
    platform.until(lambda: {stage for (stage,) in platform.rows(query, topic)} == stages)


@pytest.mark.embedded
def test_a_record_of_ours_on_a_wrong_partition_is_a_dead_letter(platform: DemoProcess, outsider: Outsider) -> None:
    topic = "tradermind.feature.snapshot.v1"
    partitions = 4
    own = next(found for number in range(partitions) if (found := _first_snapshot(outsider, topic, number)) is not None)
    wrong = (own.partition() + 1) % partitions
    _expect_dead_letter(platform, outsider, topic, "WRONG_PARTITION", value=own.value(), partition=wrong)


def _first_snapshot(outsider: Outsider, topic: str, partition: int) -> Any:
    number, _ = outsider.schema(f"{topic}-FeatureSnapshot")
    for offset in range(200):
        message = outsider.at(topic, partition, offset)
        if message.value()[1:5] == number.to_bytes(4, "big"):
            return message
    return None


@pytest.mark.embedded
def test_a_record_of_ours_that_names_no_source_is_a_dead_letter(platform: DemoProcess, outsider: Outsider) -> None:
    topic = "tradermind.model.release.v1"
    _, schema = outsider.schema(f"{topic}-ModelRelease")
    blank = {field["name"]: _blank(field["type"]) for field in schema["fields"]} | {"source": ""}
    value = outsider.framed(f"{topic}-ModelRelease", blank)
    _expect_dead_letter(platform, outsider, topic, "INVALID_VALUE", value=value)


def _blank(kind: Any) -> Any:
    if isinstance(kind, list):
        return None if "null" in kind else _blank(kind[0])
    if isinstance(kind, dict):
        if kind["type"] == "enum":
            return kind["symbols"][0]
        return {"array": [], "map": {}}.get(kind["type"], _blank(kind["type"]))
    return {"string": "x", "long": 1, "int": 1, "double": 0.5, "boolean": False}[kind]


@pytest.mark.embedded
def test_a_record_that_is_too_large_is_a_dead_letter(platform: DemoProcess, outsider: Outsider) -> None:
    """Of two mebibytes: five are all that the embedded broker keeps per partition, so it drops such a record itself."""
    value = b"\0" * 2 * MIB
    _expect_dead_letter(platform, outsider, topic_of("quote"), "TOO_LARGE", value=value)


@pytest.mark.embedded
def test_memory_stays_bounded_and_the_line_goes_on(platform: DemoProcess, outsider: Outsider) -> None:
    workers = {stage: platform.pid_of(stage) for stage in ("ingestion", "sinks")}
    _flood(platform, outsider, 500)
    before = {stage: resident_mib(pid) for stage, pid in workers.items()}
    _flood(platform, outsider, 2000)
    after = {stage: resident_mib(pid) for stage, pid in workers.items()}
    assert all(after[stage] - before[stage] < 24 for stage in workers), (before, after)
    _is_heard(platform, outsider)


def _flood(platform: DemoProcess, outsider: Outsider, number: int) -> None:
    count = "SELECT count(*) FROM dead_letters WHERE topic = %s"
    [(before,)] = platform.rows(count, topic_of("trade"))
    values = [_trade(outsider, price=-1, trade_id="x" * 100), GARBAGE * 25, _trade(outsider)[:-1], _trade(outsider) * 2]
    for partition in range(4):
        outsider.write_all(topic_of("trade"), values * (number // 16), partition=partition)
    written = 4 * len(values) * (number // 16)
    platform.until(lambda: platform.rows(count, topic_of("trade"))[0][0] == before + written)


def _is_heard(platform: DemoProcess, outsider: Outsider) -> None:
    """After all of it, a good trade arrives and ballots are still tallied."""
    name = f"good-{time.time_ns()}"
    outsider.write(topic_of("trade"), _trade(outsider, trade_id=name))
    platform.until(lambda: platform.rows("SELECT 1 FROM market_data WHERE trade_id = %s", name))
    began = time.time_ns()
    platform.until(lambda: platform.rows("SELECT 1 FROM tallies WHERE grid_time_ns > %s LIMIT 1", began))


@pytest.mark.kafka
@pytest.mark.slow
def test_on_real_kafka_large_records_and_compressed_bombs_are_dead_letters(tmp_path: Path, real_kafka: object) -> None:
    with running_demo(tmp_path, ["--broker", "kafka"]) as platform:
        outsider = Outsider(platform.bootstrap, platform.registry)
        worker = platform.pid_of("ingestion")
        before = resident_mib(worker)
        for _ in range(8):
            _expect_dead_letter(platform, outsider, topic_of("trade"), "TOO_LARGE", value=b"\1" * 5 * MIB)
        _bomb_is_cut(platform, Outsider(platform.bootstrap, platform.registry, compression_type="gzip"))
        assert resident_mib(worker) - before < 256
        _is_heard(platform, outsider)


def _bomb_is_cut(platform: DemoProcess, bomber: Outsider) -> None:
    """Of 32 MiB that were 32 KiB on the wire the beginning is kept, with the size and the digest of the whole."""
    bomb = b"\0" * 32 * MIB
    written = bomber.write(topic_of("trade"), bomb)
    query = 'SELECT reason, value, headers FROM dead_letters WHERE topic = %s AND partition = 0 AND "offset" = %s'
    [(reason, value, headers)] = platform.until(lambda: platform.rows(query, topic_of("trade"), written.offset()))
    assert (reason, value) == ("TOO_LARGE", bomb[: 9 * MIB])
    assert headers["__tradermind.errors.value.bytes"] == str(len(bomb))
    assert headers["__tradermind.errors.value.sha256"] == hashlib.sha256(bomb).hexdigest()
