"""What a user can cause becomes one sentence on stderr and exit code 2, in every command alike."""

import contextlib
from collections.abc import Iterator
from typing import Final

import psycopg
import typer

from infra.feeds import FeedFailed
from infra.kafka import BrokerUnreachable, TopicsDiffer
from infra.registry_client import RegistryFailed
from infra.servers.process import ServerFailed
from infra.settings import SettingsError

_EXPECTED: Final = (SettingsError, FeedFailed, ServerFailed, BrokerUnreachable, TopicsDiffer, RegistryFailed)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an expected failure into its sentence and exit code 2; everything else is a bug and shows itself."""
    try:
        yield
    except _EXPECTED as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except psycopg.OperationalError as error:
        typer.echo(f"The database does not answer: {str(error).splitlines()[0]}.", err=True)
        raise typer.Exit(2) from error
