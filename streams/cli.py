"""The command line. Exit codes: 0 done, 1 what was asked for is not so or went wrong, 2 wrong settings or surroundings.

A user's mistake is one sentence on stderr, never a traceback.
"""

import asyncio
import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer
from rich.console import Console

from infra.kafka import topic_partitions
from infra.postgres.migrate import refuse_other_schema
from infra.postgres.restores import why_no_worker_may_start
from infra.settings import SettingsError, load_settings
from infra.topic_specs import refuse_other_count
from streams import (
    cli_audit,
    cli_backup,
    cli_change,
    cli_commands,
    cli_dlq_changes,
    cli_limits,
    cli_model,
    cli_person,
    cli_reads,
    cli_rebuild,
    cli_report,
    cli_schemas,
    cli_topics,
)
from streams.cli_backtest import backtest
from streams.cli_conformance import conformance
from streams.cli_doctor import doctor
from streams.cli_experts import experts
from streams.cli_migrate import migrate_database
from streams.cli_prune import prune_journal
from streams.cli_reconcile import reconcile
from streams.cli_replay import replay
from streams.cli_rescale import rescale
from streams.cli_restore import restore
from streams.cli_secrets import app as secrets_app
from streams.cli_simulate import simulate
from streams.cli_tca import tca
from streams.cli_train import refuse_without_the_extra, train
from streams.cli_up import down, up
from streams.cli_why_not import explain_absence
from streams.composition import compose
from streams.processes import read_run_file, settings_of_run
from streams.sentences import one_sentence
from streams.standing import tell_of_other_limits

app = typer.Typer(
    help="TraderMind: an event-driven trading platform on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_DATABASE_S: Final = 5.0
SettingsOption = Annotated[Path | None, typer.Option("--settings", help="The settings file (default tradermind.toml).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def demo(
    *,
    duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds; a capture runs to its end by default.")
    ] = None,
    broker: Annotated[str, typer.Option(help="embedded, kafka (started by Maven) or host:port.")] = "embedded",
    feed: Annotated[str, typer.Option(help="simulated, binance, or paths of captures, comma-separated.")] = "simulated",
    speed: Annotated[str, typer.Option(help="Of a capture: a multiple of its clock, or max.")] = "1",
    policy: Annotated[str | None, typer.Option(help="champion, baseline, null, probe; else the settings'.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    trainer: Annotated[bool, typer.Option("--trainer", help="Train candidates, too (extra: train).")] = False,
    settings: SettingsOption = None,
    directory: Annotated[Path | None, typer.Option(help="Where the run writes (default .run/<time>).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole platform on this machine, then sum up."""
    from streams.demo.plan import DemoPlan, worker_groups
    from streams.demo.report import report
    from streams.demo.run import Demo

    plan = DemoPlan(
        directory=(directory or Path(".run") / time.strftime("%Y%m%d-%H%M%S")).resolve(),
        settings_file=settings,
        broker=broker,
        feed=feed,
        speed=speed,
        policy=policy,
        seed=seed,
        duration_s=duration,
        trainer=trainer,
        groups=worker_groups(trainer=trainer),
    )
    console = Console(stderr=as_json)
    summary = None
    # Before Demo has put its handlers in place, Ctrl-C is this exception, and nothing has begun.
    with one_sentence(), contextlib.suppress(KeyboardInterrupt):
        if trainer:
            refuse_without_the_extra()
        summary = asyncio.run(Demo(plan, console).run())
    if summary is None:
        console.print("Ended before the workers were ready; nothing is left running.")
        return
    text = json.dumps(summary, indent=1)
    Path("summary.json").write_text(text + "\n")
    if as_json:
        typer.echo(text)
    else:
        report(summary, console, plan)


@app.command()
def worker(
    stages: Annotated[
        list[str], typer.Argument(help="ingestion experts voting decider risk execution feedback control sinks trainer")
    ],
    run_file: Annotated[Path | None, typer.Option(help="What a run says of itself (run.json).")] = None,
    instance: Annotated[str | None, typer.Option(help="A stable name for static membership.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Where /metrics and the probes are; 0: nowhere.")
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Run one worker process that hosts these stages."""
    from streams.launch import build_worker, engine_settings
    from streams.metrics_port import open_port, port_of, teller_of

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with one_sentence():
        described = read_run_file(run_file) if run_file is not None else {}
        run = compose(settings_of_run(run_file, settings))
        engine = engine_settings(run.settings, embedded=bool(described.get("embedded")), instance_id=instance)
        port = port_of(run.settings.metrics, described, stages, metrics_port)
        teller = teller_of(run, engine, stages, port)
        process = build_worker(run, engine, stages, teller)
        refuse_other_count(topic_partitions(engine.bootstrap, engine.security), engine.instrument_partitions)
        _await_database(engine.dsn)
        refuse_other_schema(engine.dsn)
        if (why := why_no_worker_may_start(engine.dsn)) is not None:
            raise SettingsError(why)
        if "execution" in stages:
            tell_of_other_limits(run, engine.dsn)
        open_port(teller, run.settings.metrics.host, port)
    raise typer.Exit(asyncio.run(process.run()))


@app.command()
def config(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Print every setting, its value and where it comes from."""
    with one_sentence():
        loaded = load_settings(settings)
        compose(loaded)
    _print_rows(loaded.describe(), as_json)


app.command()(doctor)
app.command()(up)
app.command()(down)
app.command()(backtest)
app.command()(reconcile)
app.command()(replay)
app.command()(restore)
app.command(name="migrate")(migrate_database)
app.command(name="prune")(prune_journal)
app.command()(conformance)
app.command()(simulate)
app.command()(tca)
app.command()(train)
app.command()(experts)
app.add_typer(cli_schemas.app, name="schemas")
cli_topics.app.command()(rescale)
app.add_typer(cli_topics.app, name="topics")
app.add_typer(cli_reads.app)
app.add_typer(cli_commands.app)
app.command(name="why-not")(explain_absence)
app.add_typer(cli_audit.app, name="audit")
app.add_typer(cli_backup.app, name="backup")
app.add_typer(cli_report.app, name="report")
app.add_typer(cli_limits.app, name="limits")
app.add_typer(cli_change.app, name="change")
app.add_typer(cli_person.app, name="person")
app.add_typer(cli_rebuild.app, name="rebuild")
app.add_typer(cli_model.app, name="model")
app.add_typer(secrets_app, name="secrets")
app.add_typer(cli_dlq_changes.app, name="dlq")


def _await_database(dsn: str) -> None:
    """Return when the database answers: it may be starting, too. Raises psycopg.OperationalError after a while."""
    deadline = time.monotonic() + _DATABASE_S
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*(", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in row.values()))
    Console().print(table)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
