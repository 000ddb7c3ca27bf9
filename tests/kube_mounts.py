"""A pod's files as its containers would see them, below a folder: to start our own programs' beginnings on them."""

from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kube_rendered import Pod, Resource, named

ROOT = Path(__file__).resolve().parents[1]
_AUTHORITY = trustme.CA()
_SHOWN = _AUTHORITY.issue_cert("worker@example.org", common_name="worker")
_CONTENT = {
    "password": "correct-horse",
    "token": "a-token",
    "audit.keys": f"first {'0f' * 32}",
    "api.key": "an-api-key",
    "api.secret": "an-api-secret",
    "people.allow": "# nobody yet",
    "models.allow": "# nobody yet",
}


def environment_of(items: list[Resource], pod: Pod) -> dict[str, str]:
    """Return what a pod's first container gets from its ConfigMaps, the later over the earlier."""
    values: dict[str, str] = {}
    for source in pod.spec["containers"][0].get("envFrom", ()):
        values |= _map(items, source["configMapRef"]["name"])
    return values


def settings_text(items: list[Resource]) -> str:
    """Return the settings file of an overlay."""
    return _map(items, "tradermind-settings")["tradermind.toml"]


def lay_out(root: Path, items: list[Resource], pod: Pod, without: str | None = None) -> dict[str, str]:
    """Make every file that the pod mounts, but for the volume ``without``; return its environment, for below ``root``.

    Secrets have the mode of their volumes. The settings file is at etc/tradermind/tradermind.toml.
    """
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    for mount in pod.spec["containers"][0]["volumeMounts"]:
        place = root / mount["mountPath"].lstrip("/")
        if mount["name"] == without:
            continue
        place.mkdir(parents=True, exist_ok=True)
        volume = volumes.get(mount["name"], {})
        if "secret" in volume:
            for name in _names_in(volume["secret"]):
                write_secret(place / name, volume["secret"]["defaultMode"])
    settings = root / "etc" / "tradermind" / "tradermind.toml"
    settings.write_text(below(root, settings_text(items)))
    return {key: below(root, value) for key, value in environment_of(items, pod).items()}


def below(root: Path, text: str) -> str:
    """Return a text whose paths begin at ``root``."""
    for place in ("/run/secrets/", "/var/lib/", "/etc/tradermind"):
        text = text.replace(place, f"{root}{place}")
    return text


def write_secret(path: Path, mode: int) -> None:
    """Write what a Secret's key of this name would hold: something of the right form."""
    content = {
        "ca.crt": _AUTHORITY.cert_pem.bytes(),
        "user.crt": _SHOWN.cert_chain_pems[0].bytes(),
        "user.key": _SHOWN.private_key_pem.bytes(),
        "trainer.key": f"first {Ed25519PrivateKey.generate().private_bytes_raw().hex()}".encode(),
    }.get(path.name) or _CONTENT[path.name].encode()
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _names_in(secret: dict[str, Any]) -> list[str]:
    if "items" in secret:
        return [item["path"] for item in secret["items"]]
    return {
        "tradermind-audit": ["audit.keys"],
        "tradermind-allow-lists": ["people.allow", "models.allow"],
        "tradermind-trainer": ["trainer.key"],
        "tradermind-venue": ["api.key", "api.secret"],
        "tradermind-influx": ["token"],
    }.get(secret["secretName"], ["user.crt", "user.key"])


def _map(items: list[Resource], name: str) -> dict[str, str]:
    data: dict[str, str] = named(items, "ConfigMap", name)["data"]
    return data
