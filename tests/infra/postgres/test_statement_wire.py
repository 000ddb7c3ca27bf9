"""The wire that ends a process at its n-th statement does so exactly there, or the crash points prove nothing."""

import subprocess
import sys

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from statement_wire import Side, StatementWire

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, psycopg
sys.stdin.readline()
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for number in range(1, 6):
        connection.execute("INSERT INTO written VALUES (%s)", (number,))
        print(number, flush=True)
"""


def _life(wire: StatementWire, dsn: str, at: int, side: Side) -> tuple[int, list[str]]:
    near = make_conninfo(dsn, port=wire.port, sslmode="disable", gssencmode="disable")
    wire.arm(at, side)
    command = [sys.executable, "-c", PROGRAM, near]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wire.watch(child.pid)
    said, _ = child.communicate("go\n", timeout=30)
    return child.returncode, said.split()


@pytest.mark.parametrize(("at", "side"), [(1, Side.BEFORE), (3, Side.BEFORE), (3, Side.AFTER), (5, Side.AFTER)])
def test_the_sender_of_the_nth_statement_ends_on_the_side_that_was_asked_for(
    database: str, at: int, side: Side
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE written (number int)")
        wire = StatementWire(int(conninfo_to_dict(database)["port"])).start()
        assert _life(wire, database, 0, Side.BEFORE) == (0, ["1", "2", "3", "4", "5"])
        assert wire.statements == 5
        connection.execute("TRUNCATE written")
        code, answers = _life(wire, database, at, side)
        wire.stop()
        rows = [row[0] for row in connection.execute("SELECT number FROM written ORDER BY number").fetchall()]
    assert code == -9
    assert answers == [str(number) for number in range(1, at)], "no answer to the one it ended at"
    assert rows == list(range(1, at + (side is Side.AFTER)))


def test_a_lost_answer_is_one_to_what_was_carried_out_and_to_shards_alone(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE written (number int)")
        wire = StatementWire(int(conninfo_to_dict(database)["port"])).start()
        near = make_conninfo(database, port=wire.port, sslmode="disable", gssencmode="disable")
        wire.lose = lambda: True
        with psycopg.connect(near, autocommit=True, application_name="tradermind sinks") as other:
            other.execute("INSERT INTO written VALUES (1)")
        shard = psycopg.connect(near, autocommit=True, application_name="tradermind decider/0")
        with pytest.raises(psycopg.OperationalError):
            shard.execute("INSERT INTO written VALUES (2)")
        wire.lose = None
        with psycopg.connect(near, autocommit=True, application_name="tradermind decider/0") as again:
            assert again.execute("SELECT number FROM written ORDER BY number").fetchall() == [(1,), (2,)]
        assert wire.lost == 1
        wire.stop()
