"""The rights of the KafkaUsers: with them alone every worker does its work, and each of them is used by its worker."""

import time
from pathlib import Path

import pytest
from patience import PATIENCE
from rights_in_use import WORKERS, Platform, rights_of, running_platform, summary

from infra.kafka_rights import principals
from infra.postgres.migrate import migrate
from schemas.topics import (
    ACCOUNT_EVENT,
    DECISION_SHADOW,
    EXPERT_ALERT,
    MARKET_EVENT,
    MARKET_MARK,
    MODEL_RELEASE,
    ORDER_APPROVED,
    RL_EXPERIENCE,
    TOPICS,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow(seconds=60)]
_LIMIT_S = 180.0
NOT_IN_THIS_RUN = {
    # A stand-by asks; those who hold a partition ask about their own.
    *((f"tradermind-{name}", "DESCRIBE", "Topic", MARKET_MARK.name) for name in ("voting", "control")),
    # After a crash a stage of one topic looks at what it had sent.
    *(
        (f"tradermind-{name}", "READ", "Topic", topic.name)
        for name, producer in (("experts", "experts"), ("ingress", "ingestion"), ("feed", "ingestion"))
        for topic in TOPICS.values()
        if producer in topic.producers
    ),
    *((f"tradermind-{name}", "DESCRIBE", "Group", "tradermind.recompute") for name in ("experts", "ingress")),
    # The trainer makes this letter, where there is one.
    ("tradermind-sinks", "WRITE", "Topic", RL_EXPERIENCE.dead_letters),
    # People promote a model, one is retired, another is tried in the shadow, the market is out of the ordinary.
    *((f"tradermind-{name}", "WRITE", "Topic", MODEL_RELEASE.name) for name in ("control", "decider")),
    ("tradermind-decider", "WRITE", "Topic", DECISION_SHADOW.name),
    ("tradermind-experts", "WRITE", "Topic", EXPERT_ALERT.name),
    # What came by no topic is refused: a venue's report, a message of a feed, a command.
    ("tradermind-execution", "WRITE", "Topic", ACCOUNT_EVENT.dead_letters),
    ("tradermind-feed", "WRITE", "Topic", MARKET_EVENT.dead_letters),
    ("tradermind-control", "WRITE", "Topic", MODEL_RELEASE.dead_letters),
}
"""Rights that this run gives no occasion to use, each with the occasion."""


def test_each_right_is_used_and_none_is_missing(database: str, tmp_path: Path) -> None:
    migrate(database)
    granted = set().union(*(rights_of(principals()[name]) for name in WORKERS)) - NOT_IN_THIS_RUN
    with running_platform(tmp_path, database) as platform:
        platform.write_from_outside()
        platform.order_reducing()
        unused = _wait_until_used(platform, granted)
        denied = platform.decisions("Denied")
        assert not denied, summary(denied)
        assert not unused, summary(unused)
        assert platform.rows("SELECT count(*) FROM fills") > 0
        for principal, operation, kind, topic in sorted(NOT_IN_THIS_RUN):
            if (operation, kind) == ("WRITE", "Topic"):
                assert platform.may_write(principal, topic), (principal, topic)
        assert not platform.may_write("tradermind-feed", ORDER_APPROVED.name)
    assert {name: worker.exit_code() for name, worker in platform.workers.items()} == dict.fromkeys(WORKERS, 0)


def _wait_until_used(platform: Platform, granted: set[tuple[str, str, str, str]]) -> set[tuple[str, str, str, str]]:
    limit = time.monotonic() + _LIMIT_S * PATIENCE
    while (unused := granted - platform.decisions("Allowed")) and time.monotonic() < limit:
        platform.look_after()
        time.sleep(0.5)
    return unused
