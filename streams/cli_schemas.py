"""The commands about schemas: what there is, whether a registry agrees with it, and putting it there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.console import Console

from infra.registry_client import FULL_TRANSITIVE, RegistryClient
from infra.settings import load_settings
from infra.settings_registry import RegistrySettings
from infra.settings_sections import Section
from schemas.schema_table import SchemaTable, committed_versions, schema_fingerprint
from schemas.topics import TOPICS
from streams.cli_tables import print_rows
from streams.sentences import one_sentence

app = typer.Typer(help="The schemas: ls (the default), check and register.", invoke_without_command=True)
SettingsOption = Annotated[Path | None, typer.Option("--settings", help="The settings file (default tradermind.toml).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
UrlOption = Annotated[str | None, typer.Option("--registry", help="The registry (default registry.url).")]
_COLUMNS: Final = ("subject", "version", "state", "id")


class Subject(NamedTuple):
    """One subject of a registry, and the committed versions of what belongs there, oldest first."""

    name: str
    versions: dict[int, dict[str, Any]]

    @property
    def newest(self) -> dict[str, Any]:
        """The schema that we write with."""
        return self.versions[max(self.versions)]


def registry_subjects() -> Iterator[Subject]:
    """Yield every subject that we keep in a registry; a public topic's record has one by the topic's name, too."""
    versions = committed_versions()
    for topic in TOPICS.values():
        for record in topic.records:
            yield Subject(topic.subject(record), versions[topic.subject(record)])
        if topic.public:
            yield Subject(f"{topic.name}-value", versions[topic.subject(topic.records[0])])


@app.callback()
def default(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the subjects and their committed ids, unless something else is asked for."""
    if context.invoked_subcommand is None:
        ls(as_json=as_json)


@app.command()
def ls(as_json: JsonOption = False) -> None:
    """Print the subjects and their committed ids."""
    rows = [{"subject": subject, "id": number} for subject, number in SchemaTable.committed().subjects().items()]
    _print(rows, ("subject", "id"), as_json=as_json)


@app.command()
def check(registry: UrlOption = None, settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Hold the newest schemas against every former version, committed and registered. Exit 1 at a difference.

    FULL_TRANSITIVE: each version must read every other one's records. Without a registry only the committed ones
    are compared.
    """
    with one_sentence():
        configured = _registry(registry, settings)
        client = RegistryClient(configured) if configured.url is not None else None
        rows = [_state(subject, client) for subject in registry_subjects()]
    _print(rows, (*_COLUMNS, "difference"), as_json=as_json)
    _exit_at_a_difference(rows)


@app.command()
def register(
    registry: UrlOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be registered, and write nothing.")
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the schemas into the registry, each subject FULL_TRANSITIVE. What is there already stays as it is.

    Nothing is written if any schema is incompatible with what is there (exit 1).
    """
    with one_sentence():
        configured = _registry(registry, settings)
        if configured.url is None:
            typer.echo("registry.url is not set, and no --registry was given.", err=True)
            raise typer.Exit(2)
        client = RegistryClient(configured)
        subjects = list(registry_subjects())
        rows = [_state(subject, client) for subject in subjects]
        if not dry_run and not any(row["difference"] for row in rows):
            for subject, row in zip(subjects, rows, strict=True):
                _register(client, subject, row)
    _print(rows, (*_COLUMNS, "difference"), as_json=as_json)
    _exit_at_a_difference(rows)


def _registry(url: str | None, settings: Path | None) -> RegistrySettings:
    if url is not None and settings is None and not Path("tradermind.toml").is_file():
        # Another team's build checks against its registry with nothing of ours but the program.
        return RegistrySettings(url=url)
    overrides: dict[str, Any] = {} if url is None else {"registry.url": url}
    section: Section = load_settings(settings, overrides).registry
    assert isinstance(section, RegistrySettings)
    return section


def _state(subject: Subject, client: RegistryClient | None) -> dict[str, Any]:
    """Return a subject's row: is it registered, and from which former version does it differ."""
    from schemas.compatibility import Version, first_difference  # Avro's own library: no other command waits for it.

    row: dict[str, Any] = {"subject": subject.name, "version": max(subject.versions), "state": "committed", "id": None}
    former = [Version(f"committed version {n}", schema) for n, schema in list(subject.versions.items())[:-1]]
    if client is not None:
        wanted = schema_fingerprint(subject.newest)
        row["state"] = "new"
        for number in client.versions(subject.name):
            registered = client.version(subject.name, number)
            if schema_fingerprint(registered.schema) == wanted:
                row |= {"state": "registered", "id": registered.schema_id}
            else:
                former.append(Version(f"registered version {number}", registered.schema))
    row["difference"] = first_difference(subject.newest, former)
    return row


def _register(client: RegistryClient, subject: Subject, row: dict[str, Any]) -> None:
    known = {schema_fingerprint(client.version(subject.name, n).schema) for n in client.versions(subject.name)}
    for schema in subject.versions.values():
        if schema_fingerprint(schema) not in known:
            row |= {"id": client.register(subject.name, schema), "state": "registered now"}
    # Some registries take a level only for a subject that is there.
    if client.compatibility(subject.name) != FULL_TRANSITIVE:
        client.set_compatibility(subject.name, FULL_TRANSITIVE)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        print_rows(rows, columns, "There are no schemas.", Console())


def _exit_at_a_difference(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["difference"]:
            typer.echo(f"{row['subject']} {row['difference']}", err=True)
            raise typer.Exit(1)
