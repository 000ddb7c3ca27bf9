"""Who may do what on Kafka: the least that each of our programs needs, derived from the table of topics.

The KafkaUsers of a cluster are generated from it, and so are the ACLs under which the suite runs every worker on a
real broker that denies what is not granted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from schemas.topics import MARKET_EVENT, MARKET_MARK, PREFIX, TOPICS, Topic

_MIB: Final = 2**20
Operation = Literal["Read", "Write", "Describe", "DescribeConfigs"]


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """Operations on one resource, by its exact name, or by how its name begins. Read and Write imply Describe."""

    resource: Literal["topic", "group", "cluster"]
    name: str
    operations: tuple[Operation, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class KafkaPrincipal:
    """A user: the name in its certificate, its rights, and how much it may produce to and fetch from each broker.

    ``purpose`` is for people.
    """

    name: str
    rights: tuple[Right, ...]
    purpose: str
    produced_bytes_per_s: int = 32 * _MIB
    fetched_bytes_per_s: int = 64 * _MIB


_INGESTION: Final = "ingestion"
_INGRESS_GROUP: Final = ".".join(
    sorted(f"ingress.{topic.name.split('.')[2]}" for topic in TOPICS.values() if topic.public)
)
_GROUPED: Final = {"experts", "voting", "decider", "risk", "execution", "feedback", "trainer"}
_ASKED: Final = tuple(Right("group", f"{PREFIX}.{name}", ("Describe",)) for name in ("recompute", "watermarks"))
"""The groups under whose names logs are read outside any group: clients look for their coordinators all the same."""
_TOLD_OTHERWISE: Final = {"execution", "control", "trainer"}
"""Stages that also hear what comes by no topic: what they refuse of it lies with the letters of their first output."""


def principals() -> dict[str, KafkaPrincipal]:
    """Return worker -> its user on Kafka, and those of what is no worker."""
    everybody = (
        *(_feed(), _ingress(), *(_worker(name) for name in sorted(_GROUPED)), _worker("control"), _sinks()),
        *(_keda(), _operations()),
    )
    return {one.name.removeprefix(f"{PREFIX}-"): one for one in everybody}


def group_of(worker: str) -> str:
    """Return the consumer group of a worker's only stage; of ``ingress``, that of all public topics."""
    return f"{PREFIX}.{_INGRESS_GROUP if worker == 'ingress' else worker}"


def _worker(name: str) -> KafkaPrincipal:
    reads = [topic for topic in TOPICS.values() if name in topic.consumers]
    writes = [topic for topic in TOPICS.values() if name in topic.producers]
    letters = writes[:1] if name in _TOLD_OTHERWISE else ()
    return _user(name, reads, writes, letters, grouped=name in _GROUPED)


def _feed() -> KafkaPrincipal:
    return _user("feed", (), (MARKET_EVENT,), (MARKET_EVENT,), grouped=False)


def _ingress() -> KafkaPrincipal:
    reads = [topic for topic in TOPICS.values() if _INGESTION in topic.consumers]
    writes = [topic for topic in TOPICS.values() if _INGESTION in topic.producers]
    return _user("ingress", reads, writes, (), grouped=True)


def _sinks() -> KafkaPrincipal:
    read = [topic for topic in TOPICS.values() if "sinks" in topic.consumers]
    rights: dict[str, set[Operation]] = {topic.name: {"Read"} for topic in read}
    # Every dead letter is kept in the record. What the sinks cannot use becomes one where no other reader makes it: the
    # trainer is not always there.
    for topic in TOPICS.values():
        rights[topic.dead_letters] = {"Read"}
        if set(topic.consumers) - {"trainer"} == {"sinks"}:
            rights[topic.dead_letters].add("Write")
    return KafkaPrincipal(f"{PREFIX}-sinks", (*_on_topics(rights), _group("sinks")), "worker sinks")


def _keda() -> KafkaPrincipal:
    scaled = ("experts", "voting", "ingress")
    topics = {topic.name for topic in TOPICS.values() if {"experts", "voting", _INGESTION} & set(topic.consumers)}
    rights = (
        *_on_topics({name: {"Describe"} for name in topics}),
        *(Right("group", group_of(worker), ("Describe",)) for worker in sorted(scaled)),
    )
    return KafkaPrincipal(f"{PREFIX}-keda", rights, "KEDA, which looks at lag", fetched_bytes_per_s=_MIB)


def _operations() -> KafkaPrincipal:
    """People's commands: they read every log, compare the topics with the table, and send dead letters again."""
    rights: dict[str, set[Operation]] = {}
    for topic in TOPICS.values():
        rights[topic.name] = {"Read", "DescribeConfigs", *(("Write",) if topic.public else ())}
        rights[topic.dead_letters] = {"Read", "DescribeConfigs"}
    groups = Right("group", f"{PREFIX}.", ("Describe",), prefix=True)
    return KafkaPrincipal(f"{PREFIX}-operations", (*_on_topics(rights), groups), "people's commands")


def _user(
    name: str, reads: Iterable[Topic], writes: Iterable[Topic], letters: Iterable[Topic], *, grouped: bool
) -> KafkaPrincipal:
    rights: dict[str, set[Operation]] = {}
    for topic in reads:
        rights.setdefault(topic.name, set()).add("Read")
        rights.setdefault(topic.dead_letters, set()).add("Write")
    for topic in letters:
        rights.setdefault(topic.dead_letters, set()).add("Write")
    for topic in writes:
        # What it has sent it reads again after a crash, to know where its numbers ended.
        rights.setdefault(topic.name, set()).update(("Read", "Write"))
    # Whoever holds no partition asks the broker about this topic, to know that it is there.
    if not {"Read", "Write"} & rights.setdefault(MARKET_MARK.name, set()):
        rights[MARKET_MARK.name].add("Describe")
    groups = (*((_group(name),) if grouped else ()), *_ASKED)
    return KafkaPrincipal(f"{PREFIX}-{name}", (*_on_topics(rights), *groups), f"worker {name}")


def _group(worker: str) -> Right:
    return Right("group", group_of(worker), ("Read",))


def _on_topics(rights: Mapping[str, set[Operation]]) -> tuple[Right, ...]:
    return tuple(Right("topic", name, tuple(sorted(rights[name]))) for name in sorted(rights))
