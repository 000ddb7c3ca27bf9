"""``tradermind schemas``, as a user runs it, against a registry that holds the committed schemas."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_server import RegistryServer, registry_server
from typer.testing import CliRunner, Result

from schemas.schema_table import SchemaTable, subject_schemas
from schemas.topics import INGEST_VOTE, TOPICS
from streams.cli import app

ROOT = Path(__file__).resolve().parents[2]
VOTE = INGEST_VOTE.subject(INGEST_VOTE.records[0])


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["schemas", *arguments])


def _rows(result: Result) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


@pytest.mark.parametrize("arguments", [("--json",), ("ls", "--json")])
def test_without_more_words_the_subjects_are_listed(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments)
    assert result.exit_code == 0
    assert {row["subject"]: row["id"] for row in _rows(result)} == SchemaTable.committed().subjects()


def test_the_committed_versions_are_compatible_among_themselves() -> None:
    result = _run("check", "--settings", str(ROOT / "tradermind.toml"), "--json")
    assert result.exit_code == 0, result.output
    assert {row["state"] for row in _rows(result)} == {"committed"}


def test_a_registry_that_holds_the_schemas_agrees(server: RegistryServer) -> None:
    result = _run("check", "--registry", server.url, "--json")
    assert result.exit_code == 0, result.output
    rows = _rows(result)
    assert {row["state"] for row in rows} == {"registered"}
    assert sum(row["subject"].endswith("-value") for row in rows) == sum(topic.public for topic in TOPICS.values())


def test_a_subject_that_nobody_has_registered_is_new(server: RegistryServer) -> None:
    server.hide(VOTE)
    result = _run("check", "--registry", server.url, "--json")
    assert result.exit_code == 0
    assert [row["subject"] for row in _rows(result) if row["state"] == "new"] == [VOTE]


def test_what_is_registered_already_is_left_alone(server: RegistryServer) -> None:
    result = _run("register", "--registry", server.url, "--json")
    assert result.exit_code == 0, result.output
    assert {row["state"] for row in _rows(result)} == {"registered"}


@pytest.mark.parametrize("command", [("check",), ("register",), ("register", "--dry-run")])
def test_the_first_difference_is_told_and_nothing_is_written(server: RegistryServer, command: tuple[str, ...]) -> None:
    changed = json.loads(json.dumps(subject_schemas()[VOTE]))
    changed["fields"][2]["type"] = "string"
    server.registered = {VOTE: changed}
    result = _run(*command, "--registry", server.url)
    assert result.exit_code == 1
    assert f"{VOTE} cannot read registered version 1: type mismatch at /fields/2" in result.stderr
    assert not [path for path in server.posted if path.endswith("/versions")]


def test_a_registry_that_is_away_is_one_sentence(server: RegistryServer) -> None:
    server.away = True
    result = _run("register", "--registry", server.url)
    assert result.exit_code == 2
    assert "with 503" in result.stderr
    assert _run("register", "--settings", str(ROOT / "tradermind.toml")).exit_code == 2
