"""A worker that lives, is assigned and does not flow: it is seen in its status, and ends with one sentence."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import engine_toys
import psycopg
import pytest
import stuck_toys
from confluent_kafka import Producer
from engine_runs import CODEC, ROOT

from infra.kafka import client_settings
from infra.postgres.migrate import migrate
from infra.servers import ChildProcess, EmbeddedBroker, Launch, start_process
from schemas.event import stamp_identity, stamp_position
from schemas.topics import MARKET_MARK

STUCK_AFTER_S = 2.0


def _start(bootstrap: str, dsn: str, directory: Path, stage: str) -> ChildProcess:
    facts = {"bootstrap": bootstrap, "dsn": dsn, "embedded": True, "stuck_after_s": STUCK_AFTER_S}
    command = [sys.executable, stuck_toys.__file__, json.dumps({"stages": [stage], **facts})]
    return start_process(Launch(stage, command, directory / f"{stage}.log", {"PYTHONPATH": str(ROOT)}))


def _write_marks(bootstrap: str, count: int) -> None:
    producer = Producer(client_settings(bootstrap))
    for number in range(count):
        event = engine_toys.mark("TOY:I1", number, number, 1)
        stamp_identity(event, f"mark {number}", "toy", 0)
        stamp_position(event, "toy", 1, number + 1)
        producer.produce(MARKET_MARK.name, CODEC.encode(MARKET_MARK.name, event), key=b"TOY:I1", partition=0)
    assert producer.flush(30) == 0


def _status(dsn: str, stage: str) -> dict[str, float]:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT counters FROM worker_status WHERE stage = %s", (stage,)).fetchone()
    return {} if row is None else row[0]


@pytest.mark.embedded
@pytest.mark.slow
def test_a_stage_whose_companion_never_returns_is_noticed_and_its_neighbours_are_not(
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker], database: str, tmp_path: Path
) -> None:
    migrate(database)
    broker = embedded_broker(engine_toys.topic_partitions())
    _write_marks(broker.bootstrap, 300)
    stuck = _start(broker.bootstrap, database, tmp_path, "decider")
    sound = _start(broker.bootstrap, database, tmp_path, "feedback")
    try:
        seen: dict[str, float] = {}
        deadline = time.monotonic() + 60
        while stuck.alive():
            assert time.monotonic() < deadline, stuck.last_lines(20)
            now = _status(database, "decider")
            if now.get("still_s", 0) > seen.get("still_s", 0):
                seen = now
            time.sleep(0.2)
        assert stuck.popen.wait(5) == 1
        said = stuck.log_file.read_text().strip().splitlines()[-1]
        lane = f"{MARKET_MARK.name}/0"
        assert said == (
            f"decider/0 is stuck: {lane} is assigned to it, it stands at offset 0 of 300 and has not moved for"
            f" {STUCK_AFTER_S:g} s."
        )
        assert seen["behind_records"] == 300 and 0 < seen["still_s"] <= STUCK_AFTER_S, seen
        time.sleep(STUCK_AFTER_S)
        assert sound.alive(), "a stage that has read all stands still and is not stuck"
        assert _status(database, "feedback")["records"] == 300
        assert _status(database, "feedback")["behind_records"] == 0
    finally:
        stuck.kill()
        sound.kill()
