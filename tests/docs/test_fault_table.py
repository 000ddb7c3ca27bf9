"""The table of what may go wrong (docs/testing.md) names faults and tests that exist, and every fault is in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()
_NAME = re.compile(r"`([^`\s]+)`")
_DONE = re.compile(r"\bFault\(\s*(\w+)")


def _section(title: str) -> str:
    assert f"\n## {title}\n" in PAGE
    return PAGE.split(f"\n## {title}\n")[1].split("\n#")[0]


def _rows(title: str) -> list[tuple[str, ...]]:
    """Return the cells of the rows of a section's table, without its head."""
    lines = [line for line in _section(title).splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


ROWS = _rows("What may go wrong, and what holds it")
FAULTS = {
    name
    for path in (ROOT / "tests").glob("faults*.py")
    for name in _DONE.findall(path.read_text())
    if f"def {name}(world: World)" in path.read_text()
}


def _tests_of(path: str) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE))


def test_the_table_is_read_and_so_are_the_faults() -> None:
    assert {len(row) for row in ROWS} == {3}
    assert len(ROWS) > 25 and len(FAULTS) > 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_fault_and_every_test_of_a_row_exists(row: tuple[str, ...]) -> None:
    _, faults, tests = row
    assert set(_NAME.findall(faults)) <= FAULTS
    named = [name for name in _NAME.findall(tests) if name.startswith("tests/")]
    assert named or _NAME.findall(faults), "nothing holds this"
    for name in named:
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), path
        assert not test or test in _tests_of(path), name


def test_every_fault_is_in_the_table_and_has_a_count() -> None:
    named = {name for _, faults, _ in ROWS for name in _NAME.findall(faults)}
    assert named == FAULTS
    counted = {row[0] for row in _rows("What a run says")}
    assert counted == {name.replace("_", " ") for name in FAULTS}
