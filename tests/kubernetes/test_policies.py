"""Every policy holds in every overlay as it is rendered; and each catches what it is there for, in the same objects."""

from collections.abc import Callable, Iterator
from typing import Any

import kube_policies_of_networks as networks
import kube_policies_of_parts as parts
import kube_policies_of_pods as of_pods
import pytest
from kube_rendered import OVERLAYS, Resource, named, of_kind, resources

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("kubectl_here")]

Policy = Callable[[list[Resource]], Iterator[str]]
Break = Callable[[list[Resource]], None]


def _at(kind: str, name: str, path: str, value: Any) -> Break:
    """Return what sets one place of one object; None takes it away. Lists go by name or index; ~ is a slash."""

    def change(items: list[Resource]) -> None:
        place: Any = named(items, kind, name)
        *way, last = (int(part) if part.isdigit() else part.replace("~", "/") for part in path.split("/"))
        for part in way:
            place = _inner(place, part)
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def _inner(place: Any, part: str | int) -> Any:
    if isinstance(place, list) and isinstance(part, str):
        return next(item for item in place if item["name"] == part)
    return place[part]


def _without(kind: str, name: str) -> Break:
    return lambda items: items.remove(named(items, kind, name))


def _with(item: Resource) -> Break:
    labels = {"app.kubernetes.io/part-of": "tradermind", "tradermind.dev/environment": "prod"}
    metadata = {"namespace": "tradermind", "labels": labels} | item["metadata"]
    return lambda items: items.append(item | {"metadata": metadata})


def _all_of(kind: str, change: Callable[[Resource], None]) -> Break:
    def every(items: list[Resource]) -> None:
        for item in of_kind(items, kind):
            change(item)

    return every


_POD = "spec/template/spec"
_CONTAINER = f"{_POD}/containers/0"
_EXECUTION = ("Deployment", "execution")
_EXPERTS = ("StatefulSet", "experts")
_JOB = "spec/jobTemplate/spec/template/spec/containers/0"
_PUBLIC = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}

