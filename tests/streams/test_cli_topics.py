"""``tradermind topics``: what it prints and how it exits, on a broker that is there and on one that is not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.kafka import TopicSpec, topic_partitions
from infra.kafka_remake import delete_topics
from infra.kafka_topics import find_topics, mend_topics
from infra.servers import RealKafka, free_port
from infra.settings import load_settings
from infra.topic_specs import keyed_topics, topic_specs
from schemas.topics import MARKET_EVENT, TOPICS
from streams.cli import app

RUNNER = CliRunner()
SETTINGS = Path(__file__).parents[2] / "tradermind.toml"


def _topics(*arguments: str) -> tuple[int, str, str]:
    named = arguments[0] == "ls" or "--settings" in arguments
    settings = [] if named else ["--settings", str(SETTINGS)]
    result = RUNNER.invoke(app, ["topics", *arguments, *settings], env={"COLUMNS": "240"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_table_is_printed_for_people_and_for_programs() -> None:
    code, out, _ = _topics("ls", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(TOPICS)
    bare = RUNNER.invoke(app, ["topics", "--json"])
    assert json.loads(bare.stdout) == json.loads(out), "plain `topics` is `topics ls`"


def test_the_specs_are_the_table_and_only_what_nobody_keys_may_have_more() -> None:
    settings = load_settings(SETTINGS)
    specs = {spec.name: spec for spec in topic_specs(settings)}
    assert specs.keys() == {name for topic in TOPICS.values() for name in (topic.name, topic.dead_letters)}
    exact = {name for name, spec in specs.items() if spec.partitions_min is None}
    assert exact == {topic.name for topic in TOPICS.values() if not topic.public}
    assert {topic.name for topic in keyed_topics()} < exact
    assert all(spec.configuration.keys() >= {"retention.ms", "cleanup.policy"} for spec in specs.values())
    several = topic_specs(load_settings(SETTINGS, {"kafka.replication": 3}))
    assert {(spec.replication, spec.configuration["min.insync.replicas"]) for spec in several} == {(3, "2")}


def test_a_broker_that_is_not_there_is_one_sentence_and_exit_2() -> None:
    for command in (["diff"], ["apply"], ["apply", "--dry-run"]):
        code, out, err = _topics(*command, "--broker", f"127.0.0.1:{free_port()}")
        assert (code, out) == (2, "")
        assert err.startswith("No Kafka broker answers") and err.count("\n") == 1
    assert _topics("diff")[0] == 2, "no broker is named"


@pytest.mark.kafka
def test_on_real_kafka_diff_and_apply(real_kafka: RealKafka) -> None:
    at = ["--broker", real_kafka.bootstrap]
    # Other tests share this broker, and their topics may have other partitions.
    left = [name for topic in TOPICS.values() for name in (topic.name, topic.dead_letters)]
    delete_topics(real_kafka.bootstrap, left)
    code, out, _ = _topics("diff", *at)
    assert code == 1 and f"{MARKET_EVENT.name} is missing (4 partitions)." in out.splitlines()
    code, out, _ = _topics("apply", "--dry-run", *at)
    assert (
        code == 0 and out.startswith("would make ") and MARKET_EVENT.name not in topic_partitions(real_kafka.bootstrap)
    )
    assert _topics("apply", *at)[0] == 0
    assert _topics("diff", *at) == (0, "", "")
    assert _topics("diff", "--json", *at)[1].strip() == "[]"
    assert _topics("apply", *at)[1] == "Nothing to do: the broker is as the table says.\n"

    longer = TopicSpec(MARKET_EVENT.name, 4, {"retention.ms": "-1"})
    mend_topics(real_kafka.bootstrap, [longer])
    code, out, _ = _topics("diff", *at)
    assert code == 1 and out.count("\n") == 1 and "has retention.ms -1, the table says 259200000." in out
    code, out, err = _topics("apply", *at)
    assert code == 1 and out == "" and f"--allow-shorter-retention {MARKET_EVENT.name}" in err
    code, out, _ = _topics("apply", "--json", *at)
    assert code == 1 and json.loads(out)["applied"] is False
    assert (
        find_topics(real_kafka.bootstrap, [MARKET_EVENT.name])[MARKET_EVENT.name].configuration["retention.ms"] == "-1"
    )
    assert _topics("apply", "--allow-shorter-retention", "no.such", *at)[0] == 2
    assert _topics("apply", "--allow-shorter-retention", MARKET_EVENT.name, *at)[0] == 0
    assert _topics("diff", *at)[0] == 0
    for name in ("tradermind.expert.vote.v1", "tradermind.vote.tally.v1"):
        assert name in topic_partitions(real_kafka.bootstrap)
    code, _, err = _topics("apply", *at, "--settings", str(_with_partitions(real_kafka)))
    assert code == 1 and "rescale" in err, "a keyed topic is never re-keyed in passing"
    _holds_a_worker_to_the_count(real_kafka)
    ours = [spec.name for spec in topic_specs(load_settings(SETTINGS))]
    delete_topics(real_kafka.bootstrap, ours)
    assert not set(ours) & topic_partitions(real_kafka.bootstrap).keys()


def _with_partitions(real_kafka: RealKafka) -> Path:
    file = real_kafka.directory / "eight.toml"
    file.write_text(SETTINGS.read_text().replace("instrument_partitions = 4", "instrument_partitions = 8"))
    return file


def _holds_a_worker_to_the_count(real_kafka: RealKafka) -> None:
    """A worker that would look for its keys in eight partitions of four ends before it asks for the database."""
    named = {"TRADERMIND__KAFKA__BOOTSTRAP": real_kafka.bootstrap, "TRADERMIND__POSTGRES__DSN": "host=/nowhere"}
    arguments = ["worker", "experts", "--settings", str(_with_partitions(real_kafka))]
    result = RUNNER.invoke(app, arguments, env=named)
    assert result.exit_code == 2
    assert "has 4 partitions, but kafka.instrument_partitions is 8" in result.stderr


def test_a_rescale_without_a_database_or_a_reason_is_refused_with_2() -> None:
    arguments = ["rescale", "--partitions", "8", "--broker", f"127.0.0.1:{free_port()}"]
    assert _topics(*arguments)[0] == 2, "nobody says why"
    code, out, err = _topics(*arguments, "--reason", "test")
    assert (code, out) == (2, "")
    assert err == "postgres.dsn is not set, and no --dsn was given.\n"
    code, _, err = _topics(*arguments, "--reason", "test", "--dsn", "host=/nowhere connect_timeout=1")
    assert code == 2 and err.startswith("The database does not answer")
