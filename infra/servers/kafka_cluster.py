"""Several Kafka brokers that hold copies of each other's logs: what one broker alone cannot show is a change of leader.

Each node is broker and controller at once, as small as they come; of three, one may be away.
"""

import io
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.kafka import BrokerUnreachable, Slot, client_settings
from infra.servers.kafka_real import KafkaNode, RealKafka, cluster_uuid, kafka_libraries, wait_until_answers
from infra.servers.ports import LOOPBACK, free_port
from infra.servers.process import ServerFailed

_ANSWER_S: Final = 5.0
_SETTLE_S: Final = 60.0
_POLL_S: Final = 0.1
_ELECT_S: Final = 20.0
_ELECT_LEADERS: Final = 43
"""Kafka's number for this request."""
# The leader of a partition stays where it is until somebody moves it, so that whoever moves it knows what he did.
_PROPERTIES: Final = """
node.id={node}
controller.quorum.voters={voters}
offsets.topic.replication.factor={count}
transaction.state.log.replication.factor={count}
transaction.state.log.min.isr={least}
auto.leader.rebalance.enable=false
"""


@dataclass(slots=True)
class KafkaCluster:
    """Running brokers, by their number, which counts from 1. ``bootstrap`` names all of them."""

    nodes: dict[int, RealKafka]

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers, comma-separated."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    def leader(self, slot: Slot, *, not_asked: int | None = None) -> int:
        """Return the number of the broker that leads a topic partition, -1 when none does, as the others say."""
        name, number = slot
        return int(self._topics(not_asked)[name].partitions[number].leader)

    def wait_for_leader(self, slot: Slot, other_than: int) -> float:
        """Wait until another broker than this leads a partition; return the seconds. Raises ServerFailed."""
        return wait_until(
            f"another leader of {slot}", lambda: self.leader(slot, not_asked=other_than) not in (-1, other_than)
        )

    def wait_until_in_sync(self) -> float:
        """Wait until every replica of every partition follows its leader; return the seconds. Raises ServerFailed."""
        return wait_until("replicas in sync", self._in_sync)

    def elect_preferred(self) -> int:
        """Let each partition be led by the first of its replicas again; return how many changed their leader."""
        asked: dict[str, list[int]] = {}
        for name, topic in self._topics().items():
            for number, partition in topic.partitions.items():
                if partition.leader != partition.replicas[0]:
                    asked.setdefault(name, []).append(number)
        answers = elect_leaders(self.nodes[min(self.nodes)].port, asked)
        return sum(code == 0 for code in answers.values())

    def stop(self) -> None:
        """Shut all down: they are killed, since the last of them would wait for a quorum that is gone."""
        for node in self.nodes.values():
            node.kill()

    def _in_sync(self) -> bool:
        return all(
            len(partition.isrs) == len(partition.replicas)
            for topic in self._topics().values()
            for partition in topic.partitions.values()
        )

    def _topics(self, not_asked: int | None = None) -> Any:
        asked = ",".join(node.bootstrap for number, node in self.nodes.items() if number != not_asked)
        try:
            return AdminClient(client_settings(asked)).list_topics(timeout=_ANSWER_S).topics
        except KafkaException as error:
            raise BrokerUnreachable(f"No Kafka broker answers at {asked} ({error.args[0].str()}).") from error


def elect_leaders(port: int, asked: Mapping[str, Sequence[int]]) -> dict[Slot, int]:
    """Ask a broker for a preferred election of topic -> partitions; return Kafka's error code of each, 0 for done.

    ElectLeaders v0 of Kafka's protocol, by hand: the call that confluent-kafka 2.16 has for it cannot be called (its
    arguments do not fit its own format).
    """
    topics = b"".join(
        _text(name) + struct.pack(f"!i{len(numbers)}i", len(numbers), *numbers) for name, numbers in asked.items()
    )
    body = struct.pack("!i", len(asked)) + topics + struct.pack("!i", int(1000 * _ELECT_S))
    request = struct.pack("!hhi", _ELECT_LEADERS, 0, 1) + _text("tradermind") + body
    with socket.create_connection((LOOPBACK, port), timeout=2 * _ELECT_S) as line:
        line.sendall(struct.pack("!i", len(request)) + request)
        with line.makefile("rb") as answer:
            return _elected(io.BytesIO(answer.read(*struct.unpack("!i", answer.read(4)))))


def _elected(answer: io.BytesIO) -> dict[Slot, int]:
    def number(form: str) -> int:
        return int(struct.unpack(f"!{form}", answer.read(struct.calcsize(f"!{form}")))[0])

    answer.seek(8)  # The number of the request, and how long we were throttled.
    found: dict[Slot, int] = {}
    for _ in range(number("i")):
        name = answer.read(number("h")).decode()
        for _ in range(number("i")):
            partition, code = number("i"), number("h")
            answer.read(max(0, number("h")))  # In words; -1 bytes are none.
            found[name, partition] = code
    return found


def _text(text: str) -> bytes:
    return struct.pack("!h", len(text)) + text.encode()


def start_kafka_cluster(directory: Path, count: int = 3) -> KafkaCluster:
    """Start brokers, made afresh, below ``directory``. Raises KafkaMissing or ServerFailed."""
    kafka_libraries()
    places = {
        number: KafkaNode(directory.resolve() / f"node{number}", free_port(), free_port())
        for number in range(1, count + 1)
    }
    voters = ",".join(f"{number}@{LOOPBACK}:{place.controller}" for number, place in places.items())
    cluster = cluster_uuid()

    def make(number: int) -> None:
        facts = {"node": number, "voters": voters, "count": count, "least": max(1, count - 1)}
        places[number].make(cluster, _PROPERTIES.format(**facts))

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(make, places))
    nodes = {
        number: RealKafka(f"{LOOPBACK}:{place.port}", place.directory, place.launch(), place.port)
        for number, place in places.items()
    }
    started = KafkaCluster(nodes)
    try:
        for node in nodes.values():
            wait_until_answers(node.process, node.port)
    except ServerFailed:
        started.stop()
        raise
    return started


def wait_until(what: str, holds: Callable[[], bool]) -> float:
    """Wait until something holds of a cluster; return the seconds it took. Raises ServerFailed."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > _SETTLE_S:
            raise ServerFailed(f"Within {_SETTLE_S:g} s there was not: {what}.")
        time.sleep(_POLL_S)
    return time.monotonic() - began
