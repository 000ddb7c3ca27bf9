"""A platform at work under a real Prometheus and Alertmanager: who is told what, and how soon; what nobody dies of."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from alert_files import ROOT
from campaign import SETTINGS, SIMULATED
from demo_process import DemoProcess, running_demo
from watchmen import Watchmen, probe, wait_until, watchmen

from infra.people import development_people
from infra.postgres.migrate import migrate
from infra.servers import ChildProcess, EmbeddedBroker, EmbeddedPostgres, free_port, start_postgres
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from streams.demo.servers import write_overrides
from streams.metrics_port import TARGETS, write_targets
from streams.processes import start_worker

TOLD_WITHIN_S = 5.0
"""What RTS 6 Art. 16(5) asks for."""
WORKERS = ("experts", "risk")
"""One of each kind: whose checkpoint follows what it sends, and whose outbox goes out after it."""


@pytest.mark.embedded
@pytest.mark.slow(seconds=40)
@pytest.mark.usefixtures("prometheus_programs")
def test_a_broken_limit_reaches_whoever_is_on_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit of a day's loss is made so tight that what was lost already breaks it: the account is halted."""
    with running_demo(tmp_path) as demo, watchmen(tmp_path, demo.run / TARGETS) as watch:
        lost = 'tradermind_limit_used_ratio{limit="daily_loss_max"} * 2000'
        demo.until(lambda: any(value > 1 for value in watch.values(lost)), 90)
        before = {told.labels["alertname"] for told in watch.receiver.told}
        assert before.isdisjoint({"RiskLimitBreach", "KillSwitchActive"})
        wait_until("every rule was evaluated", lambda: "unknown" not in _health(watch), 60)
        assert _health(watch) == {"ok"}, [rule for rule in watch.rules() if rule["health"] != "ok"]
        wait_until("all that is recorded has data", lambda: _recorded_without_data(watch) == set(), 60)
        _tighten(demo)
        breach = watch.receiver.wait_for("RiskLimitBreach", 60, limit="daily_loss_max")
        halt = watch.receiver.wait_for("KillSwitchActive", 60, scope="ACCOUNT")
        [(ordered_s,)] = demo.rows("SELECT created_at_ns / 1e9::float8 FROM commands ORDER BY ordinal DESC LIMIT 1")
    with capsys.disabled():
        for told in (breach, halt):
            evaluated_ms, broken_s = 1000 * (told.at_s - told.starts_at_s), told.at_s - ordered_s
            name = told.labels["alertname"]
            print(f"\n{name}: {evaluated_ms:.0f} ms from evaluation to webhook, {broken_s:.1f} s from the command")  # noqa: T201
    for told in (breach, halt):
        assert told.receiver == "page-trading"
        assert 0 <= told.at_s - told.starts_at_s <= TOLD_WITHIN_S
        assert (ROOT / told.annotations["runbook_url"]).is_file()
    assert breach.annotations["summary"].startswith("The limit daily_loss_max is used to ")
    assert not breach.annotations["summary"].endswith("to 100%.")


