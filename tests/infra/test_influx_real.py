"""Points in a real InfluxDB 2.7: what is in it is what was meant, a bad point is lost alone, and it may die or hang."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from every_event import example
from influx_points import all_points, ask, differing, rows_of
from random_events import random_events
from typer.testing import CliRunner

from infra.influx import InfluxServer, InfluxWriter, Unwritten
from infra.influx.points import lines_of
from infra.postgres.projections import Projections
from infra.servers import RealInflux, start_influx
from schemas.codec import Codec
from schemas.event import Event
from schemas.feedback import OutcomeReported
from schemas.market import Quote
from schemas.opinions import Vote
from schemas.routing import topic_of
from schemas.schema_table import SchemaTable
from schemas.values import NS_PER_S
from streams.cli import app
from streams.sinks import Sink

pytestmark = [pytest.mark.slow, pytest.mark.embedded]
PLAIN = Path(__file__).parents[2] / "tradermind.toml"
T0 = 1_760_000_000 * NS_PER_S


@dataclass(frozen=True)
class Record:
    """A Kafka record as a client gives it."""

    topic: str
    value: bytes
    offset: int = 0
    partition: int = 0
    key: bytes | None = b"key"
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int = 0


def server_of(real: RealInflux, bucket: str, timeout_ms: int = 5_000) -> InfluxServer:
    return InfluxServer(real.url, real.token, real.org, bucket, timeout_ms)


def written(real: RealInflux, bucket: str, events: Sequence[Event]) -> InfluxWriter:
    """Write events as the sink does, and return its closed writer."""
    writer = InfluxWriter(server_of(real, bucket))
    writer.offer(events)
    assert writer.flush(60)
    writer.close()
    return writer


def kept(dsn: str, events: Sequence[Event]) -> None:
    """Write events into the record as the sink does."""

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())


def quotes(count: int, first: int = 0) -> list[Event]:
    return [example(Quote, seq=n, available_at_ns=T0 + n * 1_000) for n in range(first, first + count)]


def rebuilt(real: RealInflux, bucket: str, dsn: str, place: Path, *options: str) -> tuple[int, dict[str, object]]:
    """Rebuild from a database into a bucket; return the exit code and what was said."""
    settings = place / "tradermind.toml"
    settings.write_text(
        PLAIN.read_text().replace(
            "\n[influx]\n",
            f'\n[influx]\nurl = "{real.url}"\norg = "{real.org}"\nbucket = "{bucket}"\n'
            f'token_file = "{real.token_file}"\n',
        )
    )
    return cli(["--dsn", dsn, "--settings", str(settings), *options])


def cli(options: Sequence[str]) -> tuple[int, dict[str, object]]:
    """Run ``tradermind rebuild influx --json`` in this process; return its exit code and what it said."""
    result = CliRunner().invoke(app, ["rebuild", "influx", "--json", *options])
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else {"said": result.stderr}


def test_every_point_is_there_as_it_was_meant_and_comes_again_from_the_record_alone(
    real_influx: RealInflux, influx_bucket: str, database: str, tmp_path: Path
) -> None:
    events = random_events(40, seed=7, start_ns=T0)
    writer = written(real_influx, influx_bucket, events)
    lines = {line for event in events for line in lines_of(event)}
    assert (writer.counts.written, writer.counts.refused) == (len(lines), 0)
    before = all_points(real_influx, influx_bucket)
    assert len(before) == len(lines)
    kept(database, events)
    real_influx.drop_bucket(influx_bucket)
    real_influx.make_bucket(influx_bucket)
    code, said = rebuilt(real_influx, influx_bucket, database, tmp_path, "--dry-run")
    assert (code, said["points"], all_points(real_influx, influx_bucket)) == (0, len(lines), {})
    for _ in range(2):  # Twice is once.
        code, said = rebuilt(real_influx, influx_bucket, database, tmp_path)
        assert code == 0, said
        assert (code, said["points"], said["refused"]) == (0, len(lines), 0)
        assert differing(before, all_points(real_influx, influx_bucket)) == ""


def test_a_rebuild_of_a_stretch_writes_that_stretch_alone(
    real_influx: RealInflux, influx_bucket: str, database: str, tmp_path: Path
) -> None:
    kept(database, quotes(3_000))
    start, end = T0 + 1_000_000, T0 + 2_000_000
    code, said = rebuilt(real_influx, influx_bucket, database, tmp_path, "--from", str(start), "--to", str(end))
    assert (code, said["points"]) == (0, 1_000)
    times = [time_ns for _, _, time_ns in all_points(real_influx, influx_bucket)]
    assert (min(times) // 1000 * 1000, max(times) // 1000 * 1000) == (start, end - 1_000)
    code, said = rebuilt(real_influx, influx_bucket, database, tmp_path, "--measurement", "vote")
    assert (code, said["points"]) == (0, 0)


def test_a_rebuild_into_files_is_what_a_server_would_load(database: str, tmp_path: Path) -> None:
    events = random_events(5, seed=8, start_ns=T0)
    kept(database, events)
    code, said = cli(["--dsn", database, "--files", str(tmp_path / "lines")])
    assert code == 0, said
    text = "".join(path.read_text() for path in (tmp_path / "lines").iterdir())
    meant = [line + "\n" for event in events for line in lines_of(event)]  # A text in it may have lines of its own.
    assert all(line in text for line in meant)
    assert len(text) == sum(map(len, meant))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "influx.url is not set"),
        (("--measurement", "nonsense"), "'nonsense' is not a measurement"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "--from is not before --to"),
    ],
)
def test_what_cannot_be_rebuilt_is_one_sentence(
    database: str, options: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # No run is known there.
    code, told = cli(["--dsn", database, "--settings", str(PLAIN), *options])
    assert code == 2
    assert str(told["said"]).startswith(said) and str(told["said"]).count("\n") == 1


def test_without_its_token_a_rebuild_is_one_sentence(database: str, tmp_path: Path) -> None:
    settings = tmp_path / "tradermind.toml"
    there = '[influx]\nurl = "http://127.0.0.1:1"\ntoken_file = "nowhere"\n'
    settings.write_text(PLAIN.read_text().replace("[influx]\n", there))
    code, told = cli(["--dsn", database, "--settings", str(settings)])
    assert code == 2
    assert str(told["said"]).startswith("influx.token_file cannot be read: No such file")


def test_of_points_that_it_cannot_take_only_they_are_lost(real_influx: RealInflux, influx_bucket: str) -> None:
    server = server_of(real_influx, influx_bucket)
    server.write([f'vote,expert=other text_fed="a text" {example(Vote).available_at_ns}'])
    server.close()
    votes = [example(Vote, seq=n, expert=f"e{n}") for n in range(3)]
    writer = written(real_influx, influx_bucket, [*quotes(100), *votes, *quotes(100, first=100)])
    assert writer.counts.written + writer.counts.refused == 203
    assert writer.counts.refused == 3
    assert "field type conflict" in writer.counts.last_error
    (row,) = rows_of(ask(real_influx, influx_bucket, "SELECT count(bid_price) FROM quote"))
    assert row["count"] == 200


def test_points_older_than_the_bucket_keeps_are_refused_and_the_rest_is_there(
    real_influx: RealInflux, influx_bucket: str
) -> None:
    found = real_influx.ask("GET", f"/api/v2/buckets?name={influx_bucket}")["buckets"][0]
    day = {"type": "expire", "everySeconds": 86_400, "shardGroupDurationSeconds": 3_600}
    real_influx.ask("PATCH", f"/api/v2/buckets/{found['id']}", {"retentionRules": [day]})
    now = [example(Quote, seq=n, available_at_ns=time.time_ns() + n * 1_000) for n in range(50)]
    writer = written(real_influx, influx_bucket, [*quotes(70), *now])
    assert (writer.counts.refused, writer.counts.written) == (70, 50)
    assert "retention" in writer.counts.last_error
    assert len(all_points(real_influx, influx_bucket)) == 50


def test_a_number_that_is_none_makes_no_point(real_influx: RealInflux, influx_bucket: str) -> None:
    events = [example(OutcomeReported, value=value, seq=n) for n, value in enumerate((float("nan"), float("inf"), 1.0))]
    written(real_influx, influx_bucket, events)
    rows = rows_of(ask(real_influx, influx_bucket, "SELECT value, kind FROM outcome"))
    assert [row["value"] for row in rows] == [None, None, 1]


def test_after_a_kill_and_while_it_hangs_nothing_waits_and_afterwards_the_queue_is_there(tmp_path: Path) -> None:
    real = start_influx(tmp_path)
    try:
        writer = InfluxWriter(server_of(real, real.bucket, timeout_ms=500), queue_events=1_000, backoff_s=(0.05,))
        writer.offer(quotes(100))
        assert writer.flush(20)
        for end, again in ((real.kill, real.restart), (real.pause, real.resume)):
            before = writer.counts
            end()
            for first in range(0, 5_000, 500):
                writer.offer(quotes(500, first=first))
            assert writer.counts.queued <= 3_000, "the bound of the queue, and what is in hand"
            while writer.counts.retries == before.retries:
                pass
            assert writer.counts.away
            again()
            assert writer.flush(30)
            after = writer.counts
            assert after.dropped - before.dropped >= 2_000
            assert (after.written - before.written) + (after.dropped - before.dropped) == 5_000
            assert not after.away
        writer.close()
        assert len(all_points(real, real.bucket)) >= 1_000
    finally:
        real.kill()


def test_a_rebuild_into_a_server_that_is_away_says_so_in_one_sentence(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = start_influx(tmp_path / "influxdb")
    real.kill()
    kept(database, quotes(10))
    monkeypatch.setattr("infra.influx.rebuild.FAILURES_MAX", 1)
    code, said = rebuilt(real, real.bucket, database, tmp_path)
    assert code == 2
    assert "InfluxDB takes no points" in str(said["said"])
    with pytest.raises(Unwritten):
        server_of(real, real.bucket).write(["m f=1 1"])


def test_the_record_is_written_in_full_while_it_is_killed_or_hangs_and_a_rebuild_fills_the_gap(
    database: str, tmp_path: Path
) -> None:
    real = start_influx(tmp_path / "influxdb")
    codec = Codec(SchemaTable.committed())
    records = []
    for event in random_events(60, seed=9, start_ns=T0):
        topic = topic_of(event)
        assert topic is not None
        records.append(Record(topic.name, codec.encode(topic.name, event)))
    parts = [records[start::4] for start in range(4)]

    async def run(writer: InfluxWriter) -> dict[str, float]:
        sink = Sink(database, codec, writer)
        took_s = {}
        for (name, change), part in zip(
            {"up": bool, "hangs": real.pause, "killed": real.kill, "back": real.restart}.items(), parts, strict=True
        ):
            change()
            began = time.perf_counter()
            for start in range(0, len(part), 50):
                outcome = await sink.handle(part[start : start + 50])
                assert not outcome.refused
            took_s[name] = time.perf_counter() - began
        await sink.close()
        return took_s

    try:
        writer = InfluxWriter(server_of(real, real.bucket, timeout_ms=300), queue_events=100, backoff_s=(0.05,))
        sys.stdout.write(f"the sink's way into Postgres took, in s: {asyncio.run(run(writer))}\n")
        assert writer.flush(30)
        writer.close()
        counts = writer.counts
        assert counts.dropped > 0 and counts.retries > 0 and counts.refused == 0
        with psycopg.connect(database) as connection:
            for table in ("fills", "order_events", "account_marks", "position_events", "votes"):
                assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (60,), table
        some = all_points(real, real.bucket)
        code, said = rebuilt(real, real.bucket, database, tmp_path)
        assert code == 0, said
        full = all_points(real, real.bucket)
        assert len(full) == said["points"] == sum(len(lines_of(codec.decode(r.topic, r.value))) for r in records)
        assert len(some) < len(full)
        assert differing(some, {identity: full[identity] for identity in some}) == ""
    finally:
        real.kill()
