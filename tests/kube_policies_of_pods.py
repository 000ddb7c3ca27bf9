"""Policies about pods: each takes the objects of an overlay and says, in sentences, what is against it."""

from collections.abc import Iterator

from kube_rendered import Pod, Resource, name_of, of_kind, pods, workers

_VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
_CREDENTIAL = ("PASSWORD", "SECRET", "TOKEN", "KEY")


def restricted_pods(items: list[Resource]) -> Iterator[str]:
    """Pod Security `restricted`, which the namespace also enforces."""
    for pod in pods(items):
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
            yield f"{pod.at} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{pod.at} has no seccomp profile"
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")):
            yield f"{pod.at} shares a namespace"
        for container in pod.containers():
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{pod.at}: {container['name']} may become more than it is"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{pod.at}: {container['name']} keeps capabilities"
        for volume in pod.spec.get("volumes", ()):
            if not set(volume) - {"name"} <= _VOLUMES:
                yield f"{pod.at}: the volume {volume['name']} is of a kind that is not allowed"


def namespace_is_restricted(items: list[Resource]) -> Iterator[str]:
    """The namespace enforces, warns and audits, at a version."""
    for namespace in of_kind(items, "Namespace"):
        labels = namespace["metadata"].get("labels", {})
        for mode in ("enforce", "warn", "audit"):
            if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
                yield f"the namespace does not {mode}"
            if not labels.get(f"pod-security.kubernetes.io/{mode}-version", "").startswith("v1."):
                yield f"{mode} is of no version"


def read_only_root(items: list[Resource]) -> Iterator[str]:
    """Nothing is written but to volumes that are there for it, and each of those in memory or on disk has a bound."""
    for pod in pods(items):
        kinds = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
        kinds |= {claim: {"persistentVolumeClaim": {}} for claim in ("replay",)}
        for container in pod.containers():
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{pod.at}: {container['name']} writes its own root"
            for mount in container.get("volumeMounts", ()):
                volume = kinds[mount["name"]]
                if not mount.get("readOnly") and not {"emptyDir", "persistentVolumeClaim"} & set(volume):
                    yield f"{pod.at}: {mount['mountPath']} could be written"
        for volume in pod.spec.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.at}: {volume['name']} has no bound"


def no_account_token(items: list[Resource]) -> Iterator[str]:
    """Nobody speaks to Kubernetes; each workload has an account of its own, without a token."""
    accounts = {name_of(item): item for item in of_kind(items, "ServiceAccount")}
    for pod in pods(items):
        account = pod.spec.get("serviceAccountName", "default")
        if account not in accounts:
            yield f"{pod.at} uses the account {account}, which is not made"
        elif accounts[account].get("automountServiceAccountToken") is not False:
            yield f"the account {account} mounts a token"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.at} mounts a token"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.at} is told of every service"
    for item in of_kind(items, "RoleBinding", "ClusterRoleBinding", "Role", "ClusterRole"):
        yield f"{name_of(item)} grants rights on Kubernetes"


def secrets_are_files(items: list[Resource]) -> Iterator[str]:
    """Secrets are named, never written; they come as files of mode 0400, read-only, and never by the environment."""
    for item in of_kind(items, "Secret"):
        yield f"the Secret {name_of(item)} is written here"
    for item in of_kind(items, "ConfigMap"):
        for key in item.get("data", {}):
            if any(word in key.upper() for word in _CREDENTIAL) and not key.endswith(("_FILE", "_DEVELOPMENT_KEY")):
                yield f"the ConfigMap {name_of(item)} has a {key}"
    for pod in pods(items):
        yield from _secrets_of(pod)


def _secrets_of(pod: Pod) -> Iterator[str]:
    secret = {volume["name"] for volume in pod.spec.get("volumes", ()) if "secret" in volume}
    for volume in pod.spec.get("volumes", ()):
        if "secret" in volume and volume["secret"].get("defaultMode") != 0o400:
            yield f"{pod.at}: {volume['name']} is not of mode 0400"
    for container in pod.containers():
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{pod.at}: {variable['name']} is a secret in the environment"
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield f"{pod.at}: a secret is in the environment"
        for mount in container.get("volumeMounts", ()):
            if mount["name"] in secret and not mount.get("readOnly"):
                yield f"{pod.at}: {mount['mountPath']} is mounted for writing"


def images_are_pinned(items: list[Resource]) -> Iterator[str]:
    """Every image has a tag that is a version, or a digest; only the trainer's is the one with torch."""
    for pod in pods(items):
        for container in pod.containers():
            image = container["image"]
            name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{pod.at}: {image} is any version"
            if (name == "tradermind-train") is not (pod.owner == "trainer"):
                yield f"{pod.at} runs {name}"


def resources_are_bounded(items: list[Resource]) -> Iterator[str]:
    """CPU and memory are asked for, memory is bounded, CPU is not: a throttled executor is a late one."""
    for pod in pods(items):
        for container in pod.containers():
            asked, bound = (container.get("resources", {}).get(part, {}) for part in ("requests", "limits"))
            if set(asked) != {"cpu", "memory"} or set(bound) != {"memory"}:
                yield f"{pod.at}: {container['name']} asks for {sorted(asked)} and is bounded in {sorted(bound)}"


