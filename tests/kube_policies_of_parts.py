"""Policies about workloads among each other: who is one, who stands by, what finds what, what runs by the clock."""

from collections.abc import Iterator

from kube_rendered import Resource, name_of, of_kind, pods, selects, template_of, workers

from infra.kafka_rights import group_of, principals
from schemas.topics import TOPICS
from streams.launch import WORKERS

STANDING_BY = {"decider", "risk", "execution", "feedback"}
ALONE = {"feed", "control"}
STATIC = {"ingress", "experts", "voting", "sinks"}
SCALED = {"ingress", "experts", "voting"}
JOBS = {
    "reconcile": ("reconcile",),
    "audit-verify": ("audit", "verify"),
    "prune": ("prune",),
    "backup-create": ("backup", "create"),
    "backup-check": ("backup", "check"),
}
_OPERATORS = {"strimzi.io/cluster", "cnpg.io/cluster"}


def every_worker_runs(items: list[Resource]) -> Iterator[str]:
    """One workload for each worker; ingestion is its two halves; the exchange only where money is not."""
    wanted = (set(WORKERS) - {"ingestion"}) | {"feed", "ingress", "trainer"}
    found = [pod.owner for pod in workers(items)]
    if sorted(found) != sorted(wanted):
        yield f"the workers are {sorted(found)}, not {sorted(wanted)}"
    for pod in workers(items):
        words = pod.spec["containers"][0]["command"]
        if words[2] != pod.owner:
            yield f"{pod.at} runs {' '.join(words)}"
    environments = {item["metadata"]["labels"].get("tradermind.dev/environment") for item in items}
    if "exchange" in {pod.owner for pod in pods(items)} and environments != {"dev"}:
        yield "the simulated exchange runs where it does not belong"


def one_owner_and_a_stand_by(items: list[Resource]) -> Iterator[str]:
    """What decides about money has two pods of which the claim makes one the owner, and is never a static member.

    A new one is there before an old one goes; nothing scales them.
    """
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(items, "ScaledObject")}
    for item in of_kind(items, "Deployment", "StatefulSet"):
        name, spec = name_of(item), item["spec"]
        command = spec["template"]["spec"]["containers"][0]["command"]
        if name in STANDING_BY:
            rolling = spec.get("strategy", {}).get("rollingUpdate", {})
            if item["kind"] != "Deployment" or spec.get("replicas") != 2 or "--instance" in command:
                yield f"{name} is not one owner and a stand-by"
            if rolling.get("maxUnavailable") != 0 or rolling.get("maxSurge") != 1:
                yield f"{name} rolls by taking one away first"
        elif name in ALONE and (spec.get("replicas") != 1 or spec.get("strategy") != {"type": "Recreate"}):
            yield f"two of {name} could run at once"
        if name in scaled and name not in SCALED:
            yield f"{name} is scaled"


def static_members_are_named(items: list[Resource]) -> Iterator[str]:
    """Who has partitions of its own is a StatefulSet, and its pod's name its membership: no two share one."""
    for item in of_kind(items, "Deployment", "StatefulSet"):
        container = item["spec"]["template"]["spec"]["containers"][0]
        command = container["command"]
        instance = command[command.index("--instance") + 1] if "--instance" in command else None
        if name_of(item) in STATIC:
            named = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
            if item["kind"] != "StatefulSet" or instance != "$(POD_NAME)" or named not in container["env"]:
                yield f"{name_of(item)} is no static member under its pod's name"
        elif instance is not None:
            yield f"{name_of(item)} is a static member"


def spread_over_nodes(items: list[Resource]) -> Iterator[str]:
    """Two of a kind are not on one node (where there is more than one), and not in one zone if that can be had."""
    for item in of_kind(items, "Deployment", "StatefulSet"):
        if item["spec"].get("replicas", 2) < 2:
            continue
        labels = item["spec"]["template"]["metadata"]["labels"]
        rules = {
            rule["topologyKey"]: rule["whenUnsatisfiable"]
            for rule in item["spec"]["template"]["spec"].get("topologySpreadConstraints", ())
            if selects(rule["labelSelector"], labels) and rule["maxSkew"] == 1
        }
        on_node = "ScheduleAnyway" if _environment(item) == "dev" else "DoNotSchedule"
        if rules != {"kubernetes.io/hostname": on_node, "topology.kubernetes.io/zone": "ScheduleAnyway"}:
            yield f"{name_of(item)} is spread by {rules}"


