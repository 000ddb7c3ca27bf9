"""Kubernetes' own programs and the resources of the operators we use, made once into the cache of all servers.

Where only package registries can be reached there is no image and no binary of Kubernetes, but there are its modules.
Its staging modules are directories in its own go.mod, which no module carries, so each is named at the version that it
was released as. Run as a program (``make setup-kube``) this makes whatever is missing: minutes, once.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from infra.servers.debian import debian_packages, unpacked_folder
from infra.servers.fetching import cache_directory, fetch_once
from infra.servers.process import Launch, ServerFailed, run_to_end

VERSION: Final = "1.33.13"
_STAGING: Final = "v0.33.13"
KWOK: Final = "0.7.0"
KUBECONFORM: Final = "0.8.0"
_PROGRAMS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
_BUILD_S: Final = 3600.0
_STAGED: Final = re.compile(r"^\s*(k8s\.io/[a-z0-9-]+) => \./staging/", re.MULTILINE)


class KubernetesMissing(ServerFailed):
    """A real Kubernetes cannot be run here, and why, in one clear sentence."""


def kubernetes_programs() -> Path:
    """Return the folder with the API server, controllers, scheduler and kubectl. Raises KubernetesMissing."""
    folder = cache_directory() / f"kubernetes-{VERSION}"
    return made_once(folder, _build_kubernetes)


def kwok_program() -> Path:
    """Return kwok, which plays the nodes. Raises KubernetesMissing."""
    return _installed("kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok")


def kubeconform_program() -> Path:
    """Return the checker of resources against schemas. Raises KubernetesMissing."""
    return _installed("kubeconform", KUBECONFORM, "github.com/yannh/kubeconform/cmd/kubeconform")


def etcd_program() -> Path:
    """Return etcd: what is on the PATH, else Debian's. Raises KubernetesMissing."""
    found = shutil.which("etcd")
    if found is not None:
        return Path(found)
    return debian_packages("etcd", ("etcd-server",), KubernetesMissing) / "usr" / "bin" / "etcd"


def built_programs() -> dict[str, Path]:
    """Return the programs that are in the cache already, by name: nothing is built for the asking."""
    folders = {
        f"kubernetes-{VERSION}": _PROGRAMS,
        f"kwok-{KWOK}": ("kwok",),
        f"kubeconform-{KUBECONFORM}": ("kubeconform",),
    }
    places = {name: cache_directory() / folder / name for folder, names in folders.items() for name in names}
    places["etcd"] = unpacked_folder("etcd") / "usr" / "bin" / "etcd"
    return {name: place for name, place in places.items() if place.is_file()}


def module_folder(module: str, version: str, place: Path) -> Path:
    """Return where the Go proxy's copy of a module lies, downloaded if need be. Raises KubernetesMissing."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "go.mod").write_text("module tradermind.download\n\ngo 1.24\n")
    told = go(["mod", "download", "-json", f"{module}@{version}"], place)
    return Path(json.loads(told[told.index("{") :])["Dir"])


def go(arguments: Sequence[str], place: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run the Go tool in ``place`` and return what it said. Raises KubernetesMissing."""
    program = shutil.which("go")
    if program is None:
        raise KubernetesMissing("A Kubernetes of the suite's own is built by go, which is not on this machine.")
    log = place / "go.log"
    log.unlink(missing_ok=True)
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", **(environment or {})}
    try:
        run_to_end(Launch("go", [program, *arguments], log, settings, directory=place), _BUILD_S)
    except ServerFailed as error:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise KubernetesMissing(f"go {arguments[0]} failed: {lines[-1][:300] if lines else error}") from error
    return log.read_text(errors="replace")


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return ``folder``, which ``make`` fills beside it unless it is there: nobody ever sees half of it."""

    def fetch() -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            place = Path(partial)
            make(place)
            (place / "bin").rename(folder)

    if not folder.is_dir():
        fetch_once(folder, folder.is_dir, fetch)
    return folder


def _build_kubernetes(place: Path) -> None:
    source = module_folder("k8s.io/kubernetes", f"v{VERSION}", place / "source")
    staged = _STAGED.findall((source / "go.mod").read_text())
    lines = ["module tradermind.kubernetes", "", "go 1.24.0", "", f"require k8s.io/kubernetes v{VERSION}"]
    lines += [f"replace {name} => {name} {_STAGING}" for name in staged]
    (place / "go.mod").write_text("\n".join(lines) + "\n")
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in _PROGRAMS]
    (place / "bin").mkdir()
    go(["build", "-trimpath", "-ldflags", "-s -w", "-o", "bin/", *packages], place)


def _installed(name: str, version: str, package: str) -> Path:
    folder = cache_directory() / f"{name}-{version}"

    def install(place: Path) -> None:
        go(["install", "-trimpath", f"{package}@v{version}"], place, {"GOBIN": str(place / "bin"), "GOFLAGS": ""})

    return made_once(folder, install) / name


def main() -> int:
    """Make everything; return 1 and one sentence where something cannot be had."""
    from infra.servers.kubernetes_crds import custom_resources

    for make in (etcd_program, kubeconform_program, kwok_program, custom_resources, kubernetes_programs):
        try:
            sys.stdout.write(f"{make()}\n")
            sys.stdout.flush()
        except ServerFailed as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
