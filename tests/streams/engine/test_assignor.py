"""A partition number of all topics goes to one member; every partition goes to exactly one."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.assignor import CopartitionAssignor


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1),
    st.sets(st.text("xyz", min_size=1, max_size=4), min_size=1, max_size=5),
)
def test_numbers_stay_together_and_nothing_is_left_out(topics: dict[str, int], members: set[str]) -> None:
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(topics[topic])))
    metadata = {member: CopartitionAssignor.metadata(topics) for member in members}
    shares = CopartitionAssignor.assign(cluster, metadata)
    owners: dict[tuple[str, int], str] = {}
    for member, share in shares.items():
        for topic, partitions in share.assignment:
            for partition in partitions:
                assert (topic, partition) not in owners, "dealt out twice"
                owners[topic, partition] = member
    assert owners.keys() == {(topic, number) for topic, count in topics.items() for number in range(count)}
    for number in range(9):
        assert len({owner for (_, partition), owner in owners.items() if partition == number}) <= 1
    assert shares.keys() == members
