"""The law of the layout, held by a test: sizes, names, imports, and what may not be committed."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "agents", "infra", "streams")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
POSITIONAL_MAX = 5
BANNED_NAMES = {"utils", "helpers", "common", "manager", "base", "util", "helper", "misc"}
PURE_MODULES = """
abc bisect collections dataclasses decimal enum functools heapq hashlib importlib itertools math operator pkgutil
struct types typing statistics fractions string re sys warnings copy array json
schemas agents numpy msgspec sortedcontainers
"""
PURE_ALLOWED = frozenset(PURE_MODULES.split())


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    start = node.body[0]
    documented = isinstance(start, ast.Expr) and isinstance(start.value, ast.Constant)
    docstring_lines = (start.end_lineno or 0) - start.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring_lines


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_obeys_the_caps(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MODULE_LINES_MAX, "split the module"
    assert path.stem not in BANNED_NAMES, "name the module for what it does"
    assert ast.get_docstring(tree) or not text.strip(), "say in the module docstring why it exists"
    for function in _functions(tree):
        assert _code_lines(function) <= FUNCTION_LINES_MAX, f"{function.name} is too long"
        positional = [argument.arg for argument in function.args.posonlyargs + function.args.args]
        count = len([name for name in positional if name not in ("self", "cls")])
        assert count <= POSITIONAL_MAX, f"{function.name} takes {count} positional parameters"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_things_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "agents")], ids=str)
def test_the_core_imports_only_what_is_pure(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
        for name in names:
            allowed = PURE_ALLOWED | {"gymnasium"} if path.name == "env.py" else PURE_ALLOWED
            assert name.split(".")[0] in allowed, f"{path.name} imports {name}; time, ids and I/O enter as events"


def test_the_core_has_no_try_and_no_logging() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "agents"):
            found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Try)]
            assert not found, f"{path}: try at lines {found}; return an event with a reason instead"


def test_experts_never_see_each_other() -> None:
    """By the tree, not by a list: a new expert is one new file and is held to this at once."""
    for path in (ROOT / "agents" / "experts").glob("[!_]*.py"):
        if path.name == "stage.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agents.experts"):
                assert (node.module or "").split(".")[2:] == ["_contract"], f"{path.name} imports {node.module}"


def test_imports_obey_the_contracts() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_no_other_distribution_ships_our_package_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["tradermind"])) == {"tradermind"}, f"{package} is shadowed"
        module = import_module(package)
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(ROOT)


def test_no_package_lies_under_tests_and_no_nested_folder_reuses_a_top_level_name() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    for package in PACKAGES:
        nested = [path for path in (ROOT / package).rglob("*") if path.is_dir() and path.name in PACKAGES]
        assert not nested


def test_no_machine_path_and_no_registry_host_is_committed() -> None:
    forbidden = re.compile(
        r"/work/(main|shared|\.library)|/root/|pypi\.org|files\.pythonhosted|index-url[ =]+http", re.IGNORECASE
    )
    for name in TRACKED:
        path = ROOT / name
        if path == Path(__file__) or not path.is_file() or path.suffix in (".gz", ".png", ".safetensors"):
            continue
        found = forbidden.search(path.read_text(errors="replace"))
        assert not found, f"{name} names {found.group(0) if found else ''}"


def test_nothing_unfinished_is_committed() -> None:
    marker = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in SOURCES:
        assert not marker.search(path.read_text()), f"{path} holds an unfinished marker"
