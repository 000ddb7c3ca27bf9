"""``tradermind secrets``: the secrets of a platform on one machine, made at random, a file for each reader."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from infra.audit_keys import add_key
from infra.settings import SettingsError
from streams.sentences import one_sentence

app = typer.Typer(help="Secrets for deploy/compose.", no_args_is_help=True)
_PASSWORD_BYTES: Final = 24
_OURS, _POSTGRES, _INFLUX, _GRAFANA = 10_001, 999, 1_000, 472
"""As whom the images run."""
_AUDIT: Final = "tradermind-audit-keys"
_PEOPLE: Final = "tradermind-people"


class Secret(NamedTuple):
    """One secret: its file for each reader, by the reader's user id."""

    files: dict[str, int]


PASSWORDS: Final = (
    Secret({"postgres-owner-password": _POSTGRES, "tradermind-owner-password": _OURS}),
    Secret({"postgres-worker-password": _POSTGRES, "tradermind-worker-password": _OURS}),
    Secret({"postgres-grafana-password": _POSTGRES, "grafana-database-password": _GRAFANA}),
    Secret({"influxdb-token": _INFLUX, "tradermind-influx-token": _OURS, "grafana-influx-token": _GRAFANA}),
    Secret({"influxdb-password": _INFLUX}),
    Secret({"grafana-admin-password": _GRAFANA}),
)


@app.callback()
def secrets_of_one_machine() -> None:
    """Make secrets."""


@app.command()
def new(directory: Annotated[Path, typer.Argument(help="Where they shall lie.")]) -> None:
    """Make every secret of deploy/compose that is not there yet; no file that is there is touched.

    As root each file is given to the one user who reads it; else all are yours, and the containers must run as you.
    """
    with one_sentence():
        try:
            made = make_all(directory)
        except OSError as error:
            raise SettingsError(f"The secrets cannot be written to {directory}: {error.strerror}.") from error
    typer.echo(
        f"{made} files were made in {directory}; who can read them is the platform." if made else "All are there."
    )


def make_all(directory: Path) -> int:
    """Make what is missing; return how many files. Raises OSError, or SettingsError where copies would differ."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    made = 0
    for secret in PASSWORDS:
        there = [name for name in secret.files if (directory / name).exists()]
        if there and len(there) < len(secret.files):
            missing = ", ".join(sorted(set(secret.files) - set(there)))
            raise SettingsError(f"{directory} has {there[0]}, but not its copies {missing}: copy it, or remove it.")
        if not there:
            text = secrets.token_urlsafe(_PASSWORD_BYTES) + "\n"
            for name, owner in secret.files.items():
                _write(directory / name, text, owner)
                made += 1
    if not (directory / _AUDIT).exists():
        add_key(directory / _AUDIT, "compose-1")
        _give(directory / _AUDIT, _OURS)
        made += 1
    if not (directory / _PEOPLE).exists():
        # Each of them makes his own key, with `tradermind person new-key`, and its line comes in here.
        _write(directory / _PEOPLE, "# the lines of two people at least: tradermind person new-key FILE\n", _OURS)
        made += 1
    return made


def _write(path: Path, text: str, owner: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    _give(path, owner)


def _give(path: Path, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
