"""The commands about topics: what there shall be, how the broker differs, and mending it without losing anything.

Exit codes: 0 equal or done, 1 the broker differs or what was asked is refused, 2 broker, database or settings.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.kafka import Security, TopicsDiffer
from infra.kafka_security import security_of
from infra.kafka_topics import Difference, differences, find_topics, mend_topics, refusals
from infra.settings import Settings, SettingsError
from infra.topic_specs import topic_specs
from schemas.topics import TOPICS
from streams.cli_record import print_json
from streams.cli_tables import print_rows
from streams.processes import settings_of_run
from streams.sentences import one_sentence

app = typer.Typer(help="The topics: ls (the default), diff, apply and rescale.", invoke_without_command=True)
BrokerOption = Annotated[str | None, typer.Option("--broker", help="host:port (default kafka.bootstrap).")]
RunFileOption = Annotated[Path | None, typer.Option("--run-file", help="What a run says of itself (run.json).")]
SettingsOption = Annotated[Path | None, typer.Option("--settings", help="The settings file (default tradermind.toml).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
_COLUMNS = ("name", "partitions", "records", "producers", "consumers", "purpose")


@app.callback()
def default(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the table of topics, unless something else is asked for."""
    if context.invoked_subcommand is None:
        ls(as_json=as_json)


@app.command()
def ls(as_json: JsonOption = False) -> None:
    """Print the table of topics."""
    rows: list[dict[str, Any]] = [
        {
            "name": topic.name,
            "partitions": topic.spread.value,
            "records": [record.__name__ for record in topic.records],
            "producers": list(topic.producers),
            "consumers": [name for name in topic.consumers if name],
            "purpose": topic.purpose,
        }
        for topic in TOPICS.values()
    ]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, _COLUMNS, "There are no topics.", Console())


@app.command()
def diff(
    broker: BrokerOption = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the broker with the table: one line for each difference. Exit 1 where there is one."""
    with one_sentence():
        loaded = settings_of_run(run_file, settings)
        bootstrap, security = address_of(loaded, broker)
        specs = topic_specs(loaded)
        differing = differences(specs, find_topics(bootstrap, [spec.name for spec in specs], security))
    if as_json:
        print_json([_row(difference) for difference in differing])
    else:
        for difference in differing:
            typer.echo(difference.sentence())
    if differing:
        raise typer.Exit(1)


@app.command()
def apply(
    *,
    broker: BrokerOption = None,
    run_file: RunFileOption = None,
    shorter: Annotated[
        list[str] | None,
        typer.Option("--allow-shorter-retention", metavar="TOPIC", help="Let this topic forget sooner; repeatable."),
    ] = None,
    dry_run: DryRunOption = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the topics that are missing, and change configuration. Where anything would be lost nothing is done."""
    with one_sentence():
        loaded = settings_of_run(run_file, settings)
        bootstrap, security = address_of(loaded, broker)
        specs = topic_specs(loaded)
        allowed = frozenset(shorter or ())
        if unknown := sorted(allowed - {spec.name for spec in specs}):
            raise SettingsError(f"--allow-shorter-retention: {unknown[0]} is not a topic of the table.")
        differing = differences(specs, find_topics(bootstrap, [spec.name for spec in specs], security))
        refused = refusals(differing, allowed)
        if not refused and not dry_run:
            try:
                mend_topics(bootstrap, specs, security, allowed)
            except TopicsDiffer as error:
                refused = [str(error)]
    _report_applied(differing, refused, dry_run=dry_run, as_json=as_json)
    if refused:
        raise typer.Exit(1)


def _report_applied(differing: list[Difference], refused: list[str], *, dry_run: bool, as_json: bool) -> None:
    done = not refused and not dry_run
    if as_json:
        print_json({"applied": done, "differences": [_row(one) for one in differing], "refused": refused})
        return
    for sentence in refused:
        typer.echo(sentence, err=True)
    if refused:
        return
    for difference in differing:
        what = "make" if difference.found is None else f"set {difference.what} of"
        typer.echo(f"{'would ' if dry_run else ''}{what} {difference.topic}: {difference.wanted}")
    if not differing:
        typer.echo("Nothing to do: the broker is as the table says.")


def _row(difference: Difference) -> dict[str, Any]:
    return {
        "topic": difference.topic,
        "what": difference.what,
        "wanted": difference.wanted,
        "found": difference.found,
        "kind": difference.kind.value,
    }


def address_of(settings: Settings, broker: str | None) -> tuple[str, Security]:
    """Return where the broker is and how to connect to it. Raises SettingsError."""
    bootstrap = broker or settings.kafka.bootstrap
    if bootstrap is None:
        raise SettingsError("kafka.bootstrap is not set, and no --broker was given.")
    return bootstrap, security_of(settings.kafka)
