"""``tradermind topics rescale``: another number of partitions for everything that is keyed by instrument."""

from typing import Annotated

import typer

from infra.settings import Settings
from infra.topic_specs import topic_specs
from streams.cli_dlq_options import AuthorOption, WhyOption
from streams.cli_record import author_of, print_json
from streams.cli_restore import told
from streams.cli_topics import BrokerOption, DryRunOption, JsonOption, RunFileOption, SettingsOption
from streams.processes import settings_of_run
from streams.rescale import RescaleOrder, Rescaling
from streams.rescale_state import RescaleRefused
from streams.sentences import one_sentence
from streams.standstill import QUIET_S


def rescale(
    *,
    partitions: Annotated[int, typer.Option("--partitions", min=1, max=512, help="The new number.")],
    why: WhyOption,
    author: AuthorOption = None,
    without_sinks: Annotated[
        bool, typer.Option("--without-sinks", help="Nobody keeps the record: do not wait for the sinks.")
    ] = False,
    quiet: Annotated[float, typer.Option("--quiet-s", min=0, help="So long nothing may have been written.")] = QUIET_S,
    dry_run: DryRunOption = False,
    broker: BrokerOption = None,
    dsn: Annotated[str | None, typer.Option("--dsn", help="The database (default postgres.dsn).")] = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the topics keyed by instrument another partition count, and move every state to where it then belongs.

    All workers must be stopped, and all must be read. Killed at any point, it is run again and goes on. Exit 1 where
    it is refused; nothing is changed then.
    """
    from streams.launch import engine_settings

    with one_sentence():
        loaded = told(settings_of_run(run_file, settings), broker, dsn)
        order = RescaleOrder(
            partitions=partitions,
            specs=topic_specs(_counting(loaded, partitions)),
            author=author_of(author),
            why=why,
            without_sinks=without_sinks,
            quiet_s=quiet,
            dry_run=dry_run,
        )
        engine = engine_settings(loaded, embedded=False, instance_id=None, offline=True)
        try:
            done = Rescaling(engine, order, lambda step: typer.echo(step, err=True)).run()
        except RescaleRefused as refusal:
            typer.echo(str(refusal), err=True)
            raise typer.Exit(1) from refusal
    if as_json:
        facts = {} if done is None else {"from": done.before, "generation": done.generation, "stages": done.stages}
        print_json({"partitions": partitions, "rescaled": done is not None and not dry_run, **facts})
    elif done is None:
        typer.echo(f"Nothing to do: there are {partitions} partitions.")
    else:
        keys = sum(keys for keys, _ in done.stages.values())
        verb = "would be moved" if dry_run else "were moved and verified"
        typer.echo(f"{keys} keys {verb} from {done.before} to {done.after} partitions.")
        typer.echo(f"Before a worker starts, set kafka.instrument_partitions = {partitions}.")


def _counting(settings: Settings, partitions: int) -> Settings:
    kafka = settings.kafka.model_copy(update={"instrument_partitions": partitions})
    return settings.model_copy(update={"kafka": kafka})
