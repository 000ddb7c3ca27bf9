"""InfluxDB 2.7, built once from its source (no package of it can be had everywhere) and run on a loopback port.

The source comes through Go's module proxy and cargo's registry, both of which check what they hand out. The program
is kept in the cache beside Kafka's jars; the build's output lies next to it in a log.
"""

import http.client
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from infra.servers.child_server import ChildServer
from infra.servers.fetching import cache_directory, fetch_once
from infra.servers.ports import LOOPBACK, free_port
from infra.servers.process import ChildProcess, Launch, ServerFailed, run_to_end, start_process, wait_until_ready

VERSION: Final = "2.7.12"
ORG: Final = "tradermind"
BUCKET: Final = "tradermind"
_MODULE: Final = f"github.com/influxdata/influxdb/v2@v{VERSION}"
_PKG_CONFIG: Final = "github.com/influxdata/pkg-config@v0.2.14"
_TOOLS: Final = {"go": "Go 1.23 or newer", "cargo": "Rust's cargo", "cc": "a C compiler", "pkg-config": "pkg-config"}
_BUILD_S: Final = 3_600.0
_START_S: Final = 60.0
_REQUEST_S: Final = 10.0
# The Rust part denies warnings, and each new compiler has new ones.
_RUSTC_WRAPPER: Final = '#!/bin/sh\nexec "$@" --cap-lints=warn\n'


class InfluxMissing(ServerFailed):
    """A real InfluxDB cannot be run here, and why, in one clear sentence."""