def _environment(item: Resource) -> str:
    return str(item["metadata"]["labels"]["tradermind.dev/environment"])


def disruption_budgets(items: list[Resource]) -> Iterator[str]:
    """Each workload has one budget: one of several stays; a lone one may go; a sick one never holds a node back."""
    for item in of_kind(items, "Deployment", "StatefulSet"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        budgets = [
            budget for budget in of_kind(items, "PodDisruptionBudget") if selects(budget["spec"]["selector"], labels)
        ]
        if len(budgets) != 1:
            yield f"{name_of(item)} has {len(budgets)} budgets"
            continue
        spec = budgets[0]["spec"]
        wanted = {"minAvailable": 1} if item["spec"].get("replicas", 2) > 1 else {"maxUnavailable": 1}
        if not wanted.items() <= spec.items() or {"minAvailable", "maxUnavailable"} <= spec.keys():
            yield f"{name_of(item)} has the budget {spec}"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"a sick {name_of(item)} would hold a node back"


def selectors_find_their_pods(items: list[Resource]) -> Iterator[str]:
    """What selects pods selects some of ours, or of an operator's; a workload selects its own."""
    labels = [pod.labels for pod in pods(items)]
    for item in items:
        spec, kind = item.get("spec") or {}, item["kind"]
        if kind in ("Deployment", "StatefulSet"):
            template = template_of(item)
            assert template is not None
            if not selects(spec["selector"], template["metadata"]["labels"]):
                yield f"{kind}/{name_of(item)} does not select its own pods"
            continue
        selector = {
            "Service": {"matchLabels": spec.get("selector", {})},
            "PodDisruptionBudget": spec.get("selector"),
            "PodMonitor": spec.get("selector"),
            "NetworkPolicy": spec.get("podSelector"),
        }.get(kind)
        if selector is None or _OPERATORS & selector.get("matchLabels", {}).keys():
            continue
        if not any(selects(selector, one) for one in labels):
            yield f"{kind}/{name_of(item)} selects nothing"


def stateful_sets_have_their_service(items: list[Resource]) -> Iterator[str]:
    """The service that a StatefulSet names is there, and finds its pods."""
    services = {name_of(item): item for item in of_kind(items, "Service")}
    for item in of_kind(items, "StatefulSet"):
        service = services.get(item["spec"]["serviceName"])
        if service is None or service["spec"].get("clusterIP") != "None":
            yield f"{name_of(item)} has no service of its own"


def jobs_run_one_at_a_time(items: list[Resource]) -> Iterator[str]:
    """Every job that runs by the clock is there, never twice at once, with an end, in UTC, and not tried again."""
    found = {name_of(item): item for item in of_kind(items, "CronJob")}
    if found.keys() != JOBS.keys():
        yield f"the jobs are {sorted(found)}"
    for name, item in found.items():
        spec, job = item["spec"], item["spec"]["jobTemplate"]["spec"]
        command = job["template"]["spec"]["containers"][0]["command"]
        if tuple(command[: 1 + len(JOBS.get(name, ()))]) != ("tradermind", *JOBS.get(name, ())):
            yield f"{name} runs {command}"
        if spec.get("concurrencyPolicy") != "Forbid" or spec.get("timeZone") != "Etc/UTC":
            yield f"{name} may run beside itself, or at another hour"
        if not spec.get("startingDeadlineSeconds") or not job.get("activeDeadlineSeconds"):
            yield f"{name} has no end"
        if job.get("backoffLimit") != 0 or job["template"]["spec"].get("restartPolicy") != "Never":
            yield f"{name} is tried again, and its failure not seen"
        if not {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= spec.keys():
            yield f"{name} keeps every run"


def migration_is_a_job(items: list[Resource]) -> Iterator[str]:
    """The database is migrated by a Job, as its owner, with an end; no worker migrates."""
    jobs = of_kind(items, "Job")
    if [job["spec"]["template"]["spec"]["containers"][0]["command"][:2] for job in jobs] != [["tradermind", "migrate"]]:
        yield f"{len(jobs)} jobs migrate"
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
        if "tradermind-db-owner" not in secrets or not job["spec"].get("activeDeadlineSeconds"):
            yield "the migration is not its owner's, or has no end"
    for pod in workers(items):
        if "tradermind-db-owner" in str(pod.spec) or "tradermind-as-owner" in str(pod.spec):
            yield f"{pod.at} is the database's owner"


def only_shards_are_scaled(items: list[Resource]) -> Iterator[str]:
    """KEDA scales what has a shard for each partition, by the lag of its own group on topics that it reads."""
    partitions = {name_of(item): item["spec"]["partitions"] for item in of_kind(items, "KafkaTopic")}
    for item in of_kind(items, "ScaledObject"):
        spec, target = item["spec"], item["spec"]["scaleTargetRef"]
        if target["kind"] != "StatefulSet" or target["name"] not in SCALED:
            yield f"{target['name']} is scaled"
            continue
        reader = "ingestion" if target["name"] == "ingress" else target["name"]
        if spec.get("cooldownPeriod", 0) < 300 or spec["minReplicaCount"] < 2:
            yield f"{target['name']} goes up and down"
        for trigger in spec["triggers"]:
            asked = trigger["metadata"]
            topic = TOPICS.get(asked["topic"])
            if trigger["type"] != "kafka" or topic is None or reader not in topic.consumers:
                yield f"{target['name']} is scaled by {asked['topic']}"
            elif spec["maxReplicaCount"] > partitions[asked["topic"]]:
                yield f"{target['name']} could have more pods than {asked['topic']} has partitions"
            if asked["consumerGroup"] != group_of(target["name"]):
                yield f"{target['name']} is scaled by the group {asked['consumerGroup']}"
            if asked.get("limitToPartitionsWithLag") != "true" or asked.get("excludePersistentLag") != "true":
                yield f"a partition that stands still would scale {target['name']}"
    for item in of_kind(items, "StatefulSet"):
        scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(items, "ScaledObject")}
        if name_of(item) in scaled and "replicas" in item["spec"]:
            yield f"{name_of(item)} has a number of replicas beside its scaler"


def users_have_their_rights(items: list[Resource]) -> Iterator[str]:
    """Each worker shows the certificate of its own KafkaUser, which has the rights of the table and no others."""
    table = {principal.name: principal for principal in principals().values()}
    users = {name_of(item): item["spec"] for item in of_kind(items, "KafkaUser")}
    if users.keys() != table.keys():
        yield f"the users are {sorted(users)}"
    for pod in workers(items):
        (shown,) = [v["secret"]["secretName"] for v in pod.spec["volumes"] if v["name"] == "kafka-user"]
        if shown != f"tradermind-{pod.owner}":
            yield f"{pod.at} shows the certificate of {shown}"
    for name in users.keys() & table.keys():
        wanted = {(r.resource, r.name, r.prefix): set(r.operations) for r in table[name].rights}
        found = {
            (acl["resource"]["type"], acl["resource"]["name"], acl["resource"]["patternType"] == "prefix"): set(
                acl.get("operations", ())
            )
            for acl in users[name]["authorization"]["acls"]
        }
        if wanted != found or users[name]["authentication"] != {"type": "tls"} or "quotas" not in users[name]:
            yield f"{name} may do something else than the table says"


def everything_is_ours(items: list[Resource]) -> Iterator[str]:
    """All is labelled as ours, and in our namespace."""
    for item in items:
        kind, metadata = item["kind"], item["metadata"]
        if kind not in ("Namespace", "PriorityClass") and metadata.get("namespace") != "tradermind":
            yield f"{kind}/{name_of(item)} lies in {metadata.get('namespace')}"
        if metadata.get("labels", {}).get("app.kubernetes.io/part-of") != "tradermind":
            yield f"{kind}/{name_of(item)} does not say that it is ours"


def monitoring_sees_every_worker(items: list[Resource]) -> Iterator[str]:
    """Prometheus scrapes every worker, and nothing else; the rules are there."""
    (monitor,) = of_kind(items, "PodMonitor")
    known = {pod.owner for pod in workers(items)}
    for pod in pods(items):
        seen = selects(monitor["spec"]["selector"], pod.labels)
        if seen is not (pod.owner in known):
            yield f"{pod.at} is {'' if seen else 'not '}scraped"
    if {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} != {"metrics"}:
        yield "the monitor asks another port"
    if not of_kind(items, "PrometheusRule"):
        yield "there are no rules"
