"""A demo that is watched as an operator would: a real Prometheus scrapes it, a real InfluxDB takes its points, people
give commands, others vote, send rubbish and are refused: so that there is something to see on every board.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer
from demo_process import ROOT, DemoProcess, running_demo
from model_office import policy_artefact

from infra.dashboards.asking import Servers
from infra.servers.influx import RealInflux
from infra.servers.prometheus import start_prometheus

SCRAPE_S = 1.0
EXPERT_SCRIPT = ROOT / "docs" / "examples" / "foreign_expert.py"
VOTE_TOPIC = "tradermind.ingest.vote.v1"
_READ_BY_TEXT = '"text_fed": True, "evidence": {"sentiment": 0.25}'


@dataclass(frozen=True, slots=True)
class Watched:
    """A running demo, where its three data sources are, and when it began, in seconds since 1970."""

    demo: DemoProcess
    servers: Servers
    began_s: float


@contextlib.contextmanager
def watched_run(folder: Path, influx: RealInflux, bucket: str) -> Iterator[Watched]:
    """A demo that is scraped, and in which all has happened that boards show. It lasts until the block ends."""
    began_s = time.time()
    changes = [
        ('# url = "http://host:8086"', f'url = "{influx.url}"'),
        ('# org = "tradermind"', f'org = "{influx.org}"'),
        ('# bucket = "tradermind"', f'bucket = "{bucket}"'),
        ('# token_file = "influx.token"', f'token_file = "{influx.token_file}"'),
        ("ballot_deadline_ms", "ballot_deadline_ms = 900"),
        ('# directory = ".tradermind/models"', f'directory = "{folder / "models"}"'),
    ]
    with contextlib.ExitStack() as stack:
        # Before the workers: what Prometheus has not seen at 0 it does not see rise.
        targets = folder / "run" / "prometheus-targets.json"
        prometheus = start_prometheus(folder / "prometheus", targets, scrape_interval_s=SCRAPE_S)
        stack.callback(prometheus.stop)
        demo = stack.enter_context(running_demo(folder, changes=changes))
        # A ballot that its deadline closes has no market record behind it, and strangers may be late: not before this.
        demo.until(lambda: len(demo.rows("SELECT 1 FROM order_latencies")) > 2, 90)
        for name, kind in (("guest.flow", "informative"), ("guest.reader", "uniform")):
            stack.enter_context(_foreign_expert(folder, demo, name, kind))
        _people_act(folder, demo)
        servers = Servers(prometheus.url, demo.dsn, influx.url, bucket, influx.token)
        yield Watched(demo, servers, began_s)


@contextlib.contextmanager
def _foreign_expert(folder: Path, demo: DemoProcess, name: str, kind: str) -> Iterator[None]:
    """The example of a foreign expert, running; the uniform one says that it is fed by texts."""
    text = EXPERT_SCRIPT.read_text()
    if kind == "uniform":
        assert '"evidence": {}' in text
        text = text.replace('"evidence": {}', _READ_BY_TEXT)
    script = folder / f"{name}.py"
    script.write_text(text)
    process = subprocess.Popen(
        [sys.executable, str(script), demo.bootstrap, demo.registry, name, kind], stdin=subprocess.DEVNULL
    )
    try:
        yield
        assert process.poll() is None, f"{name} has ended"
    finally:
        process.terminate()
        process.wait(10)


def _people_act(folder: Path, demo: DemoProcess) -> None:
    """Rubbish is sent and discarded, a limit is tightened, a kill is lifted by two, models are released and refused."""
    producer = Producer({"bootstrap.servers": demo.bootstrap, "partitioner": "murmur2_random"})
    producer.produce(VOTE_TOPIC, b"\0\0\0\0\0 no record", key="SIM:BTCUSD")
    assert producer.flush(10) == 0
    store = folder / "models"
    good = policy_artefact(store, "drill")
    broken = policy_artefact(store, "broken", seed=2)
    (store / broken / "weights.safetensors").write_bytes(b"\x80\x04 no weights")
    _command(demo, "model", "promote", good, "--to", "shadow", "--reason", "on trial")
    _command(demo, "model", "promote", broken, "--to", "shadow", "--reason", "by mistake", code=None)
    _command(demo, "limits", "propose", "order_quantity_max=0.002", "--instrument", "SIM:ETHUSD", "--reason", "a drill")
    _command(demo, "kill", "--strategy", "pulse", "--reason", "a drill")
    demo.until(lambda: demo.rows("SELECT 1 FROM order_verdicts WHERE verdict = 'DENIED' AND strategy = 'pulse'"), 60)
    _lift(demo)
    demo.until(lambda: demo.rows("SELECT 1 FROM dead_letters"), 30)
    _command(demo, "dlq", "discard", "--all", "--reason", "a drill")


def _lift(demo: DemoProcess) -> None:
    """Two people set the strategy free again."""
    _command(demo, "risk", "ACTIVE", "--strategy", "pulse", "--reason", "it was a drill", code=None)
    [(change,)] = demo.rows("SELECT change_id FROM change_proposals ORDER BY ordinal DESC LIMIT 1")
    for person in ("ann", "bob"):
        _command(demo, "change", "approve", change, "--key", str(demo.run / f"{person}.key"))
    _command(demo, "change", "apply", change)


def _command(demo: DemoProcess, *words: str, code: int | None = 0) -> str:
    """Run one command on the demo, as people do; without a ``code`` any exit code is right."""
    command = [sys.executable, "-m", "streams.entry", *words, "--run", str(demo.run)]
    done = subprocess.run(command, cwd=demo.folder, capture_output=True, text=True, timeout=60)
    assert code is None or done.returncode == code, f"{words}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
    return done.stdout
