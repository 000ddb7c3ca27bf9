"""``tradermind prune``: remove the journal and the snapshots that no replay can use any more.

The journal grows with every batch, and what it names is useless once its topics have forgotten the records. Kept is
whatever a replay within the topics' retention needs; audits and dead letters are not touched.

Exit codes: 0 done, 2 there is no database to prune.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import psycopg
import typer
from rich.console import Console

from infra.postgres.retention import Pruned, known_stages, prune
from streams.cli_record import DsnOption, JsonOption, RunOption, one_sentence, print_json, reachable_database
from streams.cli_tables import print_rows
from streams.engine.snapshots import retention_hours

_COLUMNS: Final = "stage shard hours journal_rows journal_bytes snapshots snapshot_bytes through_batch"


def prune_journal(
    *,
    keep_hours: Annotated[
        int, typer.Option("--keep-hours", min=0, help="Keep at least so many hours; never less than the topics keep.")
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    dsn: DsnOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove journal rows and snapshots that are older than their topics and than the oldest snapshot that is kept."""
    with one_sentence(), reachable_database(dsn, run) as database, _connected(database) as connection:
        hours = {
            stage: max(own, keep_hours)
            for stage in known_stages(connection)
            if (own := retention_hours(stage)) is not None
        }
        pruned = prune(connection, hours, dry_run=dry_run)
    if as_json:
        print_json([asdict(one) | {"dry_run": dry_run} for one in pruned])
        return
    removed = [one for one in pruned if one.journal_rows or one.snapshots]
    print_rows([asdict(one) for one in removed], _COLUMNS.split(), "Nothing is old enough.", Console())
    if removed:
        typer.echo(_sum(removed, "would be removed" if dry_run else "removed"))


def _connected(dsn: str) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn, autocommit=True, connect_timeout=5, application_name="tradermind prune")


def _sum(removed: Sequence[Pruned], what: str) -> str:
    rows, snapshots = sum(one.journal_rows for one in removed), sum(one.snapshots for one in removed)
    mib = sum(one.journal_bytes + one.snapshot_bytes for one in removed) / 2**20
    return f"{rows:,} journal rows and {snapshots:,} snapshots {what}: {mib:,.1f} MiB, which Postgres uses again."
