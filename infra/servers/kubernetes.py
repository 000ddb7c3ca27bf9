"""A real Kubernetes on loopback ports: API server, controllers and scheduler, over etcd, with nodes that kwok plays.

Whatever the API server refuses is refused as it would be in a cluster; what runs a container is missing, and with it
everything that only a running container shows.
"""

import http.client
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.servers.kubernetes_crds import custom_resources
from infra.servers.kubernetes_programs import (
    VERSION,
    KubernetesMissing,
    etcd_program,
    kubernetes_programs,
    kwok_program,
)
from infra.servers.ports import LOOPBACK, free_port, port_is_open
from infra.servers.process import ChildProcess, Launch, ServerFailed, start_process, wait_until_ready

__all__ = ["VERSION", "KubectlRefused", "KubernetesMissing", "RealKubernetes", "start_kubernetes"]

_START_S: Final = 120.0
_STOP_S: Final = 10.0
_CALL_S: Final = 180.0
_POLL_S: Final = 0.2
ZONES: Final = ("a", "b", "c")


class KubectlRefused(Exception):
    """What kubectl or the API server did not take: its own words."""


@dataclass(slots=True)
class RealKubernetes:
    """A running control plane and its nodes; ``kubeconfig`` is the administrator's."""

    directory: Path
    kubeconfig: Path
    children: list[ChildProcess]

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl with these arguments, and ``text`` to read; return what it says. Raises KubectlRefused."""
        command = [str(kubernetes_programs() / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_CALL_S, check=False)
        if done.returncode != 0:
            raise KubectlRefused(done.stderr.strip() or done.stdout.strip())
        return done.stdout + done.stderr

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects that ``kubectl get`` gives for these arguments."""
        listed: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]
        return listed

    def define(self) -> None:
        """Teach it the operators' resources, and wait until it knows them."""
        files = [argument for path in sorted(custom_resources().iterdir()) for argument in ("-f", str(path))]
        self.kubectl("apply", "--server-side", *files)
        deadline = time.monotonic() + _START_S
        # `kubectl wait` ends with an error where one has no conditions yet.
        while unknown := [one["metadata"]["name"] for one in self.get("crd") if not _is_established(one)]:
            if time.monotonic() > deadline:
                raise ServerFailed(f"Kubernetes does not take up these resources: {', '.join(unknown)}.")
            time.sleep(_POLL_S)

    def add_nodes(self, zones: Sequence[str] = ZONES) -> None:
        """Add a node in each zone, which kwok keeps ready and on which every pod runs at once."""
        self.kubectl("apply", "--server-side", "-f", "-", text="\n---\n".join(map(_node, zones)))
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node", "--all")

    def stop(self) -> None:
        """End all of it, the youngest first."""
        for child in reversed(self.children):
            child.terminate(_STOP_S)


def start_kubernetes(directory: Path) -> RealKubernetes:
    """Start one whose data lies below ``directory``, without nodes. Raises KubernetesMissing or ServerFailed."""
    place = directory.resolve()
    place.mkdir(parents=True, exist_ok=True)
    programs, etcd, kwok = kubernetes_programs(), etcd_program(), kwok_program()
    port = free_port()
    token = secrets.token_urlsafe()
    kubeconfig = _write_identities(place, port, token)
    children: list[ChildProcess] = []
    server = RealKubernetes(place, kubeconfig, children)
    try:
        children.append(_start_etcd(place, etcd, store := free_port()))
        wait_until_ready(children[-1], lambda: port_is_open(store), _START_S)
        children.append(_start_api(place, programs, port, store))
        wait_until_ready(children[-1], lambda: _ready(place, port, token), _START_S)
        children += _start_controllers(place, programs, kwok, kubeconfig)
        _wait_for_account(server)
    except (ServerFailed, KubectlRefused):
        server.stop()
        raise
    return server


