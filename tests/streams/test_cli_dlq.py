"""Dead letters as a person handles them: found, looked at, sent again or not, and every change written down."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from infra.postgres.dead_letters import Action, record_action
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.dead_letters import BadRecord, DeadLetterReason, LetterAction
from schemas.topics import DECISION, INGEST_TRADE, INGEST_VOTE, MARKET_MARK, Topic
from streams.cli_dlq import hex_lines
from streams.cli_dlq_changes import app
from streams.engine.dead_letter import ATTEMPT, LETTER_VALUE_BYTES_MAX, Refuser, dead_letter
from streams.engine.ports import RawRecord
from streams.engine.quarantine import Held, LetterProgress
from streams.engine.shard import Progress
from streams.sinks import dead_letter_row

pytestmark = pytest.mark.embedded
RUNNER = CliRunner()
WHY = ("--reason", "because", "--author", "kim")
Headers = tuple[tuple[str, bytes], ...]


def a_letter(
    topic: Topic, offset: int, reason: str = "MALFORMED", *, dlq_offset: int | None = None, **record: Any
) -> RawRecord:
    """Return a record of a dead-letter topic, as an engine wrote it at second ``offset`` of the epoch."""
    fields: dict[str, Any] = {"key": b"k", "value": b"\xffbytes", "headers": (), "stage": "ingress.trade"} | record
    lost = RawRecord(topic.name, 1, offset, fields["key"], fields["value"], fields["headers"], 5)
    refusal = BadRecord(DeadLetterReason(reason), "[red]why[/red]")
    more = {"held.since": f"{topic.name}/1/0", "held.number": str(offset)} if reason == "QUARANTINED" else None
    out = dead_letter(topic, lost, refusal, Refuser(fields["stage"]), more)
    place = offset if dlq_offset is None else dlq_offset
    return RawRecord(out.topic, out.partition, place, out.key, out.value, out.headers, offset * 1000)


def write(dsn: str, *letters: RawRecord) -> None:
    """Write letters as the sink does."""

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write([], [dead_letter_row(letter) for letter in letters])

    asyncio.run(run())


def stand(dsn: str, stage: str, shard: str, progress: Progress) -> None:
    """Write a checkpoint of a shard."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO shard (stage, shard, epoch, holder, holder_pid, cluster_id, generation, code_version,"
            " settings_hash, progress) VALUES (%s, %s, 1, 'h', 1, 'c', 1, '', '', %s)",
            (stage, shard, msgspec.msgpack.encode(progress)),
        )


@pytest.fixture
def record(database: str) -> str:
    """The DSN of a record with four dead letters, the last of them on a topic of ours."""
    migrate(database)
    write(
        database,
        a_letter(INGEST_TRADE, 1),
        a_letter(INGEST_TRADE, 2, "NOT_FINITE", headers=(("trace", b"\0\xff"), ("trace", b""))),
        a_letter(INGEST_VOTE, 3, "NAME_CLAIMED", stage="ingress.vote", key=None, value=None),
        a_letter(DECISION, 4, "INVALID_VALUE", stage="risk", key=b"main"),
    )
    return database


def run(dsn: str, *arguments: str) -> Result:
    """Run ``tradermind dlq`` with these arguments."""
    return RUNNER.invoke(app, [*arguments, "--dsn", dsn])


