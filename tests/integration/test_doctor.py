"""``tradermind doctor`` against real servers: Kafka that asks who one is, and InfluxDB, each with its fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]
from secured_kafka import SCRAM_USER, SecuredKafka

from infra.kafka import apply_topics
from infra.kafka_remake import delete_topics
from infra.servers.influx import RealInflux
from infra.settings import Settings, load_settings
from infra.topic_specs import topic_specs
from streams.doctor.broker import kafka
from streams.doctor.examination import Finding, State
from streams.doctor.stores import influx

SETTINGS = Path(__file__).resolve().parents[2] / "tradermind.toml"


def settings_with(**values: Any) -> Settings:
    """Return the project's settings, changed: ``a__b`` is ``a.b``."""
    return load_settings(SETTINGS, {key.replace("__", "."): value for key, value in values.items()}, environment={})


def of_kafka(settings: Settings) -> dict[str, Finding]:
    """Return check -> finding of the broker."""
    return {one.check: one for one in kafka(settings)}


@pytest.fixture
def own_topics(secured: SecuredKafka) -> Iterator[SecuredKafka]:
    """The broker with the platform's topics, as the table says; none is left behind."""
    specs = topic_specs(settings_with())
    apply_topics(secured.server.bootstrap, specs)
    yield secured
    secured.revoke(SCRAM_USER)
    delete_topics(secured.server.bootstrap, [spec.name for spec in specs])


@pytest.mark.kafka
@pytest.mark.slow(seconds=6)
def test_what_is_wrong_with_a_broker_its_topics_and_our_rights_there_is_found(
    own_topics: SecuredKafka, tmp_path: Path
) -> None:
    bootstrap = own_topics.server.bootstrap
    plain = settings_with(kafka__bootstrap=bootstrap)
    well = of_kafka(plain)
    assert {one.state for one in well.values()} == {State.OK}, well
    assert well["kafka version"].said == "4.0 or newer." and well["topics"].said.startswith("All ")

    (lacking,) = (spec for spec in topic_specs(plain) if spec.name == "tradermind.market.mark.v1")
    delete_topics(bootstrap, [lacking.name])
    missing = of_kafka(plain)["topics"]
    assert missing.state is State.FAILED and lacking.name in missing.said and "topics apply" in str(missing.mend)
    apply_topics(bootstrap, [lacking])
    other = of_kafka(settings_with(kafka__bootstrap=bootstrap, kafka__instrument_partitions=5))["topics"]
    assert other.state is State.FAILED and "has partitions 4, the table says 5" in other.said
    assert "topics rescale" in str(other.mend)

    wrong = tmp_path / "password"
    wrong.write_text("not it\n")
    sasl = own_topics.sasl.model_dump(mode="python")
    refused = of_kafka(settings_with(kafka={**sasl, "sasl_password_file": wrong}))
    assert list(refused) == ["kafka"] and refused["kafka"].state is State.FAILED
    named = settings_with(kafka=sasl)
    for kind in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.READ):
        for spec in topic_specs(named):
            own_topics.grant(SCRAM_USER, ResourceType.TOPIC, spec.name, kind)
    rights = of_kafka(named)
    assert rights["topics"].state is State.OK and rights["kafka version"].state is State.WARNING
    assert rights["kafka permissions"].state is State.FAILED and "(WRITE)" in rights["kafka permissions"].said


def test_a_wrong_token_and_a_bucket_that_is_not_there_are_found(real_influx: RealInflux, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)

    def asked(bucket: str) -> dict[str, Finding]:
        given = {"url": real_influx.url, "token_file": str(token), "org": real_influx.org, "bucket": bucket}
        return {one.check: one for one in influx(settings_with(influx=given))}

    token.write_text(real_influx.token)
    well = asked(real_influx.bucket)
    assert {one.state for one in well.values()} == {State.OK}
    missing = asked("nowhere")["influx bucket"]
    assert missing.state is State.FAILED and "bucket create --name nowhere" in str(missing.mend)
    token.write_text("not-the-token")
    refused = asked(real_influx.bucket)["influx bucket"]
    assert refused.state is State.FAILED and "token" in refused.said and "not-the-token" not in refused.said