CASES: tuple[tuple[Policy, tuple[Break, ...]], ...] = (
    (
        of_pods.restricted_pods,
        (
            _at(*_EXECUTION, f"{_POD}/securityContext/runAsNonRoot", False),
            _at(*_EXECUTION, f"{_POD}/securityContext/seccompProfile", None),
            _at(*_EXECUTION, f"{_POD}/hostNetwork", True),
            _at(*_EXPERTS, f"{_CONTAINER}/securityContext/allowPrivilegeEscalation", None),
            _at("CronJob", "prune", f"{_JOB}/securityContext/capabilities/drop", []),
            _at(*_EXECUTION, f"{_POD}/volumes/0", {"name": "settings", "hostPath": {"path": "/"}}),
        ),
    ),
    (
        of_pods.namespace_is_restricted,
        (_at("Namespace", "tradermind", "metadata/labels/pod-security.kubernetes.io~enforce", "baseline"),),
    ),
    (
        of_pods.read_only_root,
        (
            _at(*_EXPERTS, f"{_CONTAINER}/securityContext/readOnlyRootFilesystem", False),
            _at(*_EXPERTS, f"{_CONTAINER}/volumeMounts/settings/readOnly", False),
            _at("Deployment", "feed", f"{_POD}/volumes/state/emptyDir", {}),
        ),
    ),
    (
        of_pods.no_account_token,
        (
            _at(*_EXECUTION, f"{_POD}/automountServiceAccountToken", True),
            _at("ServiceAccount", "execution", "automountServiceAccountToken", None),
            _at(*_EXECUTION, f"{_POD}/serviceAccountName", "default"),
            _with({"kind": "RoleBinding", "metadata": {"name": "more"}}),
        ),
    ),
    (
        of_pods.secrets_are_files,
        (
            _with({"kind": "Secret", "metadata": {"name": "password"}, "stringData": {"password": "guess"}}),
            _at("ConfigMap", "tradermind-environment", "data/TRADERMIND__X__PASSWORD", "guess"),
            _at(*_EXECUTION, f"{_CONTAINER}/env/0/valueFrom", {"secretKeyRef": {"name": "a", "key": "b"}}),
            _at(*_EXECUTION, f"{_POD}/volumes/kafka-ca/secret/defaultMode", 0o444),
            _at(*_EXECUTION, f"{_CONTAINER}/volumeMounts/kafka-ca/readOnly", False),
            _at(*_EXECUTION, f"{_CONTAINER}/envFrom/0", {"secretRef": {"name": "a"}}),
        ),
    ),
    (
        of_pods.images_are_pinned,
        (
            _at(*_EXECUTION, f"{_CONTAINER}/image", "registry:5000/tradermind"),
            _at(*_EXECUTION, f"{_CONTAINER}/image", "tradermind:latest"),
            _at(*_EXECUTION, f"{_CONTAINER}/image", "tradermind-train:1"),
        ),
    ),
    (
        of_pods.resources_are_bounded,
        (
            _at(*_EXPERTS, f"{_CONTAINER}/resources/limits", None),
            _at(*_EXPERTS, f"{_CONTAINER}/resources/limits/cpu", "1"),
            _at("CronJob", "prune", f"{_JOB}/resources/requests/cpu", None),
        ),
    ),
    (
        of_pods.quota_holds_all,
        (
            _at(*_EXECUTION, "spec/replicas", 200),
            _at("StatefulSet", "trainer", f"{_CONTAINER}/resources/limits/memory", "96Gi"),
        ),
    ),
    (
        of_pods.probes_of_workers,
        (
            _at(*_EXECUTION, f"{_CONTAINER}/livenessProbe/httpGet/path", "/readyz"),
            _at(*_EXECUTION, f"{_CONTAINER}/readinessProbe", None),
            _at(*_EXECUTION, f"{_CONTAINER}/startupProbe/failureThreshold", 3),
            _at(*_EXECUTION, f"{_CONTAINER}/ports/0/containerPort", 8080),
        ),
    ),
    (
        of_pods.grace_periods,
        (
            _at(*_EXECUTION, f"{_POD}/terminationGracePeriodSeconds", 60),
            _at(*_EXPERTS, f"{_POD}/terminationGracePeriodSeconds", None),
        ),
    ),
    (
        of_pods.money_goes_last,
        (
            _at(*_EXECUTION, f"{_POD}/priorityClassName", None),
            _at(*_EXPERTS, f"{_POD}/priorityClassName", "tradermind-money"),
            _without("PriorityClass", "tradermind-money"),
        ),
    ),
    (
        of_pods.everything_named_is_there,
        (
            _at(*_EXECUTION, f"{_POD}/volumes/settings/configMap/name", "another"),
            _at(*_EXECUTION, f"{_POD}/volumes/kafka-ca/secret/secretName", "another"),
            _without("PersistentVolumeClaim", "tradermind-anchors"),
            _without("KafkaUser", "tradermind-risk"),
        ),
    ),
    (
        parts.every_worker_runs,
        (
            _without("Deployment", "feedback"),
            _at(*_EXECUTION, f"{_CONTAINER}/command/2", "risk"),
        ),
    ),
    (
        parts.one_owner_and_a_stand_by,
        (
            _at(*_EXECUTION, "spec/replicas", 1),
            _at("Deployment", "risk", "spec/strategy/rollingUpdate/maxUnavailable", 1),
            _at("Deployment", "feed", "spec/strategy", {"type": "RollingUpdate"}),
            _at("Deployment", "control", "spec/replicas", 2),
            _with(
                {"kind": "ScaledObject", "metadata": {"name": "e"}, "spec": {"scaleTargetRef": {"name": "execution"}}}
            ),
        ),
    ),
    (
        parts.static_members_are_named,
        (
            _at(*_EXPERTS, f"{_CONTAINER}/command/6", "experts"),
            _at(*_EXECUTION, f"{_CONTAINER}/command/3", "--instance"),
            _at(*_EXPERTS, f"{_CONTAINER}/env", []),
        ),
    ),
    (
        parts.spread_over_nodes,
        (
            _at(*_EXECUTION, f"{_POD}/topologySpreadConstraints", None),
            _at(*_EXPERTS, f"{_POD}/topologySpreadConstraints/0/labelSelector/matchLabels", {"app": "another"}),
            _at(*_EXPERTS, f"{_POD}/topologySpreadConstraints/0/whenUnsatisfiable", "Sometimes"),
        ),
    ),
    (
        parts.disruption_budgets,
        (
            _without("PodDisruptionBudget", "execution"),
            _at("PodDisruptionBudget", "execution", "spec/unhealthyPodEvictionPolicy", None),
            _at("PodDisruptionBudget", "execution", "spec/minAvailable", 2),
            _at("PodDisruptionBudget", "feed", "spec/maxUnavailable", 0),
        ),
    ),
    (
        parts.selectors_find_their_pods,
        (
            _at(*_EXECUTION, "spec/selector/matchLabels", {"app.kubernetes.io/name": "executor"}),
            _at("PodDisruptionBudget", "execution", "spec/selector/matchLabels", {"a": "b"}),
            _at("NetworkPolicy", "flow-kafka", "spec/podSelector/matchLabels", {"a": "b"}),
            _at("PodMonitor", "tradermind", "spec/selector/matchLabels", {"a": "b"}),
            _at("Service", "experts", "spec/selector", {"a": "b"}),
        ),
    ),
    (
        parts.stateful_sets_have_their_service,
        (_without("Service", "voting"), _at("Service", "experts", "spec/clusterIP", None)),
    ),
    (
        parts.jobs_run_one_at_a_time,
        (
            _without("CronJob", "audit-verify"),
            _at("CronJob", "prune", "spec/concurrencyPolicy", "Allow"),
            _at("CronJob", "prune", "spec/startingDeadlineSeconds", None),
            _at("CronJob", "prune", "spec/jobTemplate/spec/activeDeadlineSeconds", None),
            _at("CronJob", "prune", "spec/jobTemplate/spec/backoffLimit", 6),
            _at("CronJob", "backup-check", f"{_JOB}/command/2", "create"),
        ),
    ),
    (
        parts.migration_is_a_job,
        (
            _without("Job", "migrate"),
            _at("Job", "migrate", "spec/activeDeadlineSeconds", None),
            _at("Job", "migrate", f"{_POD}/volumes/postgres/secret/secretName", "tradermind-db-worker"),
            _at(*_EXECUTION, f"{_POD}/volumes/postgres/secret/secretName", "tradermind-db-owner"),
        ),
    ),
    (
        parts.users_have_their_rights,
        (
            _without("KafkaUser", "tradermind-risk"),
            _at(*_EXECUTION, f"{_POD}/volumes/kafka-user/secret/secretName", "tradermind-risk"),
            _at("KafkaUser", "tradermind-risk", "spec/authorization/acls/0/operations", ["All"]),
            _at("KafkaUser", "tradermind-risk", "spec/authorization/acls/0/resource/patternType", "prefix"),
            _at("KafkaUser", "tradermind-risk", "spec/quotas", None),
        ),
    ),
    (
        parts.everything_is_ours,
        (
            _at(*_EXECUTION, "metadata/namespace", "default"),
            _at(*_EXECUTION, "metadata/labels/app.kubernetes.io~part-of", "another"),
        ),
    ),
    (
        parts.monitoring_sees_every_worker,
        (
            _at(*_EXECUTION, "spec/template/metadata/labels/tradermind.dev~role", "job"),
            _at("PodMonitor", "tradermind", "spec/podMetricsEndpoints/0/port", "http"),
            _all_of("PrometheusRule", lambda item: item.update(kind="Rule")),
        ),
    ),
    (
        networks.nothing_is_allowed_by_default,
        (
            _without("NetworkPolicy", "default-deny"),
            _at("NetworkPolicy", "default-deny", "spec/policyTypes", ["Ingress"]),
            _at(*_EXECUTION, "spec/template/metadata/labels/strimzi.io~cluster", "tradermind"),
        ),
    ),
    (
        networks.flows_have_names,
        (
            _with({"kind": "NetworkPolicy", "metadata": {"name": "all"}, "spec": {"podSelector": {}, "egress": [{}]}}),
            _at("NetworkPolicy", "flow-kafka", "spec/podSelector", {}),
            _at("NetworkPolicy", "flow-kafka", "spec/egress/0/ports", None),
            _at("NetworkPolicy", "flow-kafka", "spec/egress/0/to", []),
            _without("NetworkPolicy", "flow-influx"),
        ),
    ),
    (
        networks.only_execution_reaches_a_venue,
        (
            _at("Deployment", "risk", "spec/template/metadata/labels/flow.tradermind.dev~venue", "true"),
            _at("NetworkPolicy", "flow-kafka", "spec/egress/0", _PUBLIC),
            _at("Deployment", "risk", f"{_POD}/volumes/kafka-ca/secret/secretName", "tradermind-venue"),
        ),
    ),
    (networks.outside_is_not_inside, (_at("NetworkPolicy", "flow-kafka", "spec/egress/0", _PUBLIC),)),
    (
        networks.kafka_asks_who_one_is,
        (
            _at("Kafka", "tradermind", "spec/kafka/listeners/0/tls", False),
            _at("Kafka", "tradermind", "spec/kafka/listeners/0/authentication", None),
            _at("Kafka", "tradermind", "spec/kafka/authorization", None),
            _at("Kafka", "tradermind", "spec/kafka/config/auto.create.topics.enable", True),
        ),
    ),
)
NOT_IN_DEV: tuple[tuple[Policy, tuple[Break, ...]], ...] = (
    (
        networks.production_is_safe,
        (
            _at("KafkaTopic", "tradermind.market.event.v1", "spec/replicas", 1),
            _at("KafkaTopic", "tradermind.market.event.v1", "spec/config/min.insync.replicas", 1),
            _at("KafkaNodePool", "nodes", "spec/replicas", 1),
            _at("Cluster", "tradermind-db", "spec/instances", 2),
            _at("Cluster", "tradermind-db", "spec/postgresql/synchronous", None),
        ),
    ),
    (
        parts.only_shards_are_scaled,
        (
            _at("ScaledObject", "experts", "spec/scaleTargetRef/name", "execution"),
            _at("ScaledObject", "experts", "spec/maxReplicaCount", 9),
            _at("ScaledObject", "experts", "spec/triggers/0/metadata/consumerGroup", "tradermind.voting"),
            _at("ScaledObject", "experts", "spec/triggers/0/metadata/topic", "tradermind.order.approved.v1"),
            _at("ScaledObject", "experts", "spec/triggers/0/metadata/excludePersistentLag", None),
            _at("ScaledObject", "experts", "spec/cooldownPeriod", 30),
            _at(*_EXPERTS, "spec/replicas", 2),
        ),
    ),
)


def _parameters() -> list[Any]:
    found = []
    for overlay in OVERLAYS:
        for policy, breaks in CASES + (NOT_IN_DEV if overlay != "dev" else ()):
            found.append(pytest.param(overlay, policy, breaks, id=f"{overlay}-{policy.__name__}"))
    return found


@pytest.mark.parametrize(("overlay", "policy", "breaks"), _parameters())
def test_a_policy_holds_and_catches_what_is_against_it(overlay: str, policy: Policy, breaks: tuple[Break, ...]) -> None:
    assert list(policy(resources(overlay))) == []
    for number, change in enumerate(breaks):
        items = resources(overlay)
        change(items)
        assert list(policy(items)), f"{policy.__name__} does not see its counter-example {number}"


def test_every_policy_has_its_counter_examples() -> None:
    known = {policy.__name__ for policy, breaks in CASES + NOT_IN_DEV if breaks}
    written = {
        name
        for module in (of_pods, parts, networks)
        for name, item in vars(module).items()
        if callable(item) and getattr(item, "__annotations__", {}).get("return") == Iterator[str] and name[0] != "_"
    }
    assert written == known
