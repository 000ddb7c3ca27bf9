"""A dead letter is the record itself and why, and always small enough for its topic."""

import hashlib

from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.topics import INGEST_TRADE
from streams.engine.ports import RawRecord
from streams.engine.shard import LETTER_AROUND_BYTES_MAX, LETTER_VALUE_BYTES_MAX, dead_letter

REFUSAL = BadRecord(DeadLetterReason.TOO_LARGE, "too large")
PREFIX = "__tradermind.errors."


def _record(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = (), key: bytes | None = b"key") -> RawRecord:
    return RawRecord(INGEST_TRADE.name, 2, 7, key, value, headers, 1_000)


def test_it_keeps_bytes_key_and_headers_and_appends_the_facts() -> None:
    headers = (("theirs", b"1"), (f"{PREFIX}reason", b"TAKEN"))
    letter = dead_letter(INGEST_TRADE, _record(b"value", headers), REFUSAL, "ingress.trade")
    assert (letter.topic, letter.partition) == (INGEST_TRADE.dead_letters, 2)
    assert (letter.key, letter.value, letter.headers[:2]) == (b"key", b"value", headers)
    facts = dict(letter.headers)
    assert facts[f"{PREFIX}reason"] == b"TOO_LARGE"
    assert (facts[f"{PREFIX}offset"], facts[f"{PREFIX}stage"]) == (b"7", b"ingress.trade")


def test_a_value_at_the_bound_is_whole_and_one_beyond_it_is_cut_and_described() -> None:
    whole = b"x" * LETTER_VALUE_BYTES_MAX
    assert dead_letter(INGEST_TRADE, _record(whole), REFUSAL, "s").value == whole
    longer = whole + b"y"
    letter = dead_letter(INGEST_TRADE, _record(longer), REFUSAL, "s")
    facts = dict(letter.headers)
    assert letter.value == whole
    assert facts[f"{PREFIX}value.bytes"] == str(len(longer)).encode()
    assert facts[f"{PREFIX}value.sha256"] == hashlib.sha256(longer).hexdigest().encode()


def test_headers_and_a_key_that_no_topic_takes_back_are_left_out_and_counted() -> None:
    huge = (("h", b"x" * LETTER_AROUND_BYTES_MAX),)
    letter = dead_letter(INGEST_TRADE, _record(None, huge), REFUSAL, "s")
    assert letter.value is None
    assert all(name.startswith(PREFIX) for name, _ in letter.headers)
    assert dict(letter.headers)[f"{PREFIX}key.and.headers.bytes"] == str(LETTER_AROUND_BYTES_MAX + 4).encode()
    cut = dead_letter(INGEST_TRADE, _record(None, (), b"k" * (LETTER_AROUND_BYTES_MAX + 1)), REFUSAL, "s")
    assert cut.key == b"k" * LETTER_AROUND_BYTES_MAX
