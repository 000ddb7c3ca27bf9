"""What differs between a broker and the topic table, and what of it is mended: nothing that would lose a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka import TopicsApplied, TopicsDiffer, TopicSpec, apply_topics, topic_partitions
from infra.kafka_topics import Kind, TopicFound, differences, find_topics, mend_topics, refusals
from infra.servers import RealKafka

HOUR = 3_600_000
KEPT = {"retention.ms": str(HOUR), "max.message.bytes": "1000", "cleanup.policy": "delete"}
CLOCK = {"message.timestamp.type": "LogAppendTime"}


def _found(partitions: int = 4, replication: int = 1, **configuration: str) -> dict[str, TopicFound]:
    spelled = {name.replace("_", "."): value for name, value in configuration.items()}
    return {"a": TopicFound(partitions, replication, {**KEPT, **CLOCK, **spelled})}


def test_equal_is_equal_and_what_the_table_does_not_name_does_not_count() -> None:
    spec = TopicSpec("a", 4, {**KEPT, **CLOCK})
    assert differences([spec], _found(segment_bytes="7")) == []


@pytest.mark.parametrize(
    ("found", "what", "kind"),
    [
        (_found(partitions=8), "partitions", Kind.REFUSED),
        (_found(partitions=2), "partitions", Kind.REFUSED),
        (_found(replication=3), "replication", Kind.REFUSED),
        (_found(retention_ms=str(2 * HOUR)), "retention.ms", Kind.SHORTER_RETENTION),
        (_found(retention_ms="-1"), "retention.ms", Kind.SHORTER_RETENTION),
        (_found(retention_ms=str(HOUR // 2)), "retention.ms", Kind.CHANGE),
        (_found(max_message_bytes="2000"), "max.message.bytes", Kind.REFUSED),
        (_found(max_message_bytes="500"), "max.message.bytes", Kind.CHANGE),
        (_found(message_timestamp_type="CreateTime"), "message.timestamp.type", Kind.CHANGE),
        (_found(cleanup_policy="compact"), "cleanup.policy", Kind.REFUSED),
        ({}, "topic", Kind.MISSING),
    ],
)
def test_each_difference_is_named_and_judged(found: dict[str, TopicFound], what: str, kind: Kind) -> None:
    (difference,) = differences([TopicSpec("a", 4, {**KEPT, **CLOCK})], found)
    assert (difference.topic, difference.what, difference.kind) == ("a", what, kind)
    assert difference.sentence().startswith("a ") and difference.sentence().endswith(".")
    refused = refusals([difference])
    assert len(refused) == (kind in (Kind.REFUSED, Kind.SHORTER_RETENTION))
    assert len(refusals([difference], {"a"})) == (kind is Kind.REFUSED), "only a retention can be allowed"


def test_a_topic_with_a_least_number_of_partitions_may_not_have_fewer() -> None:
    spec = TopicSpec("a", 4, partitions_min=3)
    assert differences([spec], _found(partitions=9)) == differences([spec], _found(partitions=3)) == []
    assert [one.kind for one in differences([spec], _found(partitions=2))] == [Kind.REFUSED]


@given(wanted=st.integers(-1, 10), found=st.integers(-1, 10))
def test_retention_shrinks_exactly_when_something_would_be_forgotten_sooner(wanted: int, found: int) -> None:
    kept_ms = [float("inf") if value == -1 else value for value in (wanted, found)]
    spec = TopicSpec("a", 4, {"retention.ms": str(wanted)})
    kinds = [one.kind for one in differences([spec], _found(retention_ms=str(found)))]
    expected = [Kind.SHORTER_RETENTION] if kept_ms[0] < kept_ms[1] else [Kind.CHANGE]
    assert kinds == ([] if wanted == found else expected)


@pytest.mark.kafka
def test_real_kafka_is_mended_and_never_shrunk(real_kafka: RealKafka) -> None:
    at = real_kafka.bootstrap
    specs = [TopicSpec("mended.a", 2, {**KEPT, **CLOCK}), TopicSpec("mended.b", 1, KEPT, partitions_min=1)]
    names = [spec.name for spec in specs]
    assert find_topics(at, names) == {}
    assert mend_topics(at, specs) == TopicsApplied(("mended.a", "mended.b"), ())
    assert differences(specs, find_topics(at, names)) == []
    assert mend_topics(at, specs) == TopicsApplied((), ())
    longer = TopicSpec("mended.a", 2, {**KEPT, **CLOCK, "retention.ms": str(2 * HOUR)})
    assert mend_topics(at, [longer, specs[1]]) == TopicsApplied((), ("mended.a",))
    other = TopicSpec("mended.c", 1)
    with pytest.raises(TopicsDiffer, match=r"mended\.a has retention\.ms 7200000.*--allow-shorter-retention mended\.a"):
        mend_topics(at, [other, *specs])
    with pytest.raises(TopicsDiffer, match=r"mended\.a has partitions 2, the table says 3; .*rescale"):
        mend_topics(at, [other, TopicSpec("mended.a", 3, KEPT)])
    assert "mended.c" not in topic_partitions(at), "one refusal stops all"
    assert find_topics(at, names)["mended.a"].configuration["retention.ms"] == str(2 * HOUR)
    assert mend_topics(at, specs, None, {"mended.a"}) == TopicsApplied((), ("mended.a",))
    apply_topics(at, [TopicSpec("mended.more", 3, KEPT)])
    assert mend_topics(at, [TopicSpec("mended.more", 2, KEPT, partitions_min=2)]) == TopicsApplied((), ())
