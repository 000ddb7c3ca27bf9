"""What is fetched to be run (by Maven, for the most part): once, into one cache, whichever process asks first."""

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from infra.servers.process import Launch, ServerFailed, run_to_end

DEPENDENCY_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
_FETCH_S: Final = 300.0


def cache_directory() -> Path:
    """Return where fetched servers are kept between runs; TRADERMIND_CACHE names another place."""
    return Path(os.environ.get("TRADERMIND_CACHE") or Path.home() / ".cache" / "tradermind")


def fetch_once(folder: Path, present: Callable[[], bool], fetch: Callable[[], None]) -> None:
    """Call ``fetch``, which makes ``folder``, unless ``present`` says that another process has just done so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Of several test processes one fetches; the kernel frees a dead one's lock.
        if not present():
            fetch()


def run_maven(arguments: Sequence[str], place: Path, what: str, missing: type[ServerFailed]) -> None:
    """Run one goal in ``place``. Raises ``missing`` with one clear sentence when ``what`` could not be fetched."""
    launch = Launch("Maven", ["mvn", "-q", "-B", *arguments], place / "mvn.log", directory=place)
    try:
        run_to_end(launch, _FETCH_S)
    except ServerFailed as error:
        lines = [line for line in launch.log_file.read_text(errors="replace").splitlines() if "ERROR" in line]
        reason = lines[0][:300] if lines else str(error)
        raise missing(f"Maven could not fetch {what}: {reason}") from error
