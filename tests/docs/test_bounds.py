"""The bounds that docs/guarantees.md states are those of the code, and no queue of ours is without one."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| .+ \| (\d+) \w+.* \| .+ \| `((?:\w+\.)+\w+)` \|$", re.MULTILINE)
WITHOUT_A_NUMBER = {"infra/servers/process.py"}
"""Processes to be started."""


def _stated() -> dict[str, int]:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    section = page.split("## What may wait, and how much")[1].split("\n## ")[0]
    found = {name: int(number) for number, name in ROW.findall(section)}
    assert len(found) == section.count("\n| ") - 1, "a row that this test cannot read"
    return found


def _value_of(name: str) -> Any:
    path, attribute = name.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(path), attribute)
    except ModuleNotFoundError:
        module, owner = path.rsplit(".", 1)
        model = getattr(importlib.import_module(module), owner)
        if issubclass(model, BaseModel):
            return model.model_fields[attribute].default
        return model.__dataclass_fields__[attribute].default


@pytest.mark.parametrize(("name", "number"), _stated().items())
def test_a_stated_bound_is_the_one_in_the_code(name: str, number: int) -> None:
    assert _value_of(name) == number


def test_no_queue_is_made_without_a_bound() -> None:
    made = re.compile(r"(?<!def )\b(?:Queue|SimpleQueue|LifoQueue)(?:\[[^\n]*\])?\(\s*\)")
    found = {
        str(path.relative_to(ROOT))
        for package in ("agents", "infra", "streams")
        for path in (ROOT / package).rglob("*.py")
        if "simulation" not in path.parts and made.search(path.read_text())
    }
    assert found == WITHOUT_A_NUMBER
