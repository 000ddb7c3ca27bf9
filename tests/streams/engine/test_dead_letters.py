"""A dead letter is the record itself and why, and always small enough for its topic."""

import hashlib

from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.topics import INGEST_TRADE
from streams.engine.dead_letter import (
    ATTEMPT,
    LETTER_AROUND_BYTES_MAX,
    LETTER_VALUE_BYTES_MAX,
    Refuser,
    attempts_of,
    dead_letter,
    own_headers,
)
from streams.engine.ports import RawRecord

REFUSAL = BadRecord(DeadLetterReason.TOO_LARGE, "too large")
INGRESS = Refuser("ingress.trade", "0", "Passed", "abc")
PREFIX = "__tradermind.errors."


def _record(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = (), key: bytes | None = b"key") -> RawRecord:
    return RawRecord(INGEST_TRADE.name, 2, 7, key, value, headers, 1_000)


def test_it_keeps_bytes_key_and_headers_and_appends_the_facts() -> None:
    headers = (("theirs", b"1"), (f"{PREFIX}reason", b"TAKEN"))
    letter = dead_letter(INGEST_TRADE, _record(b"value", headers), REFUSAL, INGRESS)
    assert (letter.topic, letter.partition) == (INGEST_TRADE.dead_letters, 2)
    assert (letter.key, letter.value, letter.headers[:2]) == (b"key", b"value", headers)
    facts = dict(letter.headers)
    assert facts[f"{PREFIX}reason"] == b"TOO_LARGE"
    assert (facts[f"{PREFIX}offset"], facts[f"{PREFIX}stage"]) == (b"7", b"ingress.trade")
    assert own_headers(letter.headers) == headers


def test_the_facts_have_the_suffixes_that_connect_uses() -> None:
    try:
        try:
            int("x")
        except ValueError as error:
            raise BadRecord(DeadLetterReason.MALFORMED, "not a number") from error
    except BadRecord as refusal:
        letter = dead_letter(INGEST_TRADE, _record(b"\0\0\0\x01\x02body"), refusal, INGRESS, {"held.number": "3"})
    facts = {name.removeprefix(PREFIX): value.decode() for name, value in letter.headers}
    assert facts == {
        "reason": "MALFORMED",
        "exception.message": "not a number",
        "exception.class.name": "ValueError",
        "topic": INGEST_TRADE.name,
        "partition": "2",
        "offset": "7",
        "timestamp": "1000",
        "connector.name": "tradermind.ingress.trade",
        "task.id": "0",
        "stage": "ingress.trade",
        "class.name": "Passed",
        "schema.id": "258",
        "code.version": "abc",
        "attempt": "1",
        "held.number": "3",
    }


def test_a_replayed_record_counts_its_attempts_and_an_imitation_counts_nothing() -> None:
    assert attempts_of(()) == 0
    assert attempts_of(((ATTEMPT, b"1"), (ATTEMPT, b"2"))) == 2
    assert attempts_of(((ATTEMPT, b"many"),)) == 0
    letter = dead_letter(INGEST_TRADE, _record(b"v", ((ATTEMPT, b"2"),)), REFUSAL, INGRESS)
    assert dict(letter.headers)[f"{PREFIX}attempt"] == b"3"


def test_a_value_at_the_bound_is_whole_and_one_beyond_it_is_cut_and_described() -> None:
    whole = b"x" * LETTER_VALUE_BYTES_MAX
    assert dead_letter(INGEST_TRADE, _record(whole), REFUSAL, INGRESS).value == whole
    longer = whole + b"y"
    letter = dead_letter(INGEST_TRADE, _record(longer), REFUSAL, INGRESS)
    facts = dict(letter.headers)
    assert letter.value == whole
    assert facts[f"{PREFIX}value.bytes"] == str(len(longer)).encode()
    assert facts[f"{PREFIX}value.sha256"] == hashlib.sha256(longer).hexdigest().encode()


def test_headers_and_a_key_that_no_topic_takes_back_are_left_out_and_counted() -> None:
    huge = (("h", b"x" * LETTER_AROUND_BYTES_MAX),)
    letter = dead_letter(INGEST_TRADE, _record(None, huge), REFUSAL, INGRESS)
    assert letter.value is None
    assert all(name.startswith(PREFIX) for name, _ in letter.headers)
    assert dict(letter.headers)[f"{PREFIX}key.and.headers.bytes"] == str(LETTER_AROUND_BYTES_MAX + 4).encode()
    cut = dead_letter(INGEST_TRADE, _record(None, (), b"k" * (LETTER_AROUND_BYTES_MAX + 1)), REFUSAL, INGRESS)
    assert cut.key == b"k" * LETTER_AROUND_BYTES_MAX
