"""The steps of deploy/image/Dockerfile, done without Docker: each stage in a folder of its own, only the base missing.

What is replayed is what the file says: files come from the context that .dockerignore leaves, every RUN runs by a shell
in the stage's folder, and its absolute paths come by ENV, which are mapped into that folder. A base image is an empty
folder with this interpreter as its ``python``. As a command it builds the runtime image so and says how large it is:
``python -m benchmarks.image_build``.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.results import say

ROOT: Final = Path(__file__).resolve().parents[1]
DOCKERFILE: Final = ROOT / "deploy" / "image" / "Dockerfile"
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([+-])([^}]*))?\}|\$(\w+)")
_RUN_S: Final = 600.0
# How files get there and whether they are compiled changes nothing that is looked at, and takes most of the time.
_QUICKER: Final = {"UV_LINK_MODE": "hardlink", "UV_COMPILE_BYTECODE": "0"}
_SLOWER: Final = ("PIP_NO_CACHE_DIR",)


class BuildFailed(Exception):
    """A step that does not do, in one sentence."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its word, in capitals, and the rest."""

    word: str
    rest: str
    line: int


@dataclass(slots=True)
class Stage:
    """One stage as it was built: its folder, and what its image would say."""

    name: str
    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    labels: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def path(self, inside: str) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / str(Path(self.directory, inside)).lstrip("/")


