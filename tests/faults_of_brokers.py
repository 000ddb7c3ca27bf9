"""Faults of a Kafka of several brokers, whose partitions change their leader, and of one that is talked to over TLS."""

from functools import partial

from faults import BROKER_AWAY, Fault, Place, World, frozen
from wire import TlsWire

from infra.kafka import Slot
from infra.servers.kafka_cluster import KafkaCluster, wait_until
from schemas.topics import DECISION, MARKET_EVENT

READ: Slot = (MARKET_EVENT.name, 0)
WRITTEN: Slot = (DECISION.name, 0)


def kill_the_leading_brokers(world: World) -> None:
    """SIGKILL the broker that leads what a worker reads, then the one that leads what another writes: others lead on.

    At last the broker goes that the workers' settings name first. Each time a worker is started while it is away, and
    it comes back as a follower.
    """
    cluster, took = _cluster(world), []
    for slot in (READ, WRITTEN):
        leader = cluster.leader(slot)
        cluster.nodes[leader].kill()
        took.append(cluster.wait_for_leader(slot, leader))
        _start_without(world, leader)
    first = min(cluster.nodes)
    cluster.nodes[first].kill()
    _start_without(world, first)
    world.notes = f"another leader after {max(took):.1f} s"


def _start_without(world: World, broker: int) -> None:
    cluster = _cluster(world)
    world.run.workers.pop("decider").kill()
    world.run.start("decider")
    world.wait(4)
    cluster.nodes[broker].restart()
    cluster.wait_until_in_sync()


def move_the_leaders(world: World) -> None:
    """Every partition of one broker gets another leader, and then its first one again, with all brokers alive."""
    cluster, moved = _cluster(world), 0
    for slot in (READ, WRITTEN):
        leader = cluster.leader(slot)
        cluster.nodes[leader].restart()  # It hands over what it leads before it ends.
        cluster.wait_until_in_sync()
        assert cluster.leader(slot) != leader
        world.wait(1)
        moved += cluster.elect_preferred()
        wait_until(f"{slot} led by broker {leader} again", partial(_leads, cluster, slot, leader))
        world.wait(1)
    world.notes = f"{moved} partitions moved back"


def _leads(cluster: KafkaCluster, slot: Slot, broker: int) -> bool:
    return cluster.leader(slot) == broker


def freeze_the_leading_broker(world: World) -> None:
    """SIGSTOP the broker that leads what a worker writes until another leads; it wakes up and thinks it does."""
    cluster = _cluster(world)
    leader = cluster.leader(WRITTEN)
    with frozen(cluster.nodes[leader].process.pid):
        took = cluster.wait_for_leader(WRITTEN, leader)
        world.wait(4)
    cluster.wait_until_in_sync()
    world.notes = f"another leader after {took:.1f} s"


def _cluster(world: World) -> KafkaCluster:
    assert world.cluster is not None
    return world.cluster


def tear_tls(world: World) -> None:
    """TLS connections to the broker end in the middle of a record, again and again; now and then in their handshake."""
    tls = _tls(world)
    for number in range(10):
        tls.tear()
        tls.tearing = number % 3 == 2
        world.wait(world.choice.uniform(0.3, 1.0))
        tls.tearing = False
    assert tls.torn > 10, "too few were torn for a fault"
    world.notes = f"{tls.torn} connections torn"


def log_in_again_every_few_seconds(world: World) -> None:
    """The broker hangs up on whoever has proved who he is more than four seconds ago, and wants it proved again."""
    before = _tls(world).taken
    world.wait(15)
    world.notes = f"{(taken := _tls(world).taken - before)} connections made anew"
    assert taken > 10, "nobody had to log in again"


def _tls(world: World) -> TlsWire:
    assert world.tls is not None
    return world.tls


OF_BROKERS = (
    # There is always a broker that answers.
    Fault(kill_the_leading_brokers, Place.CLUSTER, may_end=BROKER_AWAY[:1]),
    Fault(move_the_leaders, Place.CLUSTER),
    Fault(freeze_the_leading_broker, Place.CLUSTER, may_end=BROKER_AWAY),
    Fault(tear_tls, Place.SECURED, may_end=BROKER_AWAY),
    Fault(log_in_again_every_few_seconds, Place.SECURED),
)
