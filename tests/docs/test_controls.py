"""docs/controls.md tells of code and tests that exist, of every row of the list, and of every reason code."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.decisions import DenyReason

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "controls.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")][
    1:
]
_NAMED = re.compile(r"`([^`]+)`")


def _cells(column: int) -> list[str]:
    found = {name for row in ROWS for name in _NAMED.findall(row[column])}
    assert all(_NAMED.search(row[column]) or row[column] == "-" for row in ROWS), "a cell that names nothing"
    return sorted(found)


def test_every_row_of_the_list_and_every_reason_code_has_its_line() -> None:
    assert all(len(row) == 6 for row in ROWS)
    assert {row[0] for row in ROWS} == {*map(str, range(1, 23)), "-"}
    assert set(_cells(3)) == set(DenyReason)


@pytest.mark.parametrize("name", _cells(4))
def test_its_code_exists(name: str) -> None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return
    raise AssertionError(f"{name} is nowhere")


@pytest.mark.parametrize("name", _cells(5))
def test_its_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in tests if function else any(test.startswith("test_") for test in tests)
