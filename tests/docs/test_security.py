"""SECURITY.md tells of tests that exist, each named in full, and of every place that takes a secret."""

import ast
import re
from pathlib import Path

import pytest

from infra.settings import Settings
from infra.settings_sections import Section

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
_THREATS = PAGE.partition("\n## Threats")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in _THREATS.splitlines() if line[:2] == "| "][1:]
_FILES_OF_NO_SECRET = frozenset(
    {"ca_file", "certificate_file", "anchor_file", "allow_list_file", "allowed_keys_file", "settings_file"}
)


def test_every_threat_has_a_control_and_a_test() -> None:
    assert len(ROWS) > 20
    assert all(len(row) == 3 and all(row) and row[2].startswith("`tests/") for row in ROWS)


@pytest.mark.parametrize("named", sorted({row[2].strip("`") for row in ROWS}))
def test_the_test_that_a_row_names_exists_and_is_run(named: str) -> None:
    path, _, function = named.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    assert found, f"{path} has no test {function}"
    assert not any("campaign" in ast.unparse(mark) for mark in found[0].decorator_list), "it is not run by `make test`"


def _secret_files(section: type[Section], place: str = "") -> set[str]:
    """Return the dotted names of all settings that name a file with a secret in it."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        if name.endswith("_file") and name not in _FILES_OF_NO_SECRET:
            found.add(f"{place}{name}")
        for inner in _sections_in(field.annotation):
            found |= _secret_files(inner, f"{place}{name}.")
    return found


def _sections_in(annotation: object) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [inner for part in getattr(annotation, "__args__", ()) for inner in _sections_in(part)]


def test_operations_names_every_secret_and_the_canaries_plant_it() -> None:
    secrets = _secret_files(Settings)
    assert len(secrets) >= 9
    documented = set(re.findall(r"`([a-z_.]+_file)`", OPERATIONS))
    assert secrets <= documented, f"not in docs/operations.md: {sorted(secrets - documented)}"
    planted = (ROOT / "tests" / "integration" / "test_canaries.py").read_text()
    # A client's private key for TLS is a file that libraries read; no worker ever has its bytes in hand.
    missing = {name for name in secrets - {"kafka.key_file"} if name.rpartition(".")[2] not in planted}
    assert not missing, f"no canary for {sorted(missing)}"
