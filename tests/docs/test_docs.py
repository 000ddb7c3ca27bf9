"""What the pages say exists: links, files, make targets, commands and their options. A page that lies is a bug."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from streams.cli import app

ROOT = Path(__file__).resolve().parents[2]
_LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
PAGES = sorted(name for name in set(_LISTED) if (ROOT / name).is_file())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE))
TOP_LEVEL = ("schemas/", "agents/", "infra/", "streams/", "tests/", "docs/", "benchmarks/", "deploy/", ".ci/")
_CODE = re.compile(r"```.*?\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SHELL_ENDS = frozenset({"|", "&&", ";", "#", "then", "and", ">"})


@cache
def _tradermind() -> Any:
    """Return the whole command line as click has it; to build it takes longer than to hold a hundred pages to it."""
    return get_command(app)


def _code(page: str) -> Iterator[str]:
    """Yield each line of code of a page, from blocks and from between backticks."""
    for block, inline in _CODE.findall((ROOT / page).read_text()):
        yield from (block or inline).splitlines()


def _words_after(line: str, command: str) -> list[list[str]]:
    """Return the arguments of each call of ``command`` in a line of code."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    calls = []
    for place, word in enumerate(words):
        starts = place == 0 or words[place - 1] in _SHELL_ENDS
        if starts and word.rsplit("/", 1)[-1] == command:
            rest = words[place + 1 :]
            end = next((number for number, item in enumerate(rest) if item in _SHELL_ENDS), len(rest))
            calls.append(rest[:end])
    return calls


def _calls(command: str) -> list[tuple[str, list[str]]]:
    return [(page, call) for page in PAGES for line in _code(page) for call in _words_after(line, command)]


def test_there_are_pages_and_they_say_something() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/guarantees.md"} <= set(PAGES)
    assert len(_calls("make")) > 5
    assert len(_calls("tradermind")) > 5


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for link in _LINK.findall((ROOT / page).read_text()):
        if "://" in link or link.startswith("#"):
            continue
        target = (ROOT / page).parent / link.partition("#")[0]
        assert target.exists(), f"{page} links to {link}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for line in _code(page):
        for word in re.findall(r"[\w.*/<>-]+", line):
            if word.startswith(TOP_LEVEL) and not set(word) & set("<>"):
                name = word.rstrip(".")
                assert any(ROOT.glob(name)), f"{page} names {name}"


def _wrong_with_make(call: list[str]) -> str:
    """Return what is wrong with the arguments of a call of make, or nothing."""
    if not call:
        return "make without a target"
    for word in call:
        name, assigns, _ = word.partition("=")
        if name not in (VARIABLES if assigns else TARGETS):
            return f"there is no {name} for make {' '.join(call)}"
    return ""


def _wrong_with_tradermind(call: list[str]) -> str:
    """Return what is wrong with the arguments of a call of tradermind, or nothing."""
    command, words = _tradermind(), list(call)
    while words and (commands := getattr(command, "commands", None)) is not None:
        if words[0] not in commands:
            return f"there is no tradermind {' '.join(call)}"
        command = commands[words.pop(0)]
    options = {name for item in command.params for name in (*item.opts, *item.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    return f"{command.name} has no option {unknown[0]}" if unknown else ""


def test_every_make_target_and_variable_exists() -> None:
    assert _wrong_with_make([]) and _wrong_with_make(["no-such-target"]) and _wrong_with_make(["test", "NOTHING=1"])
    assert [f"{page}: {wrong}" for page, call in _calls("make") if (wrong := _wrong_with_make(call))] == []


def test_every_command_and_option_exists() -> None:
    assert _wrong_with_tradermind(["model", "fly"]) and _wrong_with_tradermind(["model", "ls", "--nothing"])
    assert [f"{page}: {wrong}" for page, call in _calls("tradermind") if (wrong := _wrong_with_tradermind(call))] == []


def test_every_decision_record_has_its_number_once_and_says_what_it_costs() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    for number, record in enumerate(records, start=1):
        text = record.read_text()
        assert record.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        for part in ("**Context.**", "**Decision.**", "**Cost.**"):
            assert part in text, f"{record.name} lacks {part}"


def test_every_topic_that_is_named_in_full_exists() -> None:
    from schemas.topics import TOPICS

    names = set(TOPICS) | {topic.dead_letters for topic in TOPICS.values()}
    for page in PAGES:
        for name in re.findall(r"tradermind\.[a-z]+\.[a-z]+\.v1(?:\.dlq)?", (ROOT / page).read_text()):
            assert name in names, f"{page} names the topic {name}"
