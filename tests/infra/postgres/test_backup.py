"""Backups of a database that is being written: whole, of one moment, put back as it was, and found out if damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from audit_stories import order_events, verified, write
from every_event import RECORDS, example
from typer.testing import CliRunner

from infra.postgres.backup_make import BackupOrder, make_backup
from infra.postgres.backup_restore import drill, put_back, scratch_database
from infra.postgres.backups import (
    MANIFEST,
    PART,
    Backup,
    BackupFailed,
    backups_in,
    describe,
    name_of,
    newest_backup,
    read_backup,
    remove_older,
)
from infra.postgres.checkpoints import Commit, RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.servers import EmbeddedPostgres, ServerFailed
from streams.cli import app

pytestmark = pytest.mark.embedded
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def filled(database: str) -> str:
    """A database with a row of every kind."""
    write(database, [example(record) for record in RECORDS], order_events(5))
    return database


@pytest.fixture
def other(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """An empty database beside it."""
    with scratch_database(postgres_server.dsn) as dsn:
        yield dsn


def _order(dsn: str, directory: Path, keep: int = 9) -> BackupOrder:
    return BackupOrder(dsn=dsn, directory=directory, keep=keep, code_version="1", platform="0")


def _cli(*words: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["backup", *words])
    return told.exit_code, told.stdout + told.stderr


def _contents(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table as text, and who may do what with it."""
    with psycopg.connect(dsn) as connection:
        tables = [
            str(name)
            for (name,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            )
        ]
        found = {
            table: sorted(connection.execute(f'SELECT t::text FROM "{table}" t'.encode()).fetchall())
            for table in tables
        }
        found["rights"] = connection.execute(
            "SELECT relname, relkind, (SELECT array_agg(x::text ORDER BY x::text) FROM aclexplode(relacl) x)"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') ORDER BY 1"
        ).fetchall()
        found["functions"] = connection.execute(
            "SELECT proname, prosecdef, (SELECT array_agg(x::text ORDER BY x::text) FROM aclexplode(proacl) x)"
            " FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
        found["triggers"] = connection.execute(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
        ).fetchall()
        return found


def test_what_is_put_back_is_the_same_to_the_row_the_right_and_the_trigger(
    filled: str, other: str, tmp_path: Path
) -> None:
    code, told = _cli("create", "--directory", str(tmp_path), "--dsn", filled)
    assert code == 0, told
    before = _contents(filled)
    assert len([table for table, rows in before.items() if rows]) > 30

    code, told = _cli("restore", "--directory", str(tmp_path), "--dsn", other, "--json")
    assert code == 0, told
    assert json.loads(told)["rto_s"] > 0
    assert _contents(other) == before
    assert verified(other).finding is None
    write(other, order_events(2, first=100))  # Counters and triggers go on where they were.
    with psycopg.connect(other) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM audit_rows")

    code, told = _cli("restore", "--directory", str(tmp_path), "--dsn", other)
    assert code == 1 and "is not empty" in told, "nothing that stands there is overwritten"


def test_a_manifest_counts_the_moment_of_the_dump_while_others_write(database: str, tmp_path: Path) -> None:
    done = threading.Event()

    def keep_writing() -> None:
        number = 1
        while not done.is_set():
            write(database, order_events(3, first=number))
            number += 3

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        _wait_for_rows(database, 9)
        backup, _ = make_backup(_order(database, tmp_path))
        _wait_for_rows(database, backup.manifest.rows["order_events"] + 3)
    finally:
        done.set()
        writer.join()
    assert backup.manifest.rows["order_events"] == backup.manifest.audit["orders"] >= 9
    restored = drill(backup, database)
    assert restored.rows == backup.manifest.rows, "the dump has what the manifest counted, not a row more"


def _wait_for_rows(dsn: str, count: int) -> None:
    limit = time.monotonic() + 60
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute("SELECT count(*) >= %s FROM order_events", (count,)).fetchone() != (True,):
            assert time.monotonic() < limit
            time.sleep(0.02)


def test_a_manifest_tells_where_every_shard_stood(database: str, tmp_path: Path) -> None:
    import asyncio

    import msgspec

    from streams.engine.shard import Progress

    progress = msgspec.msgpack.encode(Progress(next_offsets={"tradermind.decision.v1/0": 42}))

    async def claim() -> None:
        store = ShardStore(database, ShardName("risk", "0", "test"), durable=True)
        facts = RunFacts(cluster_id="kafka-1", code_version="1", settings_hash="s")
        await store.claim_once(facts)
        commit = Commit(batch=1, progress=progress, state={"k": b"v"}, sent_through=0, journal=b"j", outbox=None)
        await store.write_once(commit, facts)
        await store.close()

    asyncio.run(claim())
    manifest = make_backup(_order(database, tmp_path))[0].manifest
    assert manifest.clusters == ["kafka-1"]
    assert manifest.shards["risk/0"].next_offsets == {"tradermind.decision.v1/0": 42}
    assert (manifest.shards["risk/0"].batch, manifest.shards["risk/0"].epoch) == (1, 1)


def _damaged(backup: Backup, how: str) -> None:
    content = bytearray(backup.dump.read_bytes())
    if how == "a bit":
        content[len(content) // 2] ^= 1
    elif how == "its end":
        del content[-100:]
    backup.dump.unlink() if how == "the file" else backup.dump.write_bytes(content)


def test_damage_of_any_kind_is_found_before_anything_is_restored(filled: str, other: str, tmp_path: Path) -> None:
    for how in ("a bit", "its end", "the file"):
        directory = tmp_path / how.replace(" ", "-")
        backup, _ = make_backup(_order(filled, directory))
        assert _cli("check", "--directory", str(directory), "--dsn", filled)[0] == 0
        _damaged(backup, how)
        code, told = _cli("check", "--directory", str(directory))
        assert code == 1 and backup.name in told, (how, told)
        with pytest.raises(BackupFailed):
            put_back(backup, other)
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'orders'").fetchone() == (0,)


def test_a_dump_that_is_whole_but_cannot_be_restored_fails_the_drill(filled: str, tmp_path: Path) -> None:
    backup, _ = make_backup(_order(filled, tmp_path))
    backup.dump.write_bytes(backup.dump.read_bytes()[:2000])
    manifest = json.loads((backup.folder / MANIFEST).read_text())
    found = describe(backup.dump)
    for file in manifest["files"]:
        if file["name"] == found.name:
            file |= {"size": found.size, "sha256": found.sha256}
    (backup.folder / MANIFEST).write_text(json.dumps(manifest))
    read_backup(backup.folder).verify()
    assert _cli("check", "--directory", str(tmp_path))[0] == 0, "without a drill it looks well"
    code, told = _cli("check", "--directory", str(tmp_path), "--restore-drill", "--dsn", filled)
    assert code == 1 and "Traceback" not in told, told
    with psycopg.connect(filled) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tradermind_drill_%'").fetchall()
    assert left == [], "a drill leaves no database behind"


def test_too_old_and_none_at_all_fail_the_check(filled: str, tmp_path: Path) -> None:
    code, told = _cli("check", "--directory", str(tmp_path / "nothing"))
    assert code == 1 and "backup create" in told
    backup, _ = make_backup(_order(filled, tmp_path))
    code, told = _cli("check", "--directory", str(tmp_path), "--restore-drill", "--dsn", filled, "--json")
    assert code == 0, told
    measured = json.loads(told)
    assert 0 <= measured["rpo_s"] < 60 and 0 < measured["rto_s"] < 60
    assert backup.age(backup.manifest.started_at + timedelta(hours=2)) == timedelta(hours=2)
    _dated(backup, backup.manifest.started_at - timedelta(hours=27))
    code, told = _cli("check", "--directory", str(tmp_path))
    assert code == 1 and "1 day, 3:00" in told and "may be 1 day, 2:00:00 old" in told, told
    assert _cli("check", "--directory", str(tmp_path), "--age-max-h", "28")[0] == 0


def _dated(backup: Backup, when: datetime) -> Backup:
    """Make a backup look as if it were made at another time, by another name."""
    folder = backup.folder.rename(backup.folder.with_name(name_of(when)))
    manifest = json.loads((folder / MANIFEST).read_text()) | {"started_at": when.isoformat()}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return read_backup(folder)


def test_old_backups_go_only_when_a_new_one_is_whole(filled: str, tmp_path: Path) -> None:
    made = make_backup(_order(filled, tmp_path))[0]
    older = _dated(made, made.manifest.started_at - timedelta(days=2))
    shutil.copytree(older.folder, tmp_path / "copy")
    middle = _dated(Backup(tmp_path / "copy", older.manifest), made.manifest.started_at - timedelta(days=1))
    with pytest.raises((ServerFailed, psycopg.Error)):
        make_backup(_order(f"{filled} options='-c statement_timeout=1'", tmp_path, keep=1))
    assert [backup.name for backup in backups_in(tmp_path)] == [older.name, middle.name]
    newest, removed = make_backup(_order(filled, tmp_path, keep=2))
    assert older.name in removed and [backup.name for backup in backups_in(tmp_path)] == [middle.name, newest.name]
    (tmp_path / f"20200101T000000Z{PART}").mkdir()
    assert newest_backup(tmp_path).name == newest.name, "what is not finished is no backup"
    assert remove_older(tmp_path, 2) == [f"20200101T000000Z{PART}"]


def test_a_backup_that_is_killed_leaves_none(filled: str, tmp_path: Path) -> None:
    with psycopg.connect(filled) as connection:
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")  # The dump waits for us.
        program = [sys.executable, "-m", "streams.cli", "backup", "create", "--directory", str(tmp_path)]
        killed = subprocess.Popen([*program, "--dsn", filled], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        limit = time.monotonic() + 60
        while not list(tmp_path.glob(f"*{PART}")):
            assert killed.poll() is None and time.monotonic() < limit
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert backups_in(tmp_path) == []
    backup, _ = make_backup(_order(filled, tmp_path))
    assert not list(tmp_path.glob(f"*{PART}")), "what was begun is gone"
    assert drill(backup, filled).rows == backup.manifest.rows


def test_no_password_is_in_a_backups_manifest_or_on_a_command_line(
    filled: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    canary = "canary-of-the-backup-5f1c"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS backup_test")
        # As much as a backup needs: to make room for a day of market data, and to read all, sequences too.
        rights = "LOGIN IN ROLE tradermind_app, pg_read_all_data"
        connection.execute(f"CREATE ROLE backup_test {rights} PASSWORD '{canary}'".encode())
    dsn = psycopg.conninfo.make_conninfo(filled, user="backup_test", password=canary)
    seen: list[bytes] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for entry in Path("/proc").iterdir():
                try:
                    words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                    if b"pg_dump" in words:
                        seen.append(words + (entry / "environ").read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        backup, _ = make_backup(_order(dsn, tmp_path))
    finally:
        done.set()
        watcher.join()
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            connection.execute("DROP ROLE backup_test")
    assert seen and not any(canary.encode() in words for words in seen)
    for file in (*backup.folder.iterdir(), tmp_path / "pg_dump.log"):
        assert canary.encode() not in file.read_bytes(), file
        assert file.name == "pg_dump.log" or file.stat().st_mode & 0o077 == 0 or file.name == "manifest.json"


def test_a_backup_of_an_older_release_is_restored_and_then_migrated(
    postgres_server: EmbeddedPostgres, empty_database: str, other: str, tmp_path: Path
) -> None:
    migrate(empty_database, "0012")
    backup, _ = make_backup(_order(empty_database, tmp_path))
    put_back(backup, other)
    told = CliRunner().invoke(app, ["migrate", "--check", "--dsn", other])
    assert told.exit_code == 1 and "0013" in told.stdout
    assert CliRunner().invoke(app, ["migrate", "--dsn", other]).exit_code == 0
    told = CliRunner().invoke(app, ["migrate", "--check", "--dsn", other])
    assert told.exit_code == 0 and "nothing to do" in told.stdout


def test_a_backup_of_a_newer_release_is_refused(filled: str, other: str, tmp_path: Path) -> None:
    backup, _ = make_backup(_order(filled, tmp_path))
    manifest = json.loads((backup.folder / "manifest.json").read_text())
    (backup.folder / "manifest.json").write_text(json.dumps(manifest | {"revision": "9000"}))
    code, told = _cli("restore", "--directory", str(tmp_path), "--dsn", other)
    assert code == 1 and "newer than this version" in told


def test_the_anchors_are_in_the_backup_to_their_last_whole_line_or_it_says_that_they_are_not(
    filled: str, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    anchors = tmp_path / "audit.anchors"
    text = (ROOT / "tradermind.toml").read_text()
    settings.write_text(text.replace("[audit]\n", f'[audit]\nanchor_file = "{anchors}"\n', 1))
    place = ("--directory", str(tmp_path / "kept"), "--dsn", filled, "--settings", str(settings))
    code, told = _cli("create", *place)
    assert code == 0 and "are not on this machine" in told
    anchors.write_bytes(b'{"stream": "orders"}\n{"stream": "deci')
    time.sleep(1.0)  # A backup's name is its second.
    code, told = _cli("create", *place)
    assert code == 0 and "are not on this machine" not in told
    assert (newest_backup(tmp_path / "kept").folder / anchors.name).read_bytes() == b'{"stream": "orders"}\n'
