"""How the topics on a broker differ from what they shall be, and what of it may be changed without losing anything.

A topic is never shrunk and never re-keyed in passing: what would lose records, or move keys, is refused.
"""

import enum
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its manual, not by its stubs
    AdminClient,
    ConfigResource,
    ResourceType,
)

from infra.kafka import (
    BrokerUnreachable,
    Security,
    TopicsApplied,
    TopicsDiffer,
    TopicSpec,
    apply_topics,
    client_settings,
    topic_partitions,
)

RETENTION: Final = "retention.ms"
RECORD_BYTES: Final = "max.message.bytes"
CLEANUP: Final = "cleanup.policy"
_ANSWER_S: Final = 10.0
_SHOWN_S: Final = 30.0
_POLL_S: Final = 0.1
_NUMBERS: Final = (RETENTION, RECORD_BYTES, "min.insync.replicas")


class Kind(enum.Enum):
    """What is to be done about a difference."""

    MISSING = "missing"
    CHANGE = "change"
    SHORTER_RETENTION = "shorter retention"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as the broker has it: partitions, copies of each, and its whole configuration."""

    partitions: int
    replication: int
    configuration: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the table says. ``found`` is None for a topic that is not there."""

    topic: str
    what: str
    wanted: str
    found: str | None
    kind: Kind

    def sentence(self) -> str:
        """Return the difference as a person reads it."""
        if self.kind is Kind.MISSING:
            return f"{self.topic} is missing ({self.wanted} partitions)."
        return f"{self.topic} has {self.what} {self.found}, the table says {self.wanted}."


def find_topics(bootstrap: str, names: Iterable[str], security: Security | None = None) -> dict[str, TopicFound]:
    """Return what is there of ``names``. Raises BrokerUnreachable."""
    there = sorted(topic_partitions(bootstrap, security).keys() & set(names))
    if not there:
        return {}
    admin = AdminClient(client_settings(bootstrap, security))
    try:
        metadata = admin.list_topics(timeout=_ANSWER_S).topics
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in there]
        described = {
            resource.name: future.result(timeout=_ANSWER_S)
            for resource, future in admin.describe_configs(asked, request_timeout=_ANSWER_S).items()
        }
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        raise BrokerUnreachable(f"The Kafka broker at {bootstrap} does not describe its topics ({reason}).") from error
    return {
        name: TopicFound(
            partitions=len(metadata[name].partitions),
            replication=min((len(one.replicas) for one in metadata[name].partitions.values()), default=0),
            configuration={key: str(entry.value) for key, entry in described[name].items() if entry.value is not None},
        )
        for name in there
        if name in metadata
    }


def differences(specs: Iterable[TopicSpec], found: Mapping[str, TopicFound]) -> list[Difference]:
    """Return every difference, in the order of ``specs``. Configuration that a spec does not name does not count."""
    differing: list[Difference] = []
    for spec in specs:
        there = found.get(spec.name)
        if there is None:
            differing.append(Difference(spec.name, "topic", str(spec.partitions), None, Kind.MISSING))
        else:
            differing += _differences(spec, there)
    return differing


def _differences(spec: TopicSpec, there: TopicFound) -> list[Difference]:
    differing: list[Difference] = []
    for what, wanted, found in (
        ("partitions", spec.partitions, there.partitions),
        ("replication", spec.replication, there.replication),
    ):
        enough = what == "partitions" and spec.partitions_min is not None and found >= spec.partitions_min
        if found != wanted and not enough:
            differing.append(Difference(spec.name, what, str(wanted), str(found), Kind.REFUSED))
    for name, value in spec.configuration.items():
        present = there.configuration.get(name, "unset")
        if present != value:
            differing.append(Difference(spec.name, name, value, present, _kind(name, value, present)))
    return differing


def _kind(name: str, wanted: str, found: str) -> Kind:
    if name == CLEANUP:
        return Kind.REFUSED
    if name not in _NUMBERS or not (found.lstrip("-").isdigit() and wanted.lstrip("-").isdigit()):
        return Kind.CHANGE
    # Of a retention -1 is for ever.
    less = int(wanted) >= 0 and (int(found) < 0 or int(wanted) < int(found))
    if not less:
        return Kind.CHANGE
    return Kind.SHORTER_RETENTION if name == RETENTION else Kind.REFUSED


def refusals(differing: Iterable[Difference], shorter_allowed: Collection[str] = ()) -> list[str]:
    """Return a sentence for each difference that must not be mended in passing.

    ``shorter_allowed`` names topics whose retention may become shorter: what is older is deleted.
    """
    sentences: list[str] = []
    for difference in differing:
        if difference.kind is Kind.SHORTER_RETENTION and difference.topic not in shorter_allowed:
            cure = f"to delete what is older, say --allow-shorter-retention {difference.topic}"
        elif difference.kind is not Kind.REFUSED:
            continue
        elif difference.what == "partitions":
            cure = "it is left as it is, since its keys would move: `tradermind topics rescale` moves them"
        elif difference.what == "replication":
            cure = "move its copies with Kafka's own tool, or set kafka.replication"
        else:
            cure = "that could lose records: it is left as it is"
        sentences.append(f"{difference.sentence()[:-1]}; {cure}.")
    return sentences


def mend_topics(
    bootstrap: str,
    specs: Iterable[TopicSpec],
    security: Security | None = None,
    shorter_allowed: Collection[str] = (),
) -> TopicsApplied:
    """Make what is missing and change what may be changed. Where anything is refused nothing is done: TopicsDiffer.

    Raises BrokerUnreachable, too.
    """
    wanted = {spec.name: spec for spec in specs}
    found = find_topics(bootstrap, wanted, security)
    differing = differences(wanted.values(), found)
    if refused := refusals(differing, shorter_allowed):
        raise TopicsDiffer(refused[0])
    names = dict.fromkeys(difference.topic for difference in differing)
    kept = [
        replace(wanted[name], partitions=found[name].partitions) if name in found else wanted[name] for name in names
    ]
    applied = apply_topics(bootstrap, kept, security)
    deadline = time.monotonic() + _SHOWN_S
    # The controller has changed them; the broker that is asked may know of it a moment later.
    while applied.configured and differences(kept, find_topics(bootstrap, names, security)):
        if time.monotonic() > deadline:
            raise TopicsDiffer(f"Topics {', '.join(applied.configured)} were changed but do not show it.")
        time.sleep(_POLL_S)
    return applied
