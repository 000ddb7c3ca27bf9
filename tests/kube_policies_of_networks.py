"""Policies about who may speak to whom, and about what production refuses."""

from collections.abc import Iterator

from kube_rendered import Resource, name_of, named, of_kind, pods, selects

_FLOW = "flow.tradermind.dev/"
_ORDERS = {"execution", "reconcile"}
_PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}


def nothing_is_allowed_by_default(items: list[Resource]) -> Iterator[str]:
    """One policy denies everything, in and out, to every pod that we make."""
    denials = [
        item["spec"]
        for item in of_kind(items, "NetworkPolicy")
        if not item["spec"].get("ingress") and not item["spec"].get("egress")
    ]
    for pod in pods(items):
        ways = {way for spec in denials if selects(spec["podSelector"], pod.labels) for way in spec["policyTypes"]}
        if ways != {"Ingress", "Egress"}:
            yield f"{pod.at} is denied {sorted(ways)} only"


def flows_have_names(items: list[Resource]) -> Iterator[str]:
    """Every allowance is a flow with a name, by port and peer; every flow that a pod says it needs is there."""
    flows = [item for item in of_kind(items, "NetworkPolicy") if name_of(item).startswith("flow-")]
    for item in of_kind(items, "NetworkPolicy"):
        if item not in flows and name_of(item) != "default-deny":
            yield f"{name_of(item)} is no flow"
    for item in flows:
        spec = item["spec"]
        if not spec["podSelector"]:
            yield f"{name_of(item)} is everybody's"
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            if not rule.get("ports") or not (rule.get("from") or rule.get("to")):
                yield f"{name_of(item)} allows any port or any peer"
    for pod in pods(items):
        for label in pod.labels:
            if label.startswith(_FLOW) and not any(
                selects(item["spec"]["podSelector"], {label: "true"}) and "Egress" in item["spec"]["policyTypes"]
                for item in flows
            ):
                yield f"{pod.at} needs {label}, which nothing allows"


def only_execution_reaches_a_venue(items: list[Resource]) -> Iterator[str]:
    """Orders leave from execution, the books are compared by a job; the feed reads public data; nobody else leaves."""
    for pod in pods(items):
        outside = _leaves(items, pod.labels)
        wanted = {"flow-venue"} if pod.owner in _ORDERS else {"flow-market-data"} if pod.owner == "feed" else set()
        if _environment(items) == "dev":
            wanted = set()
        if outside != wanted:
            yield f"{pod.at} leaves the cluster by {sorted(outside)}"
        keys = {v["secret"]["secretName"] for v in pod.spec["volumes"] if "secret" in v} & {"tradermind-venue"}
        if bool(keys) is not (pod.owner in _ORDERS):
            yield f"{pod.at} {'has' if keys else 'lacks'} the venue's key"
        if (pod.labels.get(f"{_FLOW}venue") == "true") is not (pod.owner in _ORDERS):
            yield f"{pod.at} is among those who trade"


def _leaves(items: list[Resource], labels: dict[str, str]) -> set[str]:
    found = set()
    for item in of_kind(items, "NetworkPolicy"):
        if not selects(item["spec"]["podSelector"], labels):
            continue
        for rule in item["spec"].get("egress", ()):
            for peer in rule.get("to", ()):
                if "ipBlock" in peer:
                    found.add(name_of(item))
    return found


def outside_is_not_inside(items: list[Resource]) -> Iterator[str]:
    """What may leave to any address may not reach the cluster's own, nor the cloud's metadata."""
    for item in of_kind(items, "NetworkPolicy"):
        for rule in item["spec"].get("egress", ()):
            for peer in rule.get("to", ()):
                if "ipBlock" in peer and not set(peer["ipBlock"].get("except", ())) >= _PRIVATE:
                    yield f"{name_of(item)} reaches private addresses"


def _environment(items: list[Resource]) -> str:
    return str(items[0]["metadata"]["labels"]["tradermind.dev/environment"])


def production_is_safe(items: list[Resource]) -> Iterator[str]:
    """But for dev: three copies of every topic and two acknowledged, three nodes of each server, commits on two."""
    if _environment(items) == "dev":
        return
    for item in of_kind(items, "KafkaTopic"):
        if item["spec"]["replicas"] < 3 or item["spec"]["config"].get("min.insync.replicas") != 2:
            yield f"{name_of(item)} is not on three disks"
    (nodes,), (kafka,), (database,) = (of_kind(items, kind) for kind in ("KafkaNodePool", "Kafka", "Cluster"))
    config = kafka["spec"]["kafka"]["config"]
    if nodes["spec"]["replicas"] < 3 or config["offsets.topic.replication.factor"] < 3:
        yield "Kafka may lose what it has taken"
    if database["spec"]["instances"] < 3 or database["spec"]["postgresql"].get("synchronous", {}).get("number") != 1:
        yield "Postgres may lose what it has committed"
    if not of_kind(items, "ExternalSecret"):
        yield "secrets are made by hand"


def kafka_asks_who_one_is(items: list[Resource]) -> Iterator[str]:
    """One kind of listener: TLS both ways, rights by users, and no topic that the table does not know."""
    kafka = named(items, "Kafka", "tradermind")["spec"]["kafka"]
    for listener in kafka["listeners"]:
        if not listener["tls"] or listener.get("authentication") != {"type": "tls"} or listener["type"] != "internal":
            yield f"the listener {listener['name']} lets in whom it does not know"
    if kafka.get("authorization") != {"type": "simple"} or kafka["config"]["auto.create.topics.enable"] is not False:
        yield "Kafka grants what nobody has named"
