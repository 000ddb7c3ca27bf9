"""CloudEvents headers in Kafka's binary mode, by the rules of the specification."""

import re

import pytest
from every_event import example

from schemas.cloudevents import CloudEvents, CloudEventsOn
from schemas.codec import Codec
from schemas.event import Event
from schemas.schema_table import SchemaTable
from schemas.topics import DECISION, MARKET_EVENT, ORDER_DENIED, TOPICS

OURS = [(topic, record) for topic in TOPICS.values() if not topic.public for record in topic.records]


@pytest.mark.parametrize(("topic", "record"), OURS, ids=lambda part: getattr(part, "name", None) or part.__name__)
def test_every_record_of_ours_has_what_the_specification_asks_for(topic: object, record: type[Event]) -> None:
    event = example(record, event_id="0123456789abcdef")
    headers = dict(CloudEvents("risk/0").headers(topic.name, event))  # type: ignore[attr-defined]
    assert set(headers) == {"ce_specversion", "ce_id", "ce_source", "ce_type", "content-type"}
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == b"0123456789abcdef"
    # RFC 3986 knows no character here that would have to be escaped.
    assert re.fullmatch(r"/tradermind/[A-Za-z0-9._~/:-]+", headers["ce_source"].decode())
    assert re.fullmatch(rf"tradermind(\.[a-z]+)+\.{record.__name__}\.v1", headers["ce_type"].decode())


def test_types_tell_all_records_of_all_topics_apart() -> None:
    cloud = CloudEvents("risk/0")
    types = [dict(cloud.headers(topic.name, example(record)))["ce_type"] for topic, record in OURS]
    assert len(set(types)) == len(types)


@pytest.mark.parametrize("on", list(CloudEventsOn))
def test_the_setting_says_whose_records_carry_them(on: CloudEventsOn) -> None:
    cloud = Codec(SchemaTable.committed(), on).cloud_events("risk/0")
    for topic, record in OURS:
        carried = bool(cloud.headers(topic.name, example(record)))
        assert carried is (on is CloudEventsOn.ALL or (on is CloudEventsOn.MONEY and topic.money)), topic.name
    assert DECISION.money and ORDER_DENIED.money and not MARKET_EVENT.money
