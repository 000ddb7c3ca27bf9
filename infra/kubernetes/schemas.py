"""JSON schemas of every kind that deploy/k8s uses, for a check that asks no server: packed beside the tests.

``python -m infra.kubernetes.schemas FILE`` makes them out of Kubernetes' own OpenAPI documents and the operators'
definitions, which ``make setup-kube`` has fetched. Objects are closed, so that a misspelt field is found.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from infra.servers.kubernetes_crds import custom_resources
from infra.servers.kubernetes_programs import VERSION, kubernetes_programs, module_folder

Schema = dict[str, Any]
_DOCUMENTS: Final = {
    "api__v1": (
        "ConfigMap",
        "LimitRange",
        "Namespace",
        "PersistentVolumeClaim",
        "ResourceQuota",
        "Service",
        "ServiceAccount",
    ),
    "apis__apps__v1": ("Deployment", "StatefulSet"),
    "apis__batch__v1": ("CronJob", "Job"),
    "apis__networking.k8s.io__v1": ("NetworkPolicy",),
    "apis__policy__v1": ("PodDisruptionBudget",),
    "apis__scheduling.k8s.io__v1": ("PriorityClass",),
}
_REF: Final = "#/components/schemas/"
_ANYTHING: Final = "x-kubernetes-preserve-unknown-fields"
_SAID_ONLY: Final = {"description", "default", "example", "externalDocs", "format", "nullable"}


def main(arguments: list[str]) -> int:
    """Write the archive that is named."""
    pack(Path(arguments[0]), {**_of_kubernetes(), **_of_operators()})
    return 0


def pack(file: Path, schemas: dict[str, Schema]) -> None:
    """Write name -> schema into one archive, the same bytes for the same schemas."""
    with tarfile.open(file, "w:xz", preset=9) as archive:
        for name, schema in sorted(schemas.items()):
            content = json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _of_kubernetes() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    with tempfile.TemporaryDirectory() as place:
        source = module_folder("k8s.io/kubernetes", f"v{VERSION}", Path(place)) / "api" / "openapi-spec" / "v3"
        for document, kinds in _DOCUMENTS.items():
            known = json.loads((source / f"{document}_openapi.json").read_text())["components"]["schemas"]
            for schema in known.values():
                for named in schema.get("x-kubernetes-group-version-kind", ()):
                    if named["kind"] in kinds and named["version"] == "v1":
                        found[file_name(named["kind"], named["group"], "v1")] = _closed(schema, known, named)
    return found


def _of_operators() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for path in sorted(custom_resources().iterdir()):
        definition = _read(path)["spec"]
        for version in definition["versions"]:
            named = {"group": definition["group"], "version": version["name"], "kind": definition["names"]["kind"]}
            schema = version["schema"]["openAPIV3Schema"]
            found[file_name(named["kind"], named["group"], version["name"])] = _closed(schema, {}, named)
    return found


def file_name(kind: str, group: str, version: str) -> str:
    """Return what kubeconform looks for with ``{{.ResourceKind}}_{{.Group}}_{{.ResourceAPIVersion}}.json``."""
    return f"{kind.lower()}_{group or version}_{version}.json"


def _read(path: Path) -> Schema:
    """Return a YAML file as an object, by way of kubectl."""
    command = [str(kubernetes_programs() / "kubectl"), "annotate", "--local", "--overwrite", "-f", str(path), "a=b"]
    read: Schema = json.loads(subprocess.run([*command, "-o", "json"], capture_output=True, check=True).stdout)
    return read


def _closed(schema: Schema, known: dict[str, Schema], named: dict[str, str]) -> Schema:
    whole: Schema = _resolved(schema, known)
    group = f"{named['group']}/" if named["group"] else ""
    properties = whole["properties"]
    properties["apiVersion"] = {"const": f"{group}{named['version']}"}
    properties["kind"] = {"const": named["kind"]}
    properties["metadata"] = {"type": "object", "required": ["name"]}
    return whole | {"required": sorted({*whole.get("required", ()), "apiVersion", "kind", "metadata"})}


def _resolved(schema: Any, known: dict[str, Schema]) -> Any:
    """Return a schema without references, closed to properties that it does not name."""
    if isinstance(schema, list):
        return [_resolved(item, known) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(known[schema["$ref"].removeprefix(_REF)], known)
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    if len(schema.get("allOf", ())) == 1:
        return _resolved(schema["allOf"][0], known)
    plain = {
        name: _inner(name, value, known)
        for name, value in schema.items()
        if name not in _SAID_ONLY and not name.startswith("x-")
    }
    if "properties" in plain and "additionalProperties" not in plain and not schema.get(_ANYTHING):
        plain["additionalProperties"] = False
    return plain


def _inner(name: str, value: Any, known: dict[str, Schema]) -> Any:
    if name == "properties":
        return {field: _resolved(inner, known) for field, inner in value.items()}
    return _resolved(value, known)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
