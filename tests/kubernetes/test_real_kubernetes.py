"""Every overlay before a real API server: taken to the letter, refused where it is wrong, and Ready on played nodes.

What no test here shows, since no container runs and no network is enforced: NetworkPolicies at work, and autoscaling.
"""

import json
import re
import time
from collections.abc import Iterator

import pytest
from kube_rendered import OVERLAYS, Resource, name_of, of_kind, rendered_text, resources

from infra.servers.kubernetes import KubectlRefused, RealKubernetes

pytestmark = [pytest.mark.kube, pytest.mark.slow(seconds=60), pytest.mark.usefixtures("kubectl_here")]
_STRICT = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--warnings-as-errors")
_READY_S = 180.0


@pytest.fixture
def with_namespace(real_kubernetes: RealKubernetes) -> RealKubernetes:
    """The cluster with our namespace as an overlay makes it."""
    namespace = of_kind(resources("dev"), "Namespace")
    real_kubernetes.kubectl(*_STRICT, "-f", "-", text=json.dumps(namespace[0]))
    return real_kubernetes


@pytest.fixture(params=OVERLAYS)
def deployed(real_kubernetes: RealKubernetes, request: pytest.FixtureRequest) -> Iterator[tuple[RealKubernetes, str]]:
    """The cluster with an overlay in it and the volumes that it claims; the namespace goes when the test has ended."""
    cluster, overlay = real_kubernetes, str(request.param)
    items = resources(overlay)
    claims = [*of_kind(items, "PersistentVolumeClaim"), *_claims_of_sets(items)]
    volumes = [json.dumps(_volume(f"{overlay}-{number}")) for number in range(len(claims))]
    cluster.kubectl("delete", "namespace", "tradermind", "--ignore-not-found", "--timeout=120s")
    _apply(cluster, "\n---\n".join(volumes))
    _apply(cluster, rendered_text(overlay))
    yield cluster, overlay
    cluster.kubectl("delete", "namespace", "tradermind", "--timeout=120s")


def _apply(cluster: RealKubernetes, text: str, *more: str) -> str:
    return cluster.kubectl(*_STRICT, *more, "-f", "-", text=text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_every_object_to_the_letter(with_namespace: RealKubernetes, overlay: str) -> None:
    said = _apply(with_namespace, rendered_text(overlay), "--dry-run=server")
    taken = re.findall(r"serverside-applied \(server dry run\)", said)
    assert len(taken) == len(resources(overlay)) > 100


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("terminationGracePeriodSeconds:", "terminationGraceSeconds:", "field not declared"),
        ("schedule: 7 * * * *", "schedule: 7 * * *", "schedule"),
        ("type: Recreate", "type: Recreated", "Unsupported value"),
        ("operations:", "operation:", "field not declared"),
        ("runAsNonRoot: true", "runAsNonRoot: false", "PodSecurity"),
        ("cidr: 0.0.0.0/0", "cidr: 0.0.0.0/33", "cidr"),
    ],
)
def test_it_refuses_what_is_wrong(with_namespace: RealKubernetes, was: str, becomes: str, said: str) -> None:
    text = rendered_text("prod")
    assert was in text
    with pytest.raises(KubectlRefused, match=said):
        _apply(with_namespace, text.replace(was, becomes), "--dry-run=server")


def test_it_becomes_ready_also_at_its_largest_and_a_budget_refuses_the_last_pod(
    deployed: tuple[RealKubernetes, str],
) -> None:
    cluster, overlay = deployed
    items = resources(overlay)
    _wait_until_ready(cluster, _replicas(items, "minReplicaCount"))
    cluster.kubectl("wait", "--namespace=tradermind", "--for=condition=Complete", "--timeout=60s", "job/migrate")
    names = {pod["spec"]["nodeName"] for pod in _pods_of(cluster, "execution")}
    assert len(names) == 2, "the stand-by is on the owner's node"
    # What KEDA may ask for at the most has room in the namespace's quota.
    _wait_until_ready(cluster, _replicas(items, "maxReplicaCount"))
    _evict(cluster, _pods_of(cluster, "execution")[0])
    cluster.kubectl("scale", "--namespace=tradermind", "deployment/execution", "--replicas=1")
    _wait_until_nobody_may_be_spared(cluster, "execution")
    with pytest.raises(KubectlRefused, match="disruption budget"):
        _evict(cluster, _pods_of(cluster, "execution")[0])


def _replicas(items: list[Resource], bound: str) -> dict[str, int]:
    """Return how many pods each workload is to have; no KEDA runs here, so what it scales has one of its bounds."""
    scaled = {one["spec"]["scaleTargetRef"]["name"]: one["spec"][bound] for one in of_kind(items, "ScaledObject")}
    return {
        f"{item['kind']}/{name_of(item)}": item["spec"].get("replicas") or scaled[name_of(item)]
        for item in of_kind(items, "Deployment", "StatefulSet")
    }


def _wait_until_ready(cluster: RealKubernetes, wanted: dict[str, int]) -> None:
    """Scale what KEDA scales, and wait until all are ready."""
    for name, count in wanted.items():
        if name.startswith("StatefulSet/"):
            cluster.kubectl("scale", "--namespace=tradermind", name.lower(), f"--replicas={count}")
    limit = time.monotonic() + _READY_S
    while True:
        listed = cluster.get("deployments,statefulsets", "--namespace=tradermind")
        ready = {f"{one['kind']}/{name_of(one)}": one.get("status", {}).get("readyReplicas", 0) for one in listed}
        if ready == wanted:
            return
        assert time.monotonic() < limit, f"not ready: { {k: v for k, v in ready.items() if wanted.get(k) != v} }"
        time.sleep(0.5)


def _pods_of(cluster: RealKubernetes, name: str) -> list[Resource]:
    found = cluster.get("pods", "--namespace=tradermind", f"--selector=app.kubernetes.io/name={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _wait_until_nobody_may_be_spared(cluster: RealKubernetes, name: str) -> None:
    """Wait until one pod is left, and the budget's controller has counted it."""
    limit = time.monotonic() + _READY_S
    while len(_pods_of(cluster, name)) != 1 or _spared(cluster, name) != (1, 0):
        assert time.monotonic() < limit, f"{len(_pods_of(cluster, name))} pods, {_spared(cluster, name)}"
        time.sleep(0.2)


def _spared(cluster: RealKubernetes, name: str) -> tuple[int, int]:
    """Return how many pods a budget counts as healthy, and how many of them may be evicted."""
    budgets = cluster.get("poddisruptionbudgets", "--namespace=tradermind")
    [status] = [one["status"] for one in budgets if name_of(one) == name]
    return int(status["currentHealthy"]), int(status["disruptionsAllowed"])


def _evict(cluster: RealKubernetes, pod: Resource) -> None:
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "tradermind"}}
    cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/tradermind/pods/{name}/eviction", "-f", "-", text=json.dumps(eviction)
    )


def _claims_of_sets(items: list[Resource]) -> list[Resource]:
    return [
        claim
        for item in of_kind(items, "StatefulSet")
        for claim in item["spec"].get("volumeClaimTemplates", ())
        for _ in range(_replicas(items, "maxReplicaCount")[f"StatefulSet/{name_of(item)}"])
    ]


def _volume(name: str) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"volume-{name}"},
        "spec": {
            "capacity": {"storage": "200Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "hostPath": {"path": "/nowhere"},
        },
    }
