"""``tradermind restore``: go on with a database that was set back to a backup, or lost."""

from typing import Annotated

import typer

from infra.postgres.audit_chain import audit_chain
from infra.postgres.migrate import migrate
from infra.settings import Settings, SettingsError
from streams.cli_dlq_options import AuthorOption, WhyOption
from streams.cli_record import author_of, print_json
from streams.cli_topics import BrokerOption, DryRunOption, JsonOption, RunFileOption, SettingsOption
from streams.composition import Run, compose
from streams.processes import settings_of_run
from streams.restore import RestoreOrder, RestoreRefused, Restoring
from streams.restore_money import MoneyMending
from streams.sentences import one_sentence
from streams.standstill import QUIET_S


def restore(
    *,
    why: WhyOption,
    author: AuthorOption = None,
    without_orders: Annotated[
        bool, typer.Option("--without-orders", help="The venue has no order of ours since the backup: ask about none.")
    ] = False,
    quiet: Annotated[float, typer.Option("--quiet-s", min=0, help="So long nothing may have been written.")] = QUIET_S,
    dry_run: DryRunOption = False,
    broker: BrokerOption = None,
    dsn: Annotated[str | None, typer.Option("--dsn", help="The database (default postgres.dsn).")] = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on after Postgres was set back: every shard at the end of its logs, orders asked about, accounts in REDUCING.

    All workers must be stopped. Killed at any point, it is run again and goes on. Exit 1 where it is refused; nothing
    is changed then.
    """
    with one_sentence():
        loaded = told(settings_of_run(run_file, settings), broker, dsn)
        run = compose(loaded)
        order = RestoreOrder(author=author_of(author), why=why, quiet_s=quiet, dry_run=dry_run)
        try:
            if run.on_capture:
                raise RestoreRefused("A run on a capture is not restored but run again, with a database of its own.")
            done = _restoring(run, order, without_orders=without_orders).run()
        except RestoreRefused as refusal:
            typer.echo(str(refusal), err=True)
            raise typer.Exit(1) from refusal
    orders, reducing = done.report["orders"], done.report["reducing"]
    passed = sum(end - start for lanes in done.report["passed_over"].values() for start, end in lanes.values())
    if as_json:
        print_json({"restored": not dry_run, "generation": done.era, **done.report})
        return
    verb = "would go" if dry_run else "go"
    typer.echo(f"{done.report['shards']} shards {verb} on at the ends of their logs, {passed} records passed over,")
    typer.echo(f"under generation {done.era}. {len(orders)} orders since the backup are to be asked about.")
    typer.echo(f"In REDUCING: {', '.join(reducing) or 'no account'}.")
    if reducing:
        typer.echo("`tradermind risk ACTIVE --account NAME` proposes to lift it; two people must sign.")


def _restoring(run: Run, order: RestoreOrder, *, without_orders: bool) -> Restoring:
    from streams.launch import engine_settings, feed_shard, shard_hostings

    audit_chain(run.settings.audit)  # Before anything is changed: what the record gets back is signed as well.
    engine = engine_settings(run.settings, embedded=False, instance_id=None, offline=True)
    migrate(engine.dsn)  # The backup may be of an older version, or there is none at all.
    mending = MoneyMending(run, engine, order, without_orders=without_orders)
    return Restoring(
        engine,
        shard_hostings(run, engine.dsn),
        order,
        lambda step: typer.echo(step, err=True),
        feeds=(feed_shard(run),),
        mending=mending,
    )


def told(settings: Settings, broker: str | None, dsn: str | None) -> Settings:
    """Return settings with the broker and the database that a command was told. Raises SettingsError."""
    if dsn is None and settings.postgres.dsn is None:
        raise SettingsError("postgres.dsn is not set, and no --dsn was given.")
    kafka = settings.kafka if broker is None else settings.kafka.model_copy(update={"bootstrap": broker})
    postgres = settings.postgres if dsn is None else settings.postgres.model_copy(update={"dsn": dsn})
    return settings.model_copy(update={"kafka": kafka, "postgres": postgres})
