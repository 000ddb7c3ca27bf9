"""Clients of others for tests and a benchmark: kcat from Debian, and a Java program with what it needs by Maven."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.servers.debian import debian_packages
from infra.servers.fetching import DEPENDENCY_PLUGIN, cache_directory, fetch_once, run_maven
from infra.servers.process import ServerFailed

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


class OtherSystemMissing(ServerFailed):
    """A client of others that cannot be had here, and why, in one clear sentence."""


def kcat() -> tuple[Path, dict[str, str]]:
    """Return kcat, fetched once from Debian, and the environment that it needs. Raises OtherSystemMissing."""
    found = shutil.which("kcat")
    if found is not None:
        return Path(found), {}
    folder = debian_packages("kcat", ["kcat", "librdkafka1", "libyajl2"], OtherSystemMissing)
    libraries = {str(path.parent) for path in folder.rglob("*.so.*")}
    return folder / "usr" / "bin" / "kcat", {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def java_libraries() -> Path:
    """Return what the Java example is run with, fetched once by its own Maven file. Raises OtherSystemMissing."""
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise OtherSystemMissing(f"The Java example needs {tool}, which is not on this machine.")
    folder = cache_directory() / "java-example-4.1.1"

    def fetch() -> None:
        with TemporaryDirectory(dir=folder.parent) as partial:
            shutil.copy(EXAMPLES / "java" / "pom.xml", partial)
            goal = [f"{DEPENDENCY_PLUGIN}:copy-dependencies", "-DoutputDirectory=lib"]
            run_maven(goal, Path(partial), "the Java example's libraries", OtherSystemMissing)
            (Path(partial) / "lib").rename(folder)

    fetch_once(folder, folder.is_dir, fetch)
    return folder
