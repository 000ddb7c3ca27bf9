"""The readers' example against a log with everything that at-least-once brings: doubles, gaps, a new generation."""

import sqlite3
import subprocess
import sys
from pathlib import Path

from demo_process import ROOT
from engine_runs import trade
from msgspec.structs import replace
from outsider import Outsider
from registry_server import registry_server
from servers import AnyBroker

from schemas.codec import Codec
from schemas.market import Trade
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT

SCRIPT = ROOT / "docs" / "examples" / "read_once.py"
CODEC = Codec(SchemaTable.committed())


def _trade(number: int, generation: int, seq: int, source: str = "feed/X/0") -> bytes:
    event = trade(number)
    assert isinstance(event, Trade)
    return CODEC.encode(MARKET_EVENT.name, replace(event, source=source, generation=generation, seq=seq))


def test_every_event_has_its_effect_once(any_broker: AnyBroker, tmp_path: Path) -> None:
    topic = f"read-once.{tmp_path.name.replace('[', '-').replace(']', '')}"
    any_broker.make_topics({topic: 2})
    outsider = Outsider(any_broker.bootstrap, "no registry is asked")
    with registry_server() as registry:

        def read() -> str:
            command = [
                sys.executable,
                str(SCRIPT),
                any_broker.bootstrap,
                registry.url,
                topic,
                str(tmp_path / "read.db"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        first = [_trade(1, 1, 10), _trade(2, 1, 11), _trade(2, 1, 11), _trade(1, 1, 10), _trade(3, 1, 15)]
        outsider.write_all(topic, first, partition=1)
        assert read() == "3 effects, 2 dropped as seen before"
        # A restart of the writer sends the end of its batch again; then a new generation begins to count anew.
        again = [_trade(2, 1, 11), _trade(3, 1, 15), _trade(4, 1, 16), _trade(5, 2, 0), _trade(4, 1, 16)]
        outsider.write_all(topic, again, partition=1)
        # Another source counts for itself, and so does another partition.
        outsider.write_all(topic, [_trade(6, 1, 10, "feed/Y/0")], partition=1)
        outsider.write_all(topic, [_trade(7, 1, 10)], partition=0)
        assert read() == "4 effects, 3 dropped as seen before"
        # The reader itself is thrown back, as by an offset that was lost: what it has seen still counts.
        with sqlite3.connect(tmp_path / "read.db") as database:
            database.execute("DELETE FROM next_offset")
        assert read() == "0 effects, 12 dropped as seen before"
    with sqlite3.connect(tmp_path / "read.db") as database:
        effects = [row[0] for row in database.execute("SELECT event_id FROM effect")]
    assert len(effects) == len(set(effects)) == 7
