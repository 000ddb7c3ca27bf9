"""Two systems of others that feed a running demo, a Java client through Maven and kcat, and what becomes of it.

Run as a program it starts a demo on real Kafka, lets both write for a while, and prints what became of it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from demo_process import DemoProcess, running_demo
from other_clients import EXAMPLES, java_libraries, kcat

from infra.kafka import topic_partitions
from schemas.codec import Codec
from schemas.market import Quote, Trade
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT
from streams.offline.log_reader import LogReader

EXTERNAL = "EXT:DEMO"
UNKNOWN = "EXT:NOBODY"
"""An instrument that is not defined: all that is said of it is refused."""
TRADES, QUOTES = "tradermind.ingest.trade.v1", "tradermind.ingest.quote.v1"
DELIMITER = "<|next|>"
_LAG = re.compile(
    r'^tradermind_consumer_lag_records\{(?=.*topic="tradermind\.ingest\.)[^}]*\} ([0-9.e+]+)', re.MULTILINE
)
_CONSUMED = re.compile(
    r'^tradermind_events_consumed_total\{outcome="(\w+)",topic="(tradermind\.ingest\.[a-z.0-9]+)"[^}]*\} ([0-9.e+]+)',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Load:
    """What was written and what became of it.

    ``seconds``: between the first and the last record, by the broker. ``lag_max``: records that nobody had taken yet.
    """

    seconds: float
    trades: int
    quotes: int
    refused: int
    in_log: Mapping[str, int]
    in_log_twice: int
    in_record: Mapping[str, int]
    dead_letters: Mapping[str, int]
    consumed: Mapping[str, int]
    lag_max: int
    caught_up_s: float

    @property
    def rate(self) -> float:
        """Records a second of all writers together."""
        return (self.trades + self.quotes + self.refused) / self.seconds


def load(demo: DemoProcess, rate: int, seconds: int) -> Load:
    """Let both write for a while, ``rate`` records a second together, of which some are refused; wait and count."""
    before = Counter(_consumed(demo))
    began = time.monotonic()
    trades, refused, quotes = rate // 2, max(1, rate // 50), rate // 2 - max(1, rate // 50)
    java = _java(demo, EXTERNAL, trades, seconds)
    kcats = [_kcat(demo, EXTERNAL, quotes, seconds), _kcat(demo, UNKNOWN, refused, seconds)]
    lag_max = 0
    writers = [java, *(process for pair in kcats for process in pair)]
    while any(writer.poll() is None for writer in writers):
        lag_max = max(lag_max, _lag(demo))
        time.sleep(0.25)
        assert demo.process.poll() is None, demo.told()
        assert time.monotonic() - began < 10 * seconds + 120, "the writers do not come to an end"
    took = time.monotonic() - began
    told = [(writer.communicate()[0] or b"").decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(writers), told
    assert f"{trades * seconds} trades written, 0 not" in told[0], told
    wanted = (trades + quotes) * seconds
    counted = "SELECT kind, count(*) FROM market_data WHERE instrument = %s GROUP BY 1"
    # A lag is over when the record has what there is to have.
    demo.until(lambda: sum(int(count) for _, count in demo.rows(counted, EXTERNAL)) >= wanted, 180)
    letters = "SELECT reason, count(*) FROM dead_letters GROUP BY 1"
    demo.until(lambda: sum(int(count) for _, count in demo.rows(letters)) >= refused * seconds, 60)
    caught_up = time.monotonic() - began - took
    demo.until(lambda: sum((Counter(_consumed(demo)) - before).values()) >= wanted + refused * seconds, 30)
    in_log, twice = _in_log(demo.bootstrap)
    return Load(
        seconds=_written_s(demo.bootstrap),
        trades=trades * seconds,
        quotes=quotes * seconds,
        refused=refused * seconds,
        in_log=in_log,
        in_log_twice=twice,
        in_record={str(kind): int(count) for kind, count in demo.rows(counted, EXTERNAL)},
        dead_letters={str(reason): int(count) for reason, count in demo.rows(letters)},
        consumed=Counter(_consumed(demo)) - before,
        lag_max=lag_max,
        caught_up_s=caught_up,
    )


def _java(demo: DemoProcess, instrument: str, rate: int, seconds: int) -> "subprocess.Popen[bytes]":
    source = EXAMPLES / "java" / "IngestTrades.java"
    quick = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")
    words = [demo.bootstrap, demo.registry, instrument, "101.25", str(rate), str(seconds)]
    command = ["java", *quick, "-cp", f"{java_libraries()}/*", str(source), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _kcat(demo: DemoProcess, instrument: str, rate: int, seconds: int) -> tuple["subprocess.Popen[bytes]", ...]:
    program, environment = kcat()
    words = [demo.registry, instrument, "101.25", str(rate), str(seconds)]
    frames = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "frame_quotes.py"), *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert frames.stdout is not None
    producer = subprocess.Popen(
        [str(program), "-P", "-b", demo.bootstrap, "-t", QUOTES, "-k", instrument, "-D", DELIMITER],
        stdin=frames.stdout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
    )
    frames.stdout.close()
    frames.stdout = None
    return frames, producer


def _scraped(demo: DemoProcess) -> str:
    port = json.loads((demo.run / "run.json").read_text())["metrics"]["ingestion"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def _lag(demo: DemoProcess) -> int:
    return round(sum(float(value) for value in _LAG.findall(_scraped(demo))))


def _consumed(demo: DemoProcess) -> dict[str, int]:
    """Return outcome -> records, of the two topics."""
    found: Counter[str] = Counter()
    for outcome, topic, count in _CONSUMED.findall(_scraped(demo)):
        if topic in (TRADES, QUOTES):
            found[outcome] += round(float(count))
    return found


def _written_s(bootstrap: str) -> float:
    """Return the seconds between the first and the last record of both topics, by the broker's own clock."""
    times: list[int] = []
    partitions = topic_partitions(bootstrap)
    for topic in (TRADES, QUOTES):
        for partition in range(partitions[topic]):
            reader = LogReader(bootstrap, (topic, partition))
            while (record := reader.next()) is not None:
                times.append(record.timestamp_ms)
            reader.close()
    return (max(times) - min(times)) / 1000


