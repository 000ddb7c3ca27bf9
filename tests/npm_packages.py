"""Packages of npm that tests run by node, fetched once into the cache where Kafka's jars lie."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.servers.fetching import cache_directory, fetch_once


class NpmMissing(Exception):
    """Something of npm's cannot be had here, and why, in one clear sentence."""


def npm_folder(name: str, what: str, packages: Sequence[str]) -> Path:
    """Return the folder of the cache that holds these packages; ``what`` they are is for people. Raises NpmMissing."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise NpmMissing(f"{what} needs {tool}, which is not on this machine.")
    folder = cache_directory() / name
    fetch_once(folder, folder.is_dir, lambda: _fetch(folder, what, packages))
    return folder


def _fetch(folder: Path, what: str, packages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        place = Path(partial) / "packages"
        place.mkdir()
        (place / "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", *packages]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise NpmMissing(f"npm could not fetch {what}: {(done.stderr or done.stdout)[-300:]}")
        place.rename(folder)