@dataclass(slots=True)
class RealInflux(ChildServer):
    """A running InfluxDB; its data stays in ``directory`` over a stop, a kill and a restart.

    ``token`` may do everything; ``token_file`` holds the same for settings, which take secrets from files only.
    """

    url: str
    token: str
    org: str
    bucket: str
    token_file: Path
    directory: Path
    process: ChildProcess
    port: int
    STOP_S: ClassVar[float] = 20.0

    def restart(self) -> None:
        """Start it again on the same port with the same data."""
        self.process = _run(self.directory, self.port)

    def make_bucket(self, name: str) -> None:
        """Make one more bucket, empty, that keeps its points for ever. Raises ServerFailed."""
        orgs = self.ask("GET", f"/api/v2/orgs?org={self.org}")["orgs"]
        self.ask("POST", "/api/v2/buckets", {"orgID": orgs[0]["id"], "name": name, "retentionRules": []})

    def drop_bucket(self, name: str) -> None:
        """Drop a bucket and every point in it. Raises ServerFailed when there is none of that name."""
        found = self.ask("GET", f"/api/v2/buckets?name={name}")["buckets"]
        self.ask("DELETE", f"/api/v2/buckets/{found[0]['id']}")

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that it answers, None for an empty answer. Raises ServerFailed when it refuses."""
        return _ask(self.port, method, path, body, self.token)


def start_influx(directory: Path) -> RealInflux:
    """Start an InfluxDB whose data and log lie in ``directory``, with an organisation, a bucket and a token.

    Where the directory holds the data of an earlier one, it goes on with it. Raises InfluxMissing or ServerFailed.
    """
    influxd()  # Missing is missing before anything is written.
    directory.mkdir(parents=True, exist_ok=True)
    token_file = directory / "influx.token"
    if not token_file.exists():
        token_file.touch(mode=0o600)
        token_file.write_text(secrets.token_urlsafe(32) + "\n")
    token = token_file.read_text().strip()
    port = free_port()
    child = _run(directory, port)
    try:
        _set_up(port, token)
    except ServerFailed:
        child.kill()
        raise
    return RealInflux(f"http://{LOOPBACK}:{port}", token, ORG, BUCKET, token_file, directory, child, port)


def influxd() -> Path:
    """Return the program, built now if it never was (3 minutes of two cores). Raises InfluxMissing."""
    folder = cache_directory() / f"influxdb-{VERSION}"
    program = folder / "influxd"
    if not program.is_file():
        for tool, what in _TOOLS.items():
            if shutil.which(tool) is None:
                raise InfluxMissing(f"InfluxDB {VERSION} must be built and needs {what}, which is not on this machine.")
        fetch_once(folder, program.is_file, lambda: _build(folder))
    return program


def _run(directory: Path, port: int) -> ChildProcess:
    files = {"bolt-path": "influxd.bolt", "sqlite-path": "influxd.sqlite", "engine-path": "engine"}
    places = [f"--{option}={directory / name}" for option, name in files.items()]
    bind = f"--http-bind-address={LOOPBACK}:{port}"
    command = [str(influxd()), bind, *places, "--reporting-disabled", "--ui-disabled", "--log-level=error"]
    child = start_process(Launch("InfluxDB", command, directory / "influxd.log", directory=directory))
    wait_until_ready(child, lambda: _healthy(port), _START_S)
    return child


def _healthy(port: int) -> bool:
    try:
        return bool(_ask(port, "GET", "/health")["status"] == "pass")
    except ServerFailed:
        return False


def _set_up(port: int, token: str) -> None:
    if not _ask(port, "GET", "/api/v2/setup")["allowed"]:
        return
    # Nobody signs in with the password: the token does everything.
    person = {"username": "tradermind", "password": secrets.token_urlsafe(32)}
    _ask(port, "POST", "/api/v2/setup", {**person, "org": ORG, "bucket": BUCKET, "token": token})


def _ask(port: int, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_REQUEST_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerFailed(f"InfluxDB does not answer {method} {path}: {error}.") from error
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST:
        answer = content.decode(errors="replace")[:200]
        raise ServerFailed(f"InfluxDB refuses {method} {path}: {response.status} {answer}")
    return json.loads(content) if content.strip() else None


def _build(folder: Path) -> None:
    log = folder.with_name(f"{folder.name}-build.log")
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        place = Path(partial)
        try:
            _compile(place, log)
        except ServerFailed as error:
            raise InfluxMissing(f"InfluxDB {VERSION} could not be built: {error}") from error
        made = place / "made"
        made.mkdir()
        (place / "influxd").rename(made / "influxd")
        made.rename(folder)


def _compile(place: Path, log: Path) -> None:
    source, wrapper = place / "source", place / "rustc"
    wrapper.write_text(_RUSTC_WRAPPER)
    wrapper.chmod(0o755)
    # Of several Rust toolchains the newest stable one is meant, not the one that the source asks for.
    rust = {"RUSTUP_TOOLCHAIN": os.environ.get("RUSTUP_TOOLCHAIN", "stable"), "RUSTC_WORKSPACE_WRAPPER": str(wrapper)}
    go = {"GOFLAGS": "-buildvcs=false -mod=mod", "GOBIN": str(place / "bin")}
    _go(["install", _PKG_CONFIG], place, log, {"GOBIN": str(place / "bin"), "GOFLAGS": ""})
    listing = place / "module.json"
    _go(["mod", "download", _MODULE], place, log, go)
    _go(["mod", "download", "-json", _MODULE], place, listing, go)  # A second time it tells nothing but where.
    shutil.copytree(json.loads(listing.read_text())["Dir"], source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # Go's cache is read-only, and so would be what is copied from it.
    tags = "-tags=sqlite_foreign_keys,sqlite_json"
    environment = {**go, **rust, "PKG_CONFIG": str(place / "bin" / "pkg-config")}
    _go(["build", tags, "-ldflags=-s -w", "-o", str(place / "influxd"), "./cmd/influxd"], source, log, environment)


def _go(arguments: list[str], directory: Path, log: Path, environment: Mapping[str, str]) -> None:
    run_to_end(Launch(f"go {arguments[0]}", ["go", *arguments], log, environment, directory=directory), _BUILD_S)


def main() -> None:
    """Build the program if it never was, and say where it is or, in one sentence, why it cannot be had."""
    try:
        sys.stdout.write(f"InfluxDB {VERSION}: {influxd()}\n")
    except InfluxMissing as error:
        sys.exit(str(error))
