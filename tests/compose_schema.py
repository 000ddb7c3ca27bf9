"""The compose specification's own schema, out of the module that Docker's client reads compose files with.

The schema is kept in the cache; what holds a file to it is a program of a package of its own, run by uv.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from infra.servers.fetching import cache_directory, fetch_once

MODULE: Final = "github.com/compose-spec/compose-go/v2@v2.4.7"
CHECKER: Final = "check-jsonschema==0.33.0"
_FETCH_S: Final = 120.0


class ComposeMissing(Exception):
    """The schema cannot be had here, and why, in one clear sentence."""


def _schema() -> Path:
    """Return the schema's file. Raises ComposeMissing."""
    place = cache_directory() / "compose-spec-2.4.7.json"

    def fetch() -> None:
        command = ["go", "mod", "download", "-json", MODULE]
        try:
            done = subprocess.run(
                command, cwd=place.parent, capture_output=True, text=True, timeout=_FETCH_S, check=False
            )
        except (FileNotFoundError, subprocess.TimeoutExpired):
            raise ComposeMissing(
                "The schema of compose files comes by go, which is not here or does not answer."
            ) from None
        if done.returncode:
            raise ComposeMissing(f"go does not fetch {MODULE}: {(done.stderr or done.stdout).strip()[:200]}")
        folder = Path(json.loads(done.stdout)["Dir"])
        half = place.with_suffix(".half")
        half.write_bytes((folder / "schema" / "compose-spec.json").read_bytes())
        half.replace(place)

    fetch_once(place, place.is_file, fetch)
    return place


def checked_schema() -> Path:
    """Return the schema's file once the checker has come up, too. Raises ComposeMissing."""
    schema = _schema()
    _checked("--check-metaschema", str(schema))
    return schema


def schema_faults(schema: Path, file: Path) -> str | None:
    """Return what of a file is not as the schema says, or None. Raises ComposeMissing."""
    return _checked("--schemafile", str(schema), str(file))


def _checked(*arguments: str) -> str | None:
    words = ["tool", "run", "--quiet", "--from", CHECKER, "check-jsonschema", "--output-format", "json"]
    command = [str(Path(sys.executable).with_name("uv")), *words, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        raise ComposeMissing(f"{CHECKER} comes by uv, which is not here or does not answer.") from None
    if not done.stdout.lstrip().startswith("{"):
        raise ComposeMissing(f"{CHECKER} cannot be run: {done.stderr.strip()[:200]}")
    return None if json.loads(done.stdout)["status"] == "ok" else done.stdout
