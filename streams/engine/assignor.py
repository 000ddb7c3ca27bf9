"""Who gets which partition: number p of every topic goes to the same member.

A shard is one stage on one partition number of all its topics, so its topics must not be dealt out one by one, as
aiokafka's own assignors do (two members on three topics of one partition would both claim the one shard, for ever).
"""

from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_VERSION = 0


class CopartitionAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types for mypy here
    """Deals out partition numbers among the members in the order of their ids; every member reads the same topics."""

    name = "tradermind-copartition"

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Return member id -> its partitions. With one partition the first member has all and the rest stand by."""
        order = sorted(members)
        topics = sorted({topic for metadata in members.values() for topic in metadata.subscription})
        shares: dict[str, list[tuple[str, list[int]]]] = {member: [] for member in order}
        for topic in topics:
            dealt: dict[str, list[int]] = {}
            for partition in sorted(cluster.partitions_for_topic(topic) or ()):
                dealt.setdefault(order[partition % len(order)], []).append(partition)
            for member, partitions in dealt.items():
                shares[member].append((topic, partitions))
        return {member: ConsumerProtocolMemberAssignment(_VERSION, share, b"") for member, share in shares.items()}

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what a member tells the group: its topics."""
        return ConsumerProtocolMemberMetadata(_VERSION, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Keep nothing: the assignment follows from the members alone."""
        del assignment
