"""Two systems of others that feed a running demo, a Java client through Maven and kcat, and what becomes of it.

A real Prometheus scrapes it, and the panels of the board for what comes from others are asked what they show.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from demo_process import ROOT, DemoProcess, running_demo
from other_clients import EXAMPLES, java_libraries, kcat

from infra.dashboards.asking import Servers, asking
from infra.dashboards.boards import foreign, risk
from infra.dashboards.macros import Span
from infra.kafka import topic_partitions
from infra.servers.prometheus import start_prometheus
from infra.settings import load_settings
from schemas.codec import Codec
from schemas.market import Quote, Trade
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT
from streams.doctor.connections import connections_wanted
from streams.offline.log_reader import LogReader

EXTERNAL = "EXT:DEMO"
UNKNOWN = "EXT:NOBODY"
"""An instrument that is not defined: all that is said of it is refused."""
TRADES, QUOTES = "tradermind.ingest.trade.v1", "tradermind.ingest.quote.v1"
DELIMITER = "<|next|>"
SCRAPE_S = 1.0
SENT, REFUSED = "All that others send", "Refused"
LIMITS = "Limits in use over time"
"""Panels of the boards for what comes from others, and for risk."""
_HELD = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
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

    ``together_per_s``: records a second while all of them wrote, by the broker's clock, and ``together_s`` how long
    that was; a JVM begins later than kcat. ``lag_max``: records that nobody had taken yet. ``shown``: panel and line ->
    the most that it showed. ``connections``: to Postgres, that the workers held in the end.
    """

    together_s: float
    together_per_s: float
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
    shown: Mapping[str, float]
    filled: int
    connections: int

    def limits_used(self) -> list[float]:
        """Return the most that was used of each hard limit; 1 is all."""
        return [most for name, most in self.shown.items() if name.startswith(LIMITS)]


@contextmanager
def watched_demo(folder: Path) -> Iterator[tuple[DemoProcess, str]]:
    """A demo on real Kafka, and the address of the Prometheus that scrapes it."""
    prometheus = start_prometheus(
        folder / "prometheus", folder / "run" / "prometheus-targets.json", scrape_interval_s=SCRAPE_S
    )
    try:
        with running_demo(folder, ("--broker", "kafka")) as demo:
            yield demo, prometheus.url
    finally:
        prometheus.stop()


def load(demo: DemoProcess, prometheus: str, rate: int, seconds: int) -> Load:
    """Let both write for a while, ``rate`` records a second together, of which some are refused; wait and count."""
    before, began_s = Counter(_consumed(demo)), time.time()
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
    refusals = f"{REFUSED}: {QUOTES} INSTRUMENT_REFUSED"
    demo.until(lambda: _shown(demo, prometheus, began_s).get(refusals) == refused * seconds, 30)
    in_log, twice = _in_log(demo.bootstrap)
    together_s, together_per_s = _written_together(demo.bootstrap)
    return Load(
        together_s=together_s,
        together_per_s=together_per_s,
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
        shown=_shown(demo, prometheus, began_s),
        filled=demo.rows("SELECT count(*) FROM fills")[0][0],
        connections=demo.rows(_HELD)[0][0],
    )


def _shown(demo: DemoProcess, prometheus: str, began_s: float) -> dict[str, float]:
    """Ask the panels, over the time since then."""
    shown: dict[str, float] = {}
    with asking(Servers(prometheus, demo.dsn, "", "", ""), Span(began_s, time.time(), SCRAPE_S)) as asker:
        for panel in (*foreign.BOARD.panels, *risk.BOARD.panels):
            for query in panel.queries if panel.title in (SENT, REFUSED, LIMITS) else ():
                for line in asker.ask(query, {}).series:
                    shown[f"{panel.title}: {line.name}"] = max(value for _, value in line.points)
    return shown


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


def _written_together(bootstrap: str) -> tuple[float, float]:
    """Return for how many seconds both topics were written to, and the records a second in them, by the broker."""
    partitions = topic_partitions(bootstrap)
    times: dict[str, list[int]] = {TRADES: [], QUOTES: []}
    for topic, written in times.items():
        for partition in range(partitions[topic]):
            reader = LogReader(bootstrap, (topic, partition))
            while (record := reader.next()) is not None:
                written.append(record.timestamp_ms)
            reader.close()
    first, last = max(map(min, times.values())), min(map(max, times.values()))
    count = sum(first <= at <= last for written in times.values() for at in written)
    seconds = max(last - first, 1) / 1000
    return seconds, count / seconds


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
    assert all(found.shown[f"{SENT}: {topic}"] > 0 for topic in (TRADES, QUOTES)), found.shown
    wanted = connections_wanted(load_settings(ROOT / "tradermind.toml", environment={}))
    assert wanted / 2 < found.connections <= wanted, "what `tradermind doctor` reckons with"
    used = found.limits_used()
    assert found.filled > 0 and 0 < max(used) <= 1, f"{found.filled} fills, and limits used: {used}"


def main() -> None:
    """Run it for a while and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2_000, help="records a second, all writers together")
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, watched_demo(Path(folder)) as (demo, prometheus):
        found = load(demo, prometheus, given.rate, given.seconds)
    check(found)
    sys.stdout.write(told(found) + "\n")


def told(found: Load) -> str:
    """Return it in sentences for people."""
    of_board = ", ".join(f"{topic} {found.shown[f'{SENT}: {topic}']:,.0f}/s" for topic in (TRADES, QUOTES))
    return (
        f"{found.trades:,} trades of the Java client and {found.quotes + found.refused:,} quotes of kcat,"
        f" {found.together_per_s:,.0f}/s for the {found.together_s:.1f} s in which both wrote; each once in"
        f" market.event and in Postgres, {found.refused:,} of them refused as dead letters; at most {found.lag_max:,}"
        f" waited, and the record was complete {found.caught_up_s:.1f} s after. The board showed up to: {of_board}."
        f" Meanwhile {found.filled:,} fills, and at most {max(found.limits_used()):.0%} of a limit used"
    )


if __name__ == "__main__":
    main()
