"""Our murmur2 against aiokafka's, which is tested against the Java client's."""

from aiokafka.partitioner import murmur2 as oracle
from hypothesis import given
from hypothesis import strategies as st

from schemas.partition import murmur2, partition_of


@given(st.binary(max_size=200))
def test_murmur2_equals_the_clients(data: bytes) -> None:
    assert murmur2(data) == oracle(data) & 0xFFFFFFFF


@given(st.text(max_size=40), st.integers(1, 64))
def test_a_partition_is_in_range_and_stable(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == (oracle(key.encode()) & 0x7FFFFFFF) % partitions
