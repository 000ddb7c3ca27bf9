"""The embedded Postgres: what is committed survives, what it leaves behind is nothing but its folder."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from process_table import gone_within, runs

from infra.servers import EmbeddedPostgres, ServerFailed, port_is_open, start_postgres

pytestmark = pytest.mark.embedded
ROOT = Path(__file__).resolve().parents[3]


def _pids(server: EmbeddedPostgres) -> list[int]:
    own = server.process.pid
    tasks = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    return [own, *map(int, tasks)]


def test_committed_rows_survive_a_killed_postgres_and_open_ones_do_not(tmp_path: Path) -> None:
    server = start_postgres(tmp_path)
    try:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        unfinished = psycopg.connect(server.dsn)
        unfinished.execute("INSERT INTO kept VALUES (8)")
        pids = _pids(server)
        assert len(pids) > 3
        server.kill()
        assert [pid for pid in pids if runs(pid)] == []
        assert not port_is_open(server.port)
        server.restart()
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
        with pytest.raises(psycopg.OperationalError):
            unfinished.execute("SELECT 1")
    finally:
        server.stop()
    assert not port_is_open(server.port)


def test_it_is_version_18_with_vectors_and_with_fsync_on(postgres_server: EmbeddedPostgres, database: str) -> None:
    with psycopg.connect(database) as connection:
        assert connection.info.server_version // 10_000 == 18
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        connection.execute("CREATE EXTENSION vector")
        near = connection.execute("SELECT '[1,2]'::vector <-> '[1,4]'::vector").fetchone()
        assert near == (2.0,)


def test_who_does_not_know_the_password_is_refused(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    password_file = postgres_server.directory.with_name("postgres.pass")
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    secret = password_file.read_text().strip().rpartition(":")[2]
    assert len(secret) > 20
    assert secret not in postgres_server.dsn
    nowhere = psycopg.conninfo.make_conninfo(postgres_server.dsn, passfile=str(tmp_path / "none"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(nowhere)
    assert not list(postgres_server.directory.parent.glob("*.init")), "what told initdb the password is gone"


def test_a_kept_folder_is_opened_again_also_after_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 20)
    first = start_postgres(folder)
    with psycopg.connect(first.dsn) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    first.stop()
    again = start_postgres(folder)
    try:
        with psycopg.connect(again.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        with pytest.raises(ServerFailed, match=r'Postgres ended with code 1: .*lock file "postmaster.pid"'):
            start_postgres(folder)
    finally:
        again.stop()


def test_two_servers_live_side_by_side(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    other = start_postgres(tmp_path)
    other.stop()
    with psycopg.connect(postgres_server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_start_that_was_killed_half_way_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "base").mkdir()
    server = start_postgres(tmp_path)
    server.stop()
    assert (tmp_path / "postgres" / "PG_VERSION").read_text() == "18\n"


def test_a_killed_parent_leaves_no_postgres_though_a_client_stays(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from infra.servers import start_postgres;"
        "server = start_postgres(pathlib.Path(sys.argv[1]));"
        "print(server.process.pid, server.dsn, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert parent.stdout is not None
    pid, dsn = parent.stdout.readline().split(" ", 1)
    with psycopg.connect(dsn, autocommit=True) as client:
        client.execute("SELECT 1")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert gone_within(int(pid), 20)
    assert not (tmp_path / "postgres" / "postmaster.pid").exists(), "it was shut down in order"