def steps(text: str) -> list[Step]:
    """Return the instructions of a Dockerfile."""
    found: list[Step] = []
    pending, began = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        began = began if pending else number
        pending += line.rstrip("\\") if line.endswith("\\") else line
        if not line.endswith("\\"):
            word, _, rest = pending.strip().partition(" ")
            found.append(Step(word.upper(), rest.strip(), began))
            pending = ""
    return found


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its ``$NAME``, ``${NAME}``, ``${NAME:+word}`` and ``${NAME:-word}`` filled in."""

    def value(match: re.Match[str]) -> str:
        found = values.get(match[1] or match[4], "")
        if match[2] == "+":
            return match[3] if found else ""
        return found or match[3] if match[2] == "-" else found

    return _VARIABLE.sub(value, text)


def context_files(root: Path) -> Iterator[str]:
    """Yield the files that .dockerignore leaves of a context, by their paths in it."""
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    tops = [rule[1:].rstrip("/") for rule in rules if rule.startswith("!")]
    for top in tops:
        places = [root / top] if not (root / top).is_dir() else sorted((root / top).rglob("*"))
        for place in places:
            name = place.relative_to(root).as_posix()
            if place.is_file() and not _ignored(name, rules):
                yield name


def _ignored(name: str, rules: Sequence[str]) -> bool:
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").rstrip("/")
        parents = [name, *(parent.as_posix() for parent in Path(name).parents if parent.as_posix() != ".")]
        loose = pattern.removeprefix("**/")
        if any(fnmatch.fnmatchcase(part, pattern) for part in parents) or (
            pattern != loose and any(fnmatch.fnmatchcase(Path(part).name, loose) for part in parents)
        ):
            ignored = not rule.startswith("!")
    return ignored


class ImageBuild:
    """One build of one target: every stage that it needs, in ``folder``."""

    def __init__(self, folder: Path, context: Path = ROOT, dockerfile: Path = DOCKERFILE) -> None:
        self.folder, self.context = folder, context
        self.stages: dict[str, Stage] = {}
        self._files = set(context_files(context))
        self._globals: dict[str, str] = {}
        self._plan: dict[str, list[Step]] = {}
        self._read(steps(dockerfile.read_text()))

    def build(self, target: str) -> Stage:
        """Build a target and return its stage. Raises BuildFailed at the first step that does not do."""
        if target not in self._plan:
            raise BuildFailed(f"There is no stage {target}.")
        if target not in self.stages:
            first, *rest = self._plan[target]
            base = filled(first.rest.split()[0], self._globals)
            self.stages[target] = stage = self._begun(target, base)
            arguments: dict[str, str] = {}
            for step in rest:
                self._do(stage, step, arguments)
        return self.stages[target]

    def _read(self, found: Sequence[Step]) -> None:
        current: list[Step] | None = None
        for step in found:
            if step.word == "FROM":
                current = self._plan.setdefault(step.rest.split(" AS ")[1].strip(), [])
            if current is None:
                name, _, value = step.rest.partition("=")
                self._globals[name] = value
            else:
                current.append(step)

    def _begun(self, name: str, base: str) -> Stage:
        root = self.folder / name
        if base not in self._plan:
            (root / "usr/local/bin").mkdir(parents=True)
            (root / "usr/local/bin/python").symlink_to(Path(sys.executable).resolve())
            return Stage(name, root, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
        before = self.build(base)
        shutil.copytree(before.root, root, symlinks=True, copy_function=os.link)
        return Stage(
            name, root, dict(before.environment), before.directory, before.user, dict(before.labels), dict(before.words)
        )

    def _do(self, stage: Stage, step: Step, arguments: dict[str, str]) -> None:
        values = arguments | stage.environment
        if step.word == "ARG":
            name, _, value = step.rest.partition("=")
            arguments[name] = filled(value, values) or self._globals.get(name, "")
        elif step.word in ("ENV", "LABEL"):
            pairs = re.findall(r'([\w.]+)=("[^"]*"|\S+)', step.rest)
            target = stage.environment if step.word == "ENV" else stage.labels
            target |= {name: filled(value.strip('"'), values) for name, value in pairs}
        elif step.word == "WORKDIR":
            stage.directory = str(Path(stage.directory, filled(step.rest, values)))
            stage.path(".").mkdir(parents=True, exist_ok=True)
        elif step.word == "COPY":
            self._copy(stage, step)
        elif step.word == "RUN":
            self._run(stage, step)
        elif step.word == "USER":
            stage.user = step.rest
        else:
            stage.words[step.word] = step.rest

    def _copy(self, stage: Stage, step: Step) -> None:
        words = step.rest.split()
        options = dict(word[2:].split("=") for word in words if word.startswith("--"))
        *sources, target = (word for word in words if not word.startswith("--"))
        for source in sources:
            into = stage.path(target)
            if "from" in options:
                found = self.build(options["from"]).path(source)
            else:
                found = self.context / source
                if not any(name == source or name.startswith(f"{source}/") for name in self._files):
                    raise BuildFailed(f"Line {step.line}: the context has no {source}.")
            if not found.exists():
                raise BuildFailed(f"Line {step.line}: there is no {source} in {options.get('from')}.")
            if found.is_file():
                into = into / found.name if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)
            else:
                names = self._ignoring() if "from" not in options else None
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=names)

    def _ignoring(self) -> Callable[[str, list[str]], set[str]]:
        """Return what leaves out of a copy that .dockerignore leaves out of the context."""

        def ignored(folder: str, names: list[str]) -> set[str]:
            place = Path(folder).relative_to(self.context).as_posix()
            return {
                name
                for name in names
                if (self.context / place / name).is_file() and f"{place}/{name}" not in self._files
            }

        return ignored

    def _run(self, stage: Stage, step: Step) -> None:
        environment = {name: value for name, value in stage.environment.items() if name not in _SLOWER}
        mapped = {name: self._mapped(stage, value) for name, value in environment.items()}
        mapped["PATH"] += ":/usr/bin:/bin"
        kept = {name: os.environ[name] for name in os.environ if name.endswith(("_proxy", "_PROXY", "_CERT_FILE"))}
        kept |= {
            name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_", "REQUESTS_"))
        }
        kept["HOME"] = os.environ.get("HOME", "/")
        done = subprocess.run(
            ["/bin/sh", "-ec", step.rest],
            cwd=stage.path("."),
            env=kept | mapped | _QUICKER,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        if done.returncode:
            raise BuildFailed(f"Line {step.line}: {(done.stderr or done.stdout).strip()[-800:]}")

    @staticmethod
    def _mapped(stage: Stage, value: str) -> str:
        parts = value.split(":")
        return ":".join(f"{stage.root}{part}" if part.startswith("/") else part for part in parts)


def size_bytes(folder: Path) -> int:
    """Return how much a folder takes, each file once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file():
            status = path.stat()
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


def main() -> int:
    """Build the runtime image so, and say what is in it."""
    with tempfile.TemporaryDirectory() as folder:
        stage = ImageBuild(Path(folder)).build("runtime")
        packages = next(stage.path("/opt/tradermind/lib").glob("python3*")) / "site-packages"
        say(f"runtime: {size_bytes(stage.root) / 1e6:.0f} MB above the base, without bytecode")
        parts = {
            entry.name: size_bytes(entry) if entry.is_dir() else entry.stat().st_size for entry in packages.iterdir()
        }
        for name, size in sorted(parts.items(), key=lambda item: -item[1])[:12]:
            say(f"  {size / 1e6:7.1f} MB  {name}")
    train = ROOT / ".venv-train"
    if train.is_dir():
        say(f"train: {size_bytes(train) / 1e6:.0f} MB, as in {train.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