def read(dsn: str, *arguments: str) -> Any:
    """Run with ``--json`` and return what it says."""
    result = run(dsn, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def offsets(dsn: str, *filters: str) -> list[int]:
    """Return the offsets of the letters that ``ls`` lists."""
    return [row["offset"] for row in read(dsn, "ls", *filters)]


FILTERS: list[tuple[list[str], list[int]]] = [
    ([], [4, 3, 2, 1]),
    (["--topic", INGEST_TRADE.name], [2, 1]),
    (["--reason", "malformed"], [1]),
    (["--refused", "NOT_FINITE"], [2]),
    (["--stage", "risk"], [4]),
    (["--key", "main"], [4]),
    (["--status", "open", "--limit", "2"], [4, 3]),
    (["--status", "DISCARDED"], []),
    (["--since", "1970-01-01T00:00:03"], [4, 3]),
    (["--until", "1970-01-01T00:00:02+00:00"], [1]),
    (["--until", "3650d"], [4, 3, 2, 1]),
    (["--since", "1h"], []),
]


def test_letters_are_listed_newest_first_by_filter(record: str) -> None:
    assert [(filters, offsets(record, *filters)) for filters, _ in FILTERS] == FILTERS


REFUSED: list[tuple[list[str], str]] = [
    (["ls", "--refused", "UGLY"], "'UGLY' is not a reason"),
    (["ls", "--topic", "t"], "'t' is not a topic of ours"),
    (["ls", "--status", "LOST"], "'LOST' is not a status"),
    (["ls", "--since", "yesterday"], "'yesterday' is no time"),
    (["show", INGEST_TRADE.name, "1", "99"], "There is no dead letter of that record"),
    (["discard", *WHY], "Name a record, give a filter, or say --all."),
    (["discard", INGEST_TRADE.name, *WHY], "A record has three coordinates"),
    (["discard", "--key", "nobody", *WHY], "There is no such dead letter that is open."),
    (["discard", "--all", "--reason", " "], "needs an author and a reason"),
    (["replay", "--all", *WHY], "is not on a public topic: what our own stages wrote is never sent again"),
    (["replay", "--topic", INGEST_TRADE.name, "--with", __file__, *WHY], "--with mends one record, and 2 are"),
    (["replay", "--release", "main", *WHY], "'main' is not in quarantine"),
    (["take", *WHY], "Name the record to take"),
    (["take", "t", "0", "0", *WHY], "'t' is not a topic of ours"),
    (["take", DECISION.name, "0", "0", "--stage", "voting", *WHY], "voting does not step"),
    (["take", DECISION.name, "0", "0", *WHY], "No stage has that record before it (none was ever up)"),
]


def test_what_cannot_be_is_one_sentence_and_changes_nothing(record: str) -> None:
    for arguments, sentence in REFUSED:
        result = run(record, *arguments)
        assert (arguments, result.exit_code, result.stdout) == (arguments, 1, "")
        assert sentence in result.stderr
        assert result.stderr.count("\n") == 1
    assert read(record, "audit") == []


def test_a_letter_is_shown_whole(record: str, tmp_path: Path) -> None:
    shown = read(record, "show", INGEST_TRADE.name, "1", "2", "--out", str(tmp_path / "bytes"))
    assert (tmp_path / "bytes").read_bytes() == b"\xffbytes"
    assert shown["headers"][:2] == [["trace", "AP8="], ["trace", ""]]
    assert (shown["value"], shown["reason"], shown["status"]) == ("/2J5dGVz", "NOT_FINITE", "OPEN")
    told = run(record, "show", f"{INGEST_TRADE.name}.dlq", "1", "2").stdout
    assert "00000000  ff 62 79 74 65 73" in told
    assert "[red]why[/red]" in told
    assert "no value" in run(record, "show", INGEST_VOTE.name, "1", "3").stdout


@given(st.binary(max_size=600))
def test_bytes_are_shown_as_they_are(value: bytes) -> None:
    shown = [line for line in hex_lines(value).splitlines() if not line.startswith("...")]
    assert b"".join(bytes.fromhex(line[10:57]) for line in shown) == value[:256]


def test_a_letter_that_was_written_again_after_a_crash_is_one_letter(record: str) -> None:
    write(record, a_letter(INGEST_TRADE, 1, dlq_offset=90))
    assert offsets(record, "--topic", INGEST_TRADE.name) == [2, 1]
    write(record, a_letter(INGEST_TRADE, 1, dlq_offset=91, stage="other"))
    assert offsets(record, "--topic", INGEST_TRADE.name) == [2, 1, 1]
    result = run(record, "show", INGEST_TRADE.name, "1", "1")
    assert (result.exit_code, "ingress.trade, other have refused" in result.stderr) == (1, True)
    assert read(record, "show", INGEST_TRADE.name, "1", "1", "--stage", "other")["dlq_offset"] == 91


def test_discarding_is_written_down_once_and_leaves_the_letter(record: str) -> None:
    dry = read(record, "discard", "--topic", INGEST_TRADE.name, "--dry-run", *WHY)
    assert [row["offset"] for row in dry] == [1, 2]
    assert read(record, "audit") == []
    assert run(record, "discard", INGEST_TRADE.name, "1", "2", *WHY).exit_code == 0
    (done,) = read(record, "audit")
    assert (done["action"], done["author"], done["why"], done["stage"]) == (
        "DISCARD",
        "kim",
        "because",
        "ingress.trade",
    )
    assert (done["dlq_topic"], done["dlq_offset"], done["first_offset"]) == (f"{INGEST_TRADE.name}.dlq", 2, 2)
    assert offsets(record, "--status", "DISCARDED") == [2]
    again = run(record, "discard", INGEST_TRADE.name, "1", "2", *WHY)
    assert (again.exit_code, again.stderr) == (1, "That letter is DISCARDED already.\n")
    assert "DISCARD" in run(record, "show", INGEST_TRADE.name, "1", "2").stdout
    assert [row["offset"] for row in read(record, "discard", "--all", *WHY)] == [1, 3, 4]


def test_the_audit_is_never_changed(record: str) -> None:
    run(record, "discard", INGEST_TRADE.name, "1", "1", *WHY)
    for change in (b"UPDATE dead_letter_actions SET why = 'x'", b"DELETE FROM {}", b"TRUNCATE {}"):
        statement = change.replace(b"{}", b"dead_letter_actions")
        with psycopg.connect(record) as connection, pytest.raises(psycopg.errors.RaiseException, match="never changed"):
            connection.execute(statement)
    with psycopg.connect(record) as connection, pytest.raises(ValueError, match="an author and a reason"):
        record_action(connection, Action(action=LetterAction.DISCARD, author="", why="x"))


def test_a_dry_replay_needs_no_broker_and_writes_nothing(record: str) -> None:
    rows = read(record, "replay", "--topic", INGEST_TRADE.name, "--dry-run", *WHY)
    assert [row["offset"] for row in rows] == [1, 2]
    assert read(record, "audit") == []
    nobody = run(record, "replay", INGEST_TRADE.name, "1", "1", "--broker", "127.0.0.1:1", *WHY)
    assert (nobody.exit_code, "No Kafka broker answers" in nobody.stderr) == (2, True)
    assert read(record, "audit") == []


def test_a_letter_that_is_not_whole_is_sent_only_with_whole_bytes(record: str, tmp_path: Path) -> None:
    write(record, a_letter(INGEST_TRADE, 7, "TOO_LARGE", value=b"x" * (LETTER_VALUE_BYTES_MAX + 1)))
    place = (INGEST_TRADE.name, "1", "7")
    refused = run(record, "replay", *place, "--dry-run", *WHY)
    assert (refused.exit_code, "only a part is kept" in refused.stderr) == (1, True)
    (tmp_path / "whole").write_bytes(b"mended")
    assert run(record, "replay", *place, "--dry-run", "--with", str(tmp_path / "whole"), *WHY).exit_code == 0


def test_an_imitated_letter_header_does_not_hide_what_the_record_had(record: str) -> None:
    from infra.postgres.dead_letters import LetterFilter, find_letters
    from infra.postgres.queries import open_record
    from streams.resend import resend_of

    imitated: Headers = (("__tradermind.errors.reason", b"TAKEN"), ("mine", b"1"), (ATTEMPT, b"4"))
    write(record, a_letter(INGEST_TRADE, 8, headers=imitated))
    with open_record(record) as connection:
        (row,) = find_letters(connection, LetterFilter(offset=8))
    send = resend_of(row, None, "kim")
    assert row["reason"] == "MALFORMED"
    assert (send.place, send.key, send.value) == ((INGEST_TRADE.name, 1), b"k", b"\xffbytes")
    assert send.headers(9) == [
        *imitated[:2],
        ("__tradermind.replay.of", f"{INGEST_TRADE.name}/1/8".encode()),
        ("__tradermind.replay.by", b"kim"),
        ("__tradermind.replay.action", b"9"),
        (ATTEMPT, b"5"),
    ]


def test_a_take_goes_to_the_one_stage_that_has_not_passed_the_record(record: str) -> None:
    lane = f"{MARKET_MARK.name}/0"
    for stage, at in (("decider", 9), ("risk", 8), ("feedback", 9)):
        stand(record, stage, "0", Progress(next_offsets={lane: at}))
    dry = read(record, "take", MARKET_MARK.name, "0", "8", "--dry-run", *WHY)
    assert (dry["stage"], dry["ordinal"]) == ("risk", None)
    assert read(record, "audit") == []
    told = run(record, "take", MARKET_MARK.name, "0", "8", "--through", "9", "--wait", "0", *WHY)
    assert "is ordered of risk (order 1): it is done when the stage comes up" in told.stdout
    (row,) = read(record, "audit")
    assert [row[name] for name in ("action", "stage", "topic", "partition", "first_offset", "last_offset")] == [
        *("TAKE", "risk", MARKET_MARK.name, 0, 8, 9)
    ]
    several = run(record, "take", MARKET_MARK.name, "0", "9", *WHY)
    assert "decider, feedback, risk have not stepped that record yet: name one" in several.stderr
    nobody = run(record, "take", MARKET_MARK.name, "0", "7", *WHY)
    assert "decider stands at 9, feedback stands at 9, risk stands at 8" in nobody.stderr
    backwards = run(record, "take", MARKET_MARK.name, "0", "8", "--through", "7", *WHY)
    assert backwards.stderr == "The last offset to take lies before the first.\n"


def test_keys_in_quarantine_are_listed_and_lifted_by_name(record: str) -> None:
    held = LetterProgress(held={"main": Held(f"{DECISION.name}/0/4", 3, 1)})
    stand(record, "risk", "0", Progress(letters=held))
    (row,) = read(record, "ls", "--held")
    assert (row["stage"], row["key"], row["held"], row["stepped"]) == ("risk", "main", 3, 1)
    assert "Keys in quarantine: 1" in run(record, "ls").stdout
    order = read(record, "take", "--release", "main", "--wait", "0", *WHY)
    assert (order["action"], order["stage"], order["done"]) == ("RELEASE", "risk", False)
    order = read(record, "replay", "--release", "main", "--stage", "risk", "--wait", "0", *WHY)
    assert (order["action"], order["ordinal"]) == ("STEP_HELD", 2)
    assert read(record, "audit")[0]["detail"] == {"since": f"{DECISION.name}/0/4", "held": 3, "stepped": 1}
    stand(record, "feedback", "0", Progress(letters=held))
    assert "at feedback, risk: name one" in run(record, "take", "--release", "main", *WHY).stderr


@pytest.mark.parametrize("command", [["ls"], ["audit"], ["discard", "--all", *WHY], ["replay", "--all", *WHY]])
def test_without_a_database_it_is_one_sentence_and_exit_code_2(command: list[str]) -> None:
    result = run("host=127.0.0.1 port=1 connect_timeout=1", *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("The database cannot be reached: ")
    assert result.stderr.count("\n") == 1
