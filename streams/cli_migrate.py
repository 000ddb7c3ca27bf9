"""``tradermind migrate``: bring the database to this release's schema, before its first worker starts.

Exit codes: 0 it is there, 1 it is behind (``--check``), 2 it cannot be reached, or is newer than this release.
"""

from typing import Annotated

import typer

from infra.postgres.migrate import HEAD, current_revision, migrate, pending_revisions
from streams.cli_record import print_json
from streams.cli_topics import JsonOption, RunFileOption, SettingsOption
from streams.processes import dsn_of
from streams.sentences import one_sentence

NamedDsnOption = Annotated[str | None, typer.Option("--dsn", help="The database (default postgres.dsn).")]


def migrate_database(
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where it is behind.")] = False,
    dsn: NamedDsnOption = None,
    run_file: RunFileOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the database to this release's schema. Several at once do it once; a second time changes nothing.

    The user of postgres.dsn must own the tables. Workers of the release before go on meanwhile.
    """
    with one_sentence():
        database = dsn_of(dsn, run_file, settings)
        before, pending = current_revision(database), pending_revisions(database)
        if not check:
            migrate(database)
    if as_json:
        print_json({"before": before, "release": HEAD, "pending": pending, "migrated": bool(pending) and not check})
    elif not pending:
        typer.echo(f"The database is at revision {before}; this release needs {HEAD}: nothing to do.")
    else:
        verb = "It lacks" if check else "Done:"
        typer.echo(f"The database was at revision {before or 'none'}. {verb} {', '.join(pending)}.")
    if check and pending:
        raise typer.Exit(1)
