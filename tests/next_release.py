"""The release after this one, for tests of an upgrade: a copy of the sources with what a release may change.

Other code in every stage (its version differs), a field more in the state of several stages, and a migration that only
adds. It is a tree of its own, run by processes of its own: nothing of this process is patched.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from infra.postgres.migrate import HEAD
from infra.servers.process import ChildProcess, Launch, start_process
from streams.processes import python_module

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("schemas", "agents", "infra", "streams")
NEXT: Final = f"{int(HEAD) + 1:04d}"
_STATES: Final = ("FeatureState", "InstrumentRisk", "CommandsSeen")
"""Kept by experts, risk and control."""
_EXPANSION: Final = """
ALTER TABLE orders ADD COLUMN of_the_next_release text;
ALTER TABLE fills ADD COLUMN of_the_next_release text NOT NULL DEFAULT 'unknown';
ALTER TABLE shard ADD COLUMN of_the_next_release bigint;
CREATE TABLE of_the_next_release (name text PRIMARY KEY, seen bigint NOT NULL DEFAULT 0);
CREATE INDEX orders_of_the_next_release ON orders (of_the_next_release);
"""
_REVISION: Final = '''"""What the next release adds."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "{number}"
down_revision: str | None = "{before}"


def upgrade() -> None:
    """Add it."""
    run_sql_file("{number}_next.sql")


def downgrade() -> None:
    """Refuse: nobody asked for it."""
    raise NotImplementedError
'''


def make_next_release(directory: Path) -> Path:
    """Write the next release's sources into ``directory``, which is made; return it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for state in _STATES:
        _add_field(directory / "agents", state)
    migrations = directory / "infra" / "postgres" / "migrations"
    (migrations / f"{NEXT}_next.sql").write_text(_EXPANSION)
    (migrations / "versions" / f"{NEXT}_next.py").write_text(_REVISION.format(number=NEXT, before=HEAD))
    return directory


def start_next_worker(
    tree: Path, stage: str, run_file: Path, settings: Path, directory: Path, instance: str
) -> ChildProcess:
    """Start a worker of that release."""
    command = [*python_module("streams.cli"), "worker", stage, "--run-file", str(run_file), "--instance", instance]
    log = directory / "logs" / f"next-{stage}.log"
    environment = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return start_process(
        Launch(f"The next {stage}", [*command, "--settings", str(settings)], log, environment, directory=tree)
    )


def _add_field(directory: Path, state: str) -> None:
    """Give a Struct one field more, at its end."""
    head = re.compile(rf"^class {state}\(", re.MULTILINE)
    (file,) = [path for path in directory.rglob("*.py") if head.search(path.read_text())]
    body = re.compile(rf"(^class {state}\(.*?)(\n\n\n(?=\S)|\n\Z)", re.MULTILINE | re.DOTALL)
    changed, count = body.subn(r"\1\n    of_the_next_release: int = 7\2", file.read_text(), count=1)
    assert count == 1, f"{state} in {file} has another form than expected"
    file.write_text(changed)
