"""What an overlay of deploy/k8s comes to, as objects: rendered by kubectl, and read by it: nothing here knows YAML.

``kubectl annotate --local`` asks no server; the annotation that it adds is taken off again.
"""

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.kubernetes import DEPLOY
from infra.servers.kubernetes_programs import built_programs
from infra.servers.process import ServerFailed

Resource = dict[str, Any]
OVERLAYS = ("dev", "staging", "prod")
_MARK = "tradermind.dev/read"


class KubectlMissing(ServerFailed):
    """There is no kubectl here to render with."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that some object makes: ``owner`` is that object's name, ``kind`` its kind."""

    kind: str
    owner: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def at(self) -> str:
        """What a sentence calls it."""
        return f"{self.kind}/{self.owner}"

    def containers(self) -> list[dict[str, Any]]:
        """All of its containers, those that run first included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def render(directory: Path) -> str:
    """Return what kustomize makes of a folder. Raises KubectlMissing; a folder that it refuses fails the test."""
    done = subprocess.run([kubectl(), "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def rendered_text(overlay: str) -> str:
    """Return an overlay as it would be applied."""
    return render(DEPLOY / "overlays" / overlay)


@functools.cache
def _objects(overlay: str) -> str:
    command = [kubectl(), "annotate", "--local", "--overwrite", "-f", "-", f"{_MARK}=1", "-o", "json"]
    done = subprocess.run(command, input=rendered_text(overlay), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def resources(overlay: str) -> list[Resource]:
    """Return the objects of an overlay, the caller's own to change."""
    text, decoder, found, at = _objects(overlay), json.JSONDecoder(), [], 0
    while at < len(text):
        item, at = decoder.raw_decode(text, at)
        annotations = item["metadata"]["annotations"]
        del annotations[_MARK]
        if not annotations:
            del item["metadata"]["annotations"]
        found.append(item)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


def kubectl() -> str:
    """Return the program. Raises KubectlMissing."""
    found = shutil.which("kubectl") or built_programs().get("kubectl")
    if found is None:
        raise KubectlMissing("Rendering deploy/k8s needs kubectl, which is not on this machine: `make setup-kube`.")
    return str(found)


def name_of(item: Resource) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def of_kind(items: list[Resource], *kinds: str) -> list[Resource]:
    """Return the objects of these kinds."""
    return [item for item in items if item["kind"] in kinds]


def named(items: list[Resource], kind: str, name: str) -> Resource:
    """Return the one object of a kind and a name; a name that kustomize has given a hash may be named without it."""
    (found,) = (
        item for item in of_kind(items, kind) if name_of(item) == name or name_of(item).rpartition("-")[0] == name
    )
    return found


def template_of(item: Resource) -> dict[str, Any] | None:
    """Return the pod template of an object that makes pods, else None."""
    spec: dict[str, Any] = item.get("spec") or {}
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if item["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet"):
        return dict(spec["template"])
    return None


def pods(items: list[Resource]) -> Iterator[Pod]:
    """Yield every pod of ours."""
    for item in items:
        template = template_of(item)
        if template is not None:
            labels = template.get("metadata", {}).get("labels", {})
            yield Pod(item["kind"], name_of(item), labels, template["spec"])


def workers(items: list[Resource]) -> list[Pod]:
    """Return the pods that run a worker."""
    return [pod for pod in pods(items) if pod.spec["containers"][0]["command"][:2] == ["tradermind", "worker"]]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether a label selector matches."""
    wanted = selector.get("matchLabels", {})
    for rule in selector.get("matchExpressions", ()):
        there = rule["key"] in labels
        holds = {
            "DoesNotExist": not there,
            "Exists": there,
            "In": labels.get(rule["key"]) in rule.get("values", ()),
            "NotIn": labels.get(rule["key"]) not in rule.get("values", ()),
        }
        if not holds[rule["operator"]]:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())
