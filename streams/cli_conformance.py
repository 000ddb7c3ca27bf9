"""``tradermind conformance``: another team's topic against our contract."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.kafka import topic_partitions
from infra.kafka_security import security_of
from infra.settings import SettingsError, load_settings
from schemas.codec import Codec
from schemas.topics import TOPICS, Topic
from streams.cli_record import LATEST_RUN
from streams.cli_tables import print_rows
from streams.composition import compose
from streams.conformance import Findings, Inspector, inspect_topic
from streams.contracts import schema_table
from streams.engine.log_reader import RecomputeImpossible
from streams.ingestion import ingress_hostings
from streams.processes import read_run_file
from streams.sentences import one_sentence

_COLUMNS = ("reason", "count", "partition", "offset", "detail")


def conformance(
    *,
    topic: Annotated[str, typer.Argument(help="The topic to read: one of ours, or one of yours with --contract.")],
    broker: Annotated[
        str | None, typer.Option(help="host:port (default kafka.bootstrap, or the latest run's).")
    ] = None,
    contract: Annotated[str | None, typer.Option(help="The topic of ours whose contract is to be kept.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the newest so many of each partition.")] = None,
    registry: Annotated[str | None, typer.Option(help="The schema registry (default registry.url).")] = None,
    settings: Annotated[Path | None, typer.Option("--settings", help="The settings file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Read a topic and print what the platform would refuse of it: reason, count, first offset. Exit 1 if anything.

    It reads outside any group and writes nothing. The instruments are those of the settings.
    """
    with one_sentence():
        try:
            findings = _inspect(topic, _contract(contract or topic), _overrides(broker, registry), settings, limit)
        except RecomputeImpossible as error:
            raise SettingsError(str(error)) from error
    _report(topic, findings, as_json=as_json)
    if findings.problems:
        raise typer.Exit(1)


def _contract(name: str) -> Topic:
    if name not in TOPICS:
        raise SettingsError(
            f"{name} is no topic of ours: name the contract with --contract; `tradermind topics` has all."
        )
    return TOPICS[name]


def _overrides(broker: str | None, registry: str | None) -> dict[str, Any]:
    run_file = LATEST_RUN / "run.json"
    overrides: dict[str, Any] = {}
    if broker is not None:
        overrides["kafka.bootstrap"] = broker
    elif run_file.is_file():
        overrides |= read_run_file(run_file)["overrides"]
    return overrides if registry is None else overrides | {"registry.url": registry}


def _inspect(
    topic: str, contract: Topic, overrides: dict[str, Any], settings_file: Path | None, limit: int | None
) -> Findings:
    run = compose(load_settings(settings_file, overrides))
    kafka = run.settings.kafka
    if kafka.bootstrap is None:
        raise SettingsError("Which broker? Give --broker host:port, or set kafka.bootstrap.")
    security = security_of(kafka)
    partitions = topic_partitions(kafka.bootstrap, security)
    if topic not in partitions:
        raise SettingsError(f"The broker {kafka.bootstrap} has no topic {topic}.")
    stages = {
        hosting.topics[0]: (hosting.make_stage(), hosting.wrap)
        for hosting in ingress_hostings(run)
        if hosting.wrap is not None
    }
    codec = Codec(schema_table(run.settings, blocking=True))
    inspector = Inspector(contract, codec, partitions[topic], stages.get(contract))
    inspect_topic(inspector, kafka.bootstrap, topic, security, newest=limit)
    return inspector.findings


def _report(topic: str, findings: Findings, *, as_json: bool) -> None:
    problems = [asdict(problem) for problem in findings.problems.values()]
    if as_json:
        typer.echo(json.dumps(asdict(findings) | {"topic": topic, "problems": problems}, indent=1))
        return
    kinds = (
        ", ".join(f"{count:,} {name}" for name, count in sorted(findings.by_type.items())) or "none that could be read"
    )
    console = Console()
    console.print(f"{topic}: {findings.records:,} records ({kinds}), {findings.duplicates:,} of them seen before")
    print_rows(problems, _COLUMNS, "Every record keeps the contract.", console)
