"""Workers on real Kafka that asks who they are: by password over TLS, by certificate, and what a refusal looks like."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]
from engine_runs import Feed, ToyRun, eventually, exit_code, fresh_topics, text_of
from secured_kafka import SCRAM_USER, TLS_USER, SecuredKafka

from infra.kafka import BrokerUnreachable, cluster_id, log_ends
from infra.kafka_security import security_of
from infra.postgres.migrate import migrate
from infra.settings_sections import KafkaSettings
from schemas.topics import EXPERT_ALERT, FEATURE_SNAPSHOT, MARKET_EVENT, MARKET_MARK

pytestmark = pytest.mark.kafka
GROUP = "tradermind.experts"
WRITTEN = (MARKET_MARK, FEATURE_SNAPSHOT, EXPERT_ALERT)
TRADES = 60


@pytest.fixture
def topics(secured: SecuredKafka) -> Iterator[SecuredKafka]:
    """The same broker with the platform's topics, empty."""
    with fresh_topics(secured.server.bootstrap):
        yield secured


def _run(settings: KafkaSettings, database: str, directory: Path) -> ToyRun:
    migrate(database)
    assert settings.bootstrap is not None
    return ToyRun(settings.bootstrap, database, directory, {"security": security_of(settings)})


def _marks(broker: SecuredKafka) -> int:
    lane = (MARKET_MARK.name, 0)
    return log_ends(broker.server.bootstrap, [lane])[lane]


def _grant_all(broker: SecuredKafka, user: str) -> None:
    broker.grant(user, ResourceType.TOPIC, MARKET_EVENT.name, AclOperation.READ)
    broker.grant(user, ResourceType.GROUP, GROUP, AclOperation.READ)
    for topic in WRITTEN:
        broker.grant(user, ResourceType.TOPIC, topic.name, AclOperation.WRITE)


@pytest.mark.parametrize("way", ["sasl", "mutual_tls"])
def test_a_worker_reads_and_writes_as_whom_it_says_it_is(
    topics: SecuredKafka, way: str, database: str, tmp_path: Path
) -> None:
    settings: KafkaSettings = getattr(topics, way)
    _grant_all(topics, SCRAM_USER if way == "sasl" else TLS_USER)
    run = _run(settings, database, tmp_path)
    run.start("experts")
    try:
        Feed(topics.server.bootstrap).trades(TRADES)
        eventually("all marks", lambda: _marks(topics) == TRADES, run)
    finally:
        assert set(run.stop_all().values()) == {0}


def test_a_right_that_is_missing_ends_the_worker_with_a_sentence(
    topics: SecuredKafka, database: str, tmp_path: Path
) -> None:
    run = _run(topics.mutual_tls, database, tmp_path)
    topics.revoke(TLS_USER)
    topics.grant(TLS_USER, ResourceType.TOPIC, MARKET_EVENT.name, AclOperation.READ)
    topics.grant(TLS_USER, ResourceType.GROUP, GROUP, AclOperation.READ)
    topics.grant(TLS_USER, ResourceType.TOPIC, EXPERT_ALERT.name, AclOperation.WRITE)
    worker = run.start("experts")
    Feed(topics.server.bootstrap).trades(1)
    assert exit_code(worker) == 1
    said = text_of(worker)
    assert "uthoriz" in said and MARKET_MARK.name in said, said
    assert "Traceback" not in said
    assert _marks(topics) == 0


def test_who_may_write_nothing_does_not_start(topics: SecuredKafka, database: str, tmp_path: Path) -> None:
    run = _run(topics.mutual_tls, database, tmp_path)
    topics.revoke(TLS_USER)
    worker = run.start("experts")
    assert exit_code(worker) == 2
    said = text_of(worker)
    assert "Kafka refuses this worker" in said and "Traceback (most" not in said.rpartition("Kafka refuses")[2]


def test_a_wrong_password_is_told_before_anything_starts(secured: SecuredKafka, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("guess")
    settings = secured.sasl.model_copy(update={"sasl_password_file": wrong})
    assert settings.bootstrap is not None
    with pytest.raises(BrokerUnreachable) as refused:
        cluster_id(settings.bootstrap, security_of(settings))
    assert "guess" not in str(refused.value)


def test_who_is_unknown_to_our_authority_is_not_talked_to(secured: SecuredKafka) -> None:
    settings = secured.sasl.model_copy(update={"ca_file": None})
    assert settings.bootstrap is not None
    with pytest.raises(BrokerUnreachable):
        cluster_id(settings.bootstrap, security_of(settings))