def _in_log(bootstrap: str) -> tuple[dict[str, int], int]:
    """Return how many trades and quotes of the instrument lie in ``market.event``, and how many event ids twice."""
    codec = Codec(SchemaTable.committed())
    kinds: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for partition in range(4):
        reader = LogReader(bootstrap, (MARKET_EVENT.name, partition))
        while (record := reader.next()) is not None:
            event = codec.decode(record.topic, record.value, record.headers)
            if isinstance(event, Trade | Quote) and event.key == EXTERNAL:
                kinds[type(event).__name__] += 1
                ids[event.event_id] += 1
        reader.close()
    return dict(kinds), sum(count > 1 for count in ids.values())


def check(found: Load) -> None:
    """Raise AssertionError unless each record had its one effect."""
    assert found.in_log == {"Trade": found.trades, "Quote": found.quotes}, found
    assert found.in_log_twice == 0
    assert found.in_record == {"TRADE": found.trades, "QUOTE": found.quotes}, found
    assert found.dead_letters == {"INSTRUMENT_REFUSED": found.refused}, found
    assert (
        found.consumed["handled"] + found.consumed.get("dead_letter", 0) == found.trades + found.quotes + found.refused
    )
    assert found.consumed["dead_letter"] == found.refused, found


def main() -> None:
    """Run it for a while and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2_000, help="records a second, all writers together")
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, running_demo(Path(folder), ("--broker", "kafka")) as demo:
        found = load(demo, given.rate, given.seconds)
    check(found)
    sys.stdout.write(told(found) + "\n")


def told(found: Load) -> str:
    """Return it in one sentence for people."""
    return (
        f"{found.trades:,} trades of the Java client and {found.quotes + found.refused:,} quotes of kcat in"
        f" {found.seconds:.1f} s ({found.rate:,.0f}/s); each once in market.event and in Postgres, {found.refused:,} of"
        f" them refused as dead letters; at most {found.lag_max:,} waited, and the record was complete"
        f" {found.caught_up_s:.1f} s after"
    )


if __name__ == "__main__":
    main()
