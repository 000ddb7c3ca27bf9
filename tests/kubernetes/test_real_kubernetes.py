"""Every overlay before a real API server: taken to the letter, refused where it is wrong, and Ready on played nodes.

What no test here shows, since no container runs and no network is enforced: NetworkPolicies at work, and autoscaling.
"""

import json
import re
import time

import pytest
from kube_rendered import OVERLAYS, Resource, name_of, of_kind, rendered_text, resources

from infra.servers.kubernetes import KubectlRefused, RealKubernetes

pytestmark = [pytest.mark.kube, pytest.mark.slow(seconds=60), pytest.mark.usefixtures("kubectl_here")]
_STRICT = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--warnings-as-errors")
_READY_S = 180.0


@pytest.fixture(scope="module")
def with_namespace(real_kubernetes: RealKubernetes) -> RealKubernetes:
    """The cluster with our namespace as an overlay makes it."""
    namespace = of_kind(resources("dev"), "Namespace")
    real_kubernetes.kubectl(*_STRICT, "-f", "-", text=json.dumps(namespace[0]))
    return real_kubernetes


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


def test_dev_becomes_ready_and_a_budget_refuses_the_last_pod(with_namespace: RealKubernetes) -> None:
    cluster, items = with_namespace, resources("dev")
    claims = [*of_kind(items, "PersistentVolumeClaim"), *_claims_of_sets(items)]
    _apply(cluster, "\n---\n".join(json.dumps(_volume(number)) for number in range(len(claims))))
    _apply(cluster, rendered_text("dev"))
    _wait_until_ready(cluster, items)
    # A Job is never changed, and other tests ask about one of another image.
    cluster.kubectl("wait", "--namespace=tradermind", "--for=condition=Complete", "--timeout=60s", "job/migrate")
    cluster.kubectl("delete", "--namespace=tradermind", "job/migrate")
    names = {pod["spec"]["nodeName"] for pod in _pods_of(cluster, "execution")}
    assert len(names) == 2, "the stand-by is on the owner's node"
    _evict(cluster, _pods_of(cluster, "execution")[0])
    cluster.kubectl("scale", "--namespace=tradermind", "deployment/execution", "--replicas=1")
    _wait_for_count(cluster, "execution", 1)
    with pytest.raises(KubectlRefused, match="disruption budget"):
        _evict(cluster, _pods_of(cluster, "execution")[0])


def _wait_until_ready(cluster: RealKubernetes, items: list[Resource]) -> None:
    wanted = {
        f"{item['kind']}/{name_of(item)}": item["spec"]["replicas"]
        for item in of_kind(items, "Deployment", "StatefulSet")
    }
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


def _wait_for_count(cluster: RealKubernetes, name: str, count: int) -> None:
    limit = time.monotonic() + 60
    while len(_pods_of(cluster, name)) != count:
        assert time.monotonic() < limit
        time.sleep(0.2)
    time.sleep(1)  # The budget's controller counts a moment later.


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
        for _ in range(item["spec"]["replicas"])
    ]


def _volume(number: int) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"volume-{number}"},
        "spec": {
            "capacity": {"storage": "200Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "hostPath": {"path": "/nowhere"},
        },
    }