def _start_etcd(place: Path, program: Path, port: int) -> ChildProcess:
    peer = free_port()
    command = [
        str(program),
        f"--data-dir={place / 'etcd'}",
        f"--listen-client-urls=http://{LOOPBACK}:{port}",
        f"--advertise-client-urls=http://{LOOPBACK}:{port}",
        f"--listen-peer-urls=http://{LOOPBACK}:{peer}",
        f"--initial-advertise-peer-urls=http://{LOOPBACK}:{peer}",
        f"--initial-cluster=default=http://{LOOPBACK}:{peer}",
        "--unsafe-no-fsync",
    ]
    return start_process(Launch("etcd", command, place / "etcd.log", directory=place))


def _start_api(place: Path, programs: Path, port: int, store: int) -> ChildProcess:
    command = [
        str(programs / "kube-apiserver"),
        f"--etcd-servers=http://{LOOPBACK}:{store}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--cert-dir={place / 'certificates'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={place / 'accounts.key'}",
        f"--service-account-signing-key-file={place / 'accounts.key'}",
        f"--token-auth-file={place / 'tokens'}",
        "--authorization-mode=RBAC",
        "--endpoint-reconciler-type=none",
    ]
    return start_process(Launch("kube-apiserver", command, place / "apiserver.log", directory=place))


def _start_controllers(place: Path, programs: Path, kwok: Path, kubeconfig: Path) -> list[ChildProcess]:
    known = [f"--kubeconfig={kubeconfig}"]
    alone = ["--leader-elect=false", "--secure-port=0"]
    keys = [f"--service-account-private-key-file={place / 'accounts.key'}"]
    # Played nodes send no heartbeats: after the usual 50 s they and their pods would count as lost.
    patient = ["--node-monitor-grace-period=24h"]
    commands = {
        "kube-controller-manager": [str(programs / "kube-controller-manager"), *known, *alone, *keys, *patient],
        "kube-scheduler": [str(programs / "kube-scheduler"), *known, *alone],
        "kwok": [str(kwok), *known, "--manage-all-nodes=true", f"--server-address={LOOPBACK}:{free_port()}"],
    }
    return [
        start_process(Launch(name, command, place / f"{name}.log", {"HOME": str(place)}, directory=place))
        for name, command in commands.items()
    ]


def _write_identities(place: Path, port: int, token: str) -> Path:
    """Write the key that signs accounts, the administrator's token, and the file by which kubectl finds us."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (place / "accounts.key").write_bytes(key.private_bytes(*form))
    (place / "tokens").write_text(f"{token},administrator,administrator,system:masters\n")
    cluster = {"server": f"https://{LOOPBACK}:{port}", "certificate-authority": str(_authority(place))}
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "loopback",
        "clusters": [{"name": "loopback", "cluster": cluster}],
        "users": [{"name": "administrator", "user": {"token": token}}],
        "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "administrator"}}],
    }
    kubeconfig = place / "kubeconfig"
    kubeconfig.write_text(json.dumps(configuration))
    return kubeconfig


def _authority(place: Path) -> Path:
    """Return where the server keeps the certificate that it makes for itself, and who has signed it."""
    return place / "certificates" / "apiserver.crt"


def _ready(place: Path, port: int, token: str) -> bool:
    if not _authority(place).is_file():
        return False
    context = ssl.create_default_context(cafile=str(_authority(place)))
    connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=2, context=context)
    try:
        connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_for_account(server: RealKubernetes) -> None:
    """Wait until the controllers work: the account that every namespace gets is their doing."""
    deadline = time.monotonic() + _START_S
    while not server.get("serviceaccounts", "--namespace=default"):
        if time.monotonic() > deadline:
            raise ServerFailed(f"Kubernetes' controllers do nothing: {server.children[2].last_lines()}")
        time.sleep(_POLL_S)


def _is_established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _node(zone: str) -> str:
    sizes = {"cpu": "64", "memory": "256Gi", "pods": "200"}
    labels = {"kubernetes.io/hostname": f"node-{zone}", "topology.kubernetes.io/zone": zone, "type": "kwok"}
    metadata = {"name": f"node-{zone}", "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    status = {"capacity": sizes, "allocatable": sizes}
    return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})
