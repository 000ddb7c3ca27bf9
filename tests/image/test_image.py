"""The image's build steps, replayed without Docker in a clean environment, and what then runs from it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.image_build import DOCKERFILE, ROOT, BuildFailed, ImageBuild, Stage, context_files, size_bytes, steps

RUNTIME_MB_MOST = 320
"""What the image may put above its base: a package that doubles it is to be noticed."""
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> ImageBuild:
    """The stage ``runtime`` and all before it, built once: a wheel of this tree, the packages of requirements.lock."""
    build = ImageBuild(tmp_path_factory.mktemp("image"))
    build.build("runtime")
    return build


@pytest.fixture(scope="session")
def runtime(built: ImageBuild) -> Stage:
    """What the image would be."""
    return built.stages["runtime"]


def tradermind(stage: Stage, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the image's command by the image's interpreter, with nothing of this checkout in sight."""
    venv = stage.path("/opt/tradermind")
    path = f"{venv / 'bin'}:/usr/bin:/bin"
    # The replay does not compile, which the image does; compiled once, elsewhere, each further command is as quick.
    environment = {"PATH": path, "HOME": str(folder), "USER": "tradermind", "PYTHONPYCACHEPREFIX": f"{folder}/compiled"}
    command = [str(venv / "bin" / "python"), str(venv / "bin" / "tradermind"), *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def site_packages(stage: Stage) -> Path:
    """Return where the packages of the image are."""
    (found,) = stage.path("/opt/tradermind/lib").glob("python3*/site-packages")
    return found


@pytest.mark.slow(seconds=30)
def test_the_image_runs_our_commands_and_writes_nothing_into_itself(runtime: Stage, tmp_path: Path) -> None:
    before = sorted(str(path) for path in runtime.root.rglob("*"))
    for words in (("--help",), ("worker", "--help")):
        done = tradermind(runtime, tmp_path, *words)
        assert done.returncode == 0 and "Usage" in done.stdout, done.stderr
    shutil.copy(runtime.path("/etc/tradermind/tradermind.toml"), tmp_path)
    asked = tradermind(runtime, tmp_path, "doctor", "--json")
    rows = {row["check"]: row for row in json.loads(asked.stdout)}
    for name in ("python", "packages", "settings", "models"):
        assert rows[name]["state"] == "ok", rows[name]
    assert tradermind(runtime, tmp_path, "schemas", "check").returncode == 0
    refused = tradermind(runtime, tmp_path, "worker", "risk")
    assert refused.returncode == 2 and "kafka.bootstrap" in refused.stderr and "Traceback" not in refused.stderr
    assert sorted(str(path) for path in runtime.root.rglob("*")) == before


@pytest.mark.slow(seconds=30)
def test_the_image_holds_all_that_the_packages_read_and_nothing_else_of_the_tree(
    built: ImageBuild, runtime: Stage
) -> None:
    there = {path.relative_to(site_packages(runtime)).as_posix() for path in site_packages(runtime).rglob("*")}
    source = built.stages["wheel"].path(".")
    packages = (source / name for name in ("schemas", "agents", "infra", "streams"))
    files = (path for package in packages for path in package.rglob("*") if path.is_file())
    data = {path.relative_to(source).as_posix() for path in files}
    assert data <= there, sorted(data - there)[:5]
    for kind in (".sql", ".avsc", ".safetensors", "ids.json"):
        assert any(name.endswith(kind) for name in data), kind
    assert not {"tests", "benchmarks", "docs", "deploy", "torch", "pip", "uv", "pytest", "mypy"} & there
    names = {path.name for path in runtime.root.rglob("*") if path.parent.name == "bin"}
    assert not names & {"gcc", "cc", "uv", "pip", "cargo", "go"}
    assert not list(runtime.root.rglob("*.key")) and not list(runtime.root.rglob(".git"))
    assert size_bytes(runtime.root) / 1e6 < RUNTIME_MB_MOST


@pytest.mark.slow(seconds=30)
def test_the_image_says_what_it_is_and_is_not_root(runtime: Stage) -> None:
    assert runtime.user == "10001:10001" and runtime.directory == "/var/lib/tradermind"
    assert runtime.words["HEALTHCHECK"] == "NONE" and json.loads(runtime.words["ENTRYPOINT"]) == ["tradermind"]
    assert runtime.environment["PATH"].startswith("/opt/tradermind/bin:")
    labels = {name.removeprefix("org.opencontainers.image.") for name in runtime.labels}
    assert labels >= {"title", "version", "revision", "created", "source", "licenses", "base.name", "base.digest"}
    assert runtime.labels["org.opencontainers.image.version"] in (ROOT / "pyproject.toml").read_text()
    assert list(runtime.path(".").iterdir()) == []


def test_no_step_reaches_out_of_its_stage_or_takes_what_is_not_pinned() -> None:
    """An absolute path in RUN would be this machine's when it is replayed; ENV names every one of them."""
    found = steps(DOCKERFILE.read_text())
    runs = [step.rest for step in found if step.word == "RUN"]
    assert len(runs) == 6
    for run in runs:
        assert not re.search(r"(?:^|[\s=\"'])/\w", run), run
        for command in re.findall(r"pip install[^&]*", run):
            assert "--require-hashes" in command or ("--no-deps" in command and "./dist/tradermind-" in command), run
            assert "uv pip install" not in run or "--no-build" in command or "--no-deps" in command
    bases = [step.rest for step in found if step.word == "FROM" and step.rest.startswith("python:")]
    assert set(base.split()[0] for base in bases) == {"python:${PYTHON_TAG}${PYTHON_DIGEST:+@}${PYTHON_DIGEST}"}
    assert not any(step.word == "ADD" for step in found)


def test_the_image_of_the_trainer_has_what_the_workers_have_and_torch() -> None:
    runtime, train = (set(_PIN.findall((ROOT / f"requirements{kind}.lock").read_text())) for kind in ("", "-train"))
    assert runtime <= train
    assert "torch" in {name for name, _ in train} - {name for name, _ in runtime}


@pytest.mark.parametrize("missing", ["streams", "README.md", "requirements-bootstrap.txt"])
def test_a_file_that_is_missing_breaks_the_build(tmp_path: Path, missing: str) -> None:
    context = tmp_path / "context"
    for name in (".dockerignore", "requirements-bootstrap.txt", "requirements.lock", "README.md", "pyproject.toml"):
        context.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, context)
    for name in ("schemas", "agents", "infra", "streams"):
        (context / name).mkdir()
        (context / name / "__init__.py").touch()
    shutil.rmtree(context / missing) if (context / missing).is_dir() else (context / missing).unlink()
    text = "\n".join(line for line in DOCKERFILE.read_text().replace("\\\n", " ").splitlines() if "RUN" not in line)
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(text)
    with pytest.raises(BuildFailed, match=f"the context has no {re.escape(missing)}"):
        ImageBuild(tmp_path / "build", context, dockerfile).build("wheel")


def test_a_package_that_is_not_what_the_lock_file_says_breaks_the_build(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    dockerfile.write_text(
        "FROM scratch AS packages\nENV VENV=/venv\nWORKDIR /source\nCOPY requirements.lock ./\n"
        f'RUN {uv} venv -q "$VENV"\n'
        f'RUN {uv} pip install -q --require-hashes --python "$VENV/bin/python" -r requirements.lock\n'
    )
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    (tmp_path / "requirements.lock").write_text(f"sortedcontainers==2.4.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(BuildFailed, match=r"[Hh]ash"):
        ImageBuild(tmp_path / "build", tmp_path, dockerfile).build("packages")


def test_dockerignore_lets_only_sources_through(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())
    for name in ("streams/a.py", "streams/__pycache__/a.pyc", "secret.key", "state/x", "README.md", ".git/config"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(context_files(tmp_path)) == ["README.md", "streams/a.py"]
    assert not any("__pycache__" in name for name in context_files(ROOT))
