"""``tradermind up`` and ``down``: the platform on one machine, kept."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from streams.sentences import one_sentence

_DOWN_S: Final = 90.0
SettingsOption = Annotated[Path | None, typer.Option("--settings", help="The settings file (default tradermind.toml).")]
DirectoryOption = Annotated[
    Path | None, typer.Option(help="Where it keeps everything (default `up` below run.directory).")
]


def up(
    *,
    without: Annotated[list[str] | None, typer.Option(help="Leave out influx or prometheus; repeatable.")] = None,
    settings: SettingsOption = None,
    directory: DirectoryOption = None,
) -> None:
    """Run the platform on this machine until Ctrl-C, on real servers; what it knows stays, and the next `up` goes on.

    What the settings name (kafka.bootstrap, postgres.dsn, influx.url, venue.url) is used, the rest is started.
    """
    from streams.up.plan import planned
    from streams.up.run import Up

    code = 0
    # Before Up has put its handlers in place, Ctrl-C is this exception, and nothing has begun.
    with one_sentence(), contextlib.suppress(KeyboardInterrupt):
        code = asyncio.run(Up(planned(settings, directory, tuple(without or ())), Console()).run())
    raise typer.Exit(code)


def down(*, settings: SettingsOption = None, directory: DirectoryOption = None) -> None:
    """End the platform that `up` runs here, in order. Its data stays."""
    from streams.up.plan import planned
    from streams.up.presence import end

    with one_sentence():
        place = planned(settings, directory, ()).directory
        ended = end(place, _DOWN_S)
    typer.echo(f"The platform in {place} has ended." if ended else f"No platform runs in {place}.")
    raise typer.Exit(0 if ended else 1)
