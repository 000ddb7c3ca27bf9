"""Programs out of Debian packages, taken apart into the cache: real servers on a machine where nobody is root."""

import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra.servers.fetching import cache_directory, fetch_once
from infra.servers.process import Launch, ServerFailed, run_to_end

_DOWNLOAD_S: Final = 120.0
_UNPACK_S: Final = 60.0


def debian_packages(name: str, packages: Sequence[str], missing: type[ServerFailed]) -> Path:
    """Return the folder in which these packages lie unpacked, fetched once into the cache under ``name``.

    Raises ``missing`` with one clear sentence when they cannot be had.
    """
    folder = unpacked_folder(name)
    if folder.is_dir():
        return folder
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise missing(f"{name} is not on the PATH, and cannot be fetched: {tool} is not on this machine.")
    fetch_once(folder, folder.is_dir, lambda: _fetch(folder, name, packages, missing))
    return folder


def unpacked_folder(name: str) -> Path:
    """Return where they lie once fetched: named after the system's release, in which a package keeps its version."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        about = {}
    return cache_directory() / f"{name}-{about.get('ID', 'linux')}{about.get('VERSION_ID', '')}"


def _fetch(folder: Path, name: str, packages: Sequence[str], missing: type[ServerFailed]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        place = Path(partial)
        _download(place, name, packages, missing)
        for package in sorted(place.glob("*.deb")):
            _run("dpkg", ["dpkg", "-x", str(package), str(place / "unpacked")], place, _UNPACK_S)
        (place / "unpacked").rename(folder)


def _download(place: Path, name: str, packages: Sequence[str], missing: type[ServerFailed]) -> None:
    """Download with the machine's own lists of packages; where it has none, or old ones, with lists of our own."""
    try:
        _run("apt-get", ["apt-get", "-qq", "download", *packages], place, _DOWNLOAD_S)
    except ServerFailed:
        lists, kept = place / "lists", place / "archives"
        (lists / "partial").mkdir(parents=True)
        (kept / "partial").mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={place}", "-o", f"Dir::Cache::Archives={kept}")
        try:
            _run("apt-get", ["apt-get", "-qq", *own, "update"], place, _DOWNLOAD_S)
            _run("apt-get", ["apt-get", "-qq", *own, "download", *packages], place, _DOWNLOAD_S)
        except ServerFailed as error:
            raise missing(f"apt-get could not fetch {name}: {error}") from error


def _run(name: str, command: Sequence[str], place: Path, deadline_s: float) -> None:
    run_to_end(Launch(name, command, place / f"{name}.log", directory=place), deadline_s)
