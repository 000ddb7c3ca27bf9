"""The law of the layout, held by a test: sizes, names, imports, and what may not be committed."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

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


@cache
def _tree(path: Path) -> ast.Module:
    """Return what a module says, read once for all that is asked of it."""
    return ast.parse(path.read_text())


def _beyond_the_caps(text: str, tree: ast.Module) -> Iterator[str]:
    """Yield what is too much in a module, or missing."""
    if len(text.splitlines()) > MODULE_LINES_MAX:
        yield "split the module"
    if not ast.get_docstring(tree) and text.strip():
        yield "say in the module docstring why it exists"
    for function in _functions(tree):
        if _code_lines(function) > FUNCTION_LINES_MAX:
            yield f"{function.name} is too long"
        positional = [argument.arg for argument in function.args.posonlyargs + function.args.args]
        count = len([name for name in positional if name not in ("self", "cls")])
        if count > POSITIONAL_MAX:
            yield f"{function.name} takes {count} positional parameters"


def _undocumented(tree: ast.Module) -> Iterator[str]:
    """Yield the public things of a module that have no docstring."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node):
            yield f"{node.name} has no docstring"


def _impure(name: str, tree: ast.Module) -> Iterator[str]:
    """Yield what a module of the core imports and must not."""
    allowed = PURE_ALLOWED | {"gymnasium"} if name == "env.py" else PURE_ALLOWED
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            if node.level:
                yield "imports are absolute"
            names = [node.module or ""]
        for imported in names:
            if imported.split(".")[0] not in allowed:
                yield f"imports {imported}; time, ids and I/O enter as events"


def _told(path: Path, complaints: Iterable[str]) -> list[str]:
    return [f"{path.relative_to(ROOT)}: {complaint}" for complaint in complaints]


# One test for all modules, not one for each: a test costs more than to look at a module.
def test_every_module_obeys_the_caps() -> None:
    assert [path for path in SOURCES if path.stem in BANNED_NAMES] == [], "name a module for what it does"
    assert [line for path in SOURCES for line in _told(path, _beyond_the_caps(path.read_text(), _tree(path)))] == []


def test_public_things_are_documented() -> None:
    assert [line for path in SOURCES for line in _told(path, _undocumented(_tree(path)))] == []


def test_the_core_imports_only_what_is_pure() -> None:
    core = [path for path in SOURCES if path.is_relative_to(ROOT / "agents")]
    assert [line for path in core for line in _told(path, _impure(path.name, _tree(path)))] == []


def test_these_rules_find_what_is_against_them() -> None:
    long = "\n".join(["def f(a, b, c, d, e, g):", *["    pass"] * 60, *["x = 1"] * 250])
    assert len(list(_beyond_the_caps(long, ast.parse(long)))) == 4
    assert list(_undocumented(ast.parse("def f(): ...\ndef _g(): ...\nclass C: ..."))) == [
        "f has no docstring",
        "C has no docstring",
    ]
    assert len(list(_impure("x.py", ast.parse("import time\nfrom . import y\nfrom os import path\nimport math")))) == 4
    assert list(_impure("env.py", ast.parse("import gymnasium"))) == []


def test_the_core_has_no_try_and_no_logging() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "agents"):
            found = [node.lineno for node in ast.walk(_tree(path)) if isinstance(node, ast.Try)]
            assert not found, f"{path}: try at lines {found}; return an event with a reason instead"


def test_experts_never_see_each_other() -> None:
    """By the tree, not by a list: a new expert is one new file and is held to this at once."""
    for path in (ROOT / "agents" / "experts").glob("[!_]*.py"):
        if path.name == "stage.py":
            continue
        for node in ast.walk(_tree(path)):
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