def quota_holds_all(items: list[Resource]) -> Iterator[str]:
    """The namespace's bounds have room for every replica and job at once."""
    (quota,) = (item["spec"]["hard"] for item in of_kind(items, "ResourceQuota"))
    sums = {"requests.cpu": 0.0, "requests.memory": 0.0, "limits.memory": 0.0, "pods": 0.0}
    scaled = {item["spec"]["scaleTargetRef"]["name"]: item for item in of_kind(items, "ScaledObject")}
    for item in items:
        for pod in pods([item]):
            count = item["spec"].get("replicas", 1)
            if pod.owner in scaled:
                count = scaled[pod.owner]["spec"]["maxReplicaCount"]
            container = pod.spec["containers"][0]["resources"]
            sums["requests.cpu"] += count * _amount(container["requests"]["cpu"])
            sums["requests.memory"] += count * _amount(container["requests"]["memory"])
            sums["limits.memory"] += count * _amount(container["limits"]["memory"])
            sums["pods"] += count
    for name, total in sums.items():
        if total > _amount(quota[name]):
            yield f"all together need {total:g} of {name}, and may have {quota[name]}"


def _amount(quantity: str) -> float:
    factors = {"m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
    for suffix, factor in factors.items():
        if str(quantity).endswith(suffix):
            return float(str(quantity).removesuffix(suffix)) * factor
    return float(quantity)


def probes_of_workers(items: list[Resource]) -> Iterator[str]:
    """Start, life and readiness ask /startupz, /livez and /readyz on the metrics' port; the start may take 5 min."""
    for pod in workers(items):
        (container,) = pod.spec["containers"]
        if {"name": "metrics", "containerPort": 9108}.items() - container["ports"][0].items():
            yield f"{pod.at} has no port for metrics"
        for name, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            asked = container.get(name, {}).get("httpGet", {})
            if asked != {"path": path, "port": "metrics"}:
                yield f"{pod.at}: the {name} asks {asked}"
        start, life = container.get("startupProbe", {}), container.get("livenessProbe", {})
        if start.get("periodSeconds", 0) * start.get("failureThreshold", 0) < 300:
            yield f"{pod.at} may not take five minutes to start"
        if life.get("periodSeconds", 0) * life.get("failureThreshold", 0) < 30:
            yield f"{pod.at} is restarted for less than half a minute's stall"
        if container.get("readinessProbe", {}).get("failureThreshold") != 1:
            yield f"{pod.at} is ready for longer than it says"


def grace_periods(items: list[Resource]) -> Iterator[str]:
    """A worker is given longer to end than it takes itself; execution hears its venue out."""
    for pod in workers(items):
        least = 120 if pod.owner == "execution" else 60
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        if grace < least:
            yield f"{pod.at} has {grace} s to end, and needs {least}"


def money_goes_last(items: list[Resource]) -> Iterator[str]:
    """Execution and risk have the priority of money, which is there; nobody else has."""
    classes = {name_of(item) for item in of_kind(items, "PriorityClass")}
    for pod in pods(items):
        wanted = "tradermind-money" if pod.owner in ("execution", "risk") else None
        if pod.spec.get("priorityClassName") != wanted:
            yield f"{pod.at} has the priority {pod.spec.get('priorityClassName')}"
        if wanted is not None and wanted not in classes:
            yield f"the priority class {wanted} is not made"


def everything_named_is_there(items: list[Resource]) -> Iterator[str]:
    """ConfigMaps and claims that a pod names are made here; Secrets are made here, or are those that a person makes."""
    maps = {name_of(item) for item in of_kind(items, "ConfigMap")}
    claims = {name_of(item) for item in of_kind(items, "PersistentVolumeClaim")}
    secrets = known_secrets(items)
    for pod in pods(items):
        for volume in pod.spec.get("volumes", ()):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{pod.at} mounts the ConfigMap {volume['configMap']['name']}, which is not made"
            if "persistentVolumeClaim" in volume and volume["persistentVolumeClaim"]["claimName"] not in claims:
                yield f"{pod.at} mounts the claim {volume['persistentVolumeClaim']['claimName']}, which is not made"
            if "secret" in volume and volume["secret"]["secretName"] not in secrets:
                yield f"{pod.at} mounts the Secret {volume['secret']['secretName']}, which nobody makes"
        for container in pod.containers():
            mounted = {volume["name"] for volume in pod.spec.get("volumes", ())} | {"replay"}
            for mount in container.get("volumeMounts", ()):
                if mount["name"] not in mounted:
                    yield f"{pod.at} mounts {mount['name']}, which is no volume"
            for source in container.get("envFrom", ()):
                if source["configMapRef"]["name"] not in maps:
                    yield f"{pod.at} takes {source['configMapRef']['name']}, which is not made"


BY_HAND = {
    "tradermind-db-worker",
    "tradermind-db-owner",
    "tradermind-audit",
    "tradermind-allow-lists",
    "tradermind-trainer",
    "tradermind-venue",
    "tradermind-influx",
}
"""The Secrets that deploy/k8s/README.md tells a person to make where no store makes them."""


def known_secrets(items: list[Resource]) -> set[str]:
    """Return the Secrets that somebody makes: an operator, a store, or a person by the README."""
    users = {name_of(item) for item in of_kind(items, "KafkaUser")}
    kafka = {f"{name_of(item)}-cluster-ca-cert" for item in of_kind(items, "Kafka")}
    database = {f"{name_of(item)}-ca" for item in of_kind(items, "Cluster")}
    stored = {item["spec"]["target"]["name"] for item in of_kind(items, "ExternalSecret")}
    return users | kafka | database | (stored or BY_HAND)