def _tighten(demo: DemoProcess) -> None:
    command = [sys.executable, "-m", "streams.entry", "limits", "propose", "daily_loss_max=0.5"]
    command += ["--reason", "a drill", "--run", str(demo.run)]
    done = subprocess.run(command, cwd=demo.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _health(watch: Watchmen) -> set[str]:
    return {rule["health"] for rule in watch.rules()}


def _recorded_without_data(watch: Watchmen) -> set[str]:
    names = {rule["name"] for rule in watch.rules() if rule["type"] == "recording"}
    assert names
    return {name for name in names if not watch.values(name)}


@dataclass(frozen=True, slots=True)
class Outage:
    """Workers of a platform that trades nothing, their own servers, which can be killed, and what watches them."""

    workers: Mapping[str, ChildProcess]
    ports: Mapping[str, int]
    postgres: EmbeddedPostgres
    broker: EmbeddedBroker
    watch: Watchmen

    def ready(self) -> bool:
        """Whether every worker says that it is ready."""
        return all(probe(port, "/readyz")[0] == 200 for port in self.ports.values())

    def unready(self, reason: str) -> bool:
        """Whether every worker says that it is not ready, and for this reason; alive it must be all the while."""
        for name, port in self.ports.items():
            assert probe(port, "/livez") == (200, []), name
            assert self.workers[name].alive(), self.workers[name].last_lines(5)
        answers = [probe(port, "/readyz") for port in self.ports.values()]
        return all(status == 503 and reason in reasons for status, reasons in answers)


@pytest.fixture
def outage(
    tmp_path: Path, embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker], prometheus_programs: None
) -> Iterator[Outage]:
    """Workers that are ready."""
    with contextlib.ExitStack() as stack:
        postgres = start_postgres(tmp_path / "pg")
        stack.callback(postgres.stop)
        migrate(postgres.dsn)
        specs = topic_specs(load_settings(SETTINGS, {}))
        broker = embedded_broker({spec.name: spec.partitions for spec in specs})
        run_file, ports = _described(tmp_path, broker, postgres)
        workers = {name: start_worker([name], run_file, SETTINGS, tmp_path) for name in WORKERS}
        for worker in workers.values():
            stack.callback(worker.kill)
        watch = stack.enter_context(watchmen(tmp_path, tmp_path / TARGETS))
        made = Outage(workers, ports, postgres, broker, watch)
        wait_until("the workers serve", lambda: _serve(made), 60)
        wait_until("the workers are ready", made.ready, 60)
        yield made


def _described(folder: Path, broker: EmbeddedBroker, postgres: EmbeddedPostgres) -> tuple[Path, dict[str, int]]:
    """Describe a run of these workers alone, each with a port of its own."""
    overrides = {
        "run.directory": str(folder),
        "kafka.bootstrap": broker.bootstrap,
        "postgres.dsn": postgres.dsn,
        **development_people(folder),
        **SIMULATED,
    }
    run_file = write_overrides(folder, overrides, [[name] for name in WORKERS])
    ports = {name: free_port() for name in WORKERS}
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"embedded": True, "metrics": ports}))
    write_targets(folder / TARGETS, ports)
    return run_file, ports


def _serve(outage: Outage) -> bool:
    assert all(worker.alive() for worker in outage.workers.values())
    return set(outage.watch.values("up")) == {1.0} and len(outage.watch.values("up")) == len(WORKERS)


@pytest.mark.embedded
@pytest.mark.slow(seconds=60)
def test_servers_that_are_killed_make_workers_unready_and_never_dead(
    outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    """First the database, which comes back; then the broker. Who is on call hears of the cause, for each worker."""
    receiver = outage.watch.receiver
    outage.postgres.kill()
    database_s = wait_until("unready", lambda: outage.unready("the database does not answer"), 60)
    for name in WORKERS:
        assert receiver.wait_for("DatabaseDown", 30, worker=name).receiver == "page-platform"
    wait_until("NotReady fires", lambda: _fires_while(outage, "the database does not answer"), 60)
    outage.postgres.restart()
    wait_until("ready again", outage.ready, 90)
    for name in WORKERS:
        receiver.wait_for("DatabaseDown", 30, status="resolved", worker=name)
    wait_until("NotReady is over", lambda: outage.watch.firing("NotReady") == set(), 30)
    outage.broker.kill()
    broker_s = wait_until("unready", lambda: outage.unready("the broker does not answer"), 60)
    for name in WORKERS:
        assert receiver.wait_for("BrokerDown", 30, worker=name).receiver == "page-platform"
    wait_until("NotReady fires", lambda: _fires_while(outage, "the broker does not answer"), 60)
    told = {told.labels["alertname"] for told in receiver.told}
    assert "NotReady" not in told, "what follows from a server that is down is not told beside it"
    assert "WatchdogAlwaysFiring" in told
    with capsys.disabled():
        print(f"\nunready {database_s:.1f} s after the database's end, {broker_s:.1f} s after the broker's")  # noqa: T201


def _fires_while(outage: Outage, reason: str) -> bool:
    assert outage.unready(reason)
    return outage.watch.firing("NotReady") == set(WORKERS)
