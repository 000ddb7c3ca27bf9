"""``tradermind conformance``: what another team is told about the topic that it writes."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from demo_process import ROOT
from outsider import Outsider
from servers import AnyBroker
from typer.testing import CliRunner, Result

from schemas.codec import Codec
from schemas.ingress import IngestTrade, IngestVote
from schemas.schema_table import SchemaTable
from schemas.topics import INGEST_TRADE, INGEST_VOTE, MARKET_MARK
from streams.cli import app

CODEC = Codec(SchemaTable.committed())
REFUSED = [json.loads(path.read_text()) for path in sorted((ROOT / "schemas" / "examples" / "refused").iterdir())]
THEIRS = "another-team.trades.v3"
embedded_only = pytest.mark.parametrize(
    "any_broker", [pytest.param("embedded", marks=pytest.mark.embedded)], indirect=True
)
"""Of these the first test shows on both columns that a topic is read; the rest is about what is said of it."""


def _trade(number: int, **changed: Any) -> bytes:
    fields = {"event_id": f"e{number}", "instrument": "EXT:DEMO", "event_time_ns": time.time_ns(), "trade_id": "t"}
    return CODEC.encode(INGEST_TRADE.name, IngestTrade(**{**fields, "price": 100, "quantity": 1, **changed}))


def _conformance(broker: AnyBroker, *arguments: str) -> Result:
    command = ["conformance", *arguments, "--broker", broker.bootstrap, "--settings", str(ROOT / "tradermind.toml")]
    return CliRunner().invoke(app, command)


@pytest.fixture
def outsider(any_broker: AnyBroker) -> Outsider:
    any_broker.make_topics({THEIRS: 2, INGEST_TRADE.name: 1, INGEST_VOTE.name: 1, MARKET_MARK.name: 1})
    return Outsider(any_broker.bootstrap, "no registry is asked")


def test_a_topic_is_told_what_would_be_refused_of_it(any_broker: AnyBroker, outsider: Outsider) -> None:
    now_ns = time.time_ns()
    outsider.write_all(THEIRS, [_trade(number) for number in range(30)], partition=1)
    good = _conformance(any_broker, THEIRS, "--contract", INGEST_TRADE.name)
    assert good.exit_code == 0, good.output
    assert "30 records (30 IngestTrade), 0 of them seen before" in good.stdout

    outsider.write_all(THEIRS, [_trade(3), _trade(3)], partition=1)
    bad = [
        b"no frame",
        _trade(100, price=0),
        _trade(101, instrument="EXT:NOBODY"),
        _trade(102, event_time_ns=now_ns + 3_600 * 10**9),
        b"\0\x00\x0f\x42\x3f" + _trade(103)[5:],
        b"still no frame",
        CODEC.encode(INGEST_VOTE.name, _vote("momentum")),
    ]
    outsider.write_all(THEIRS, bad, partition=0)
    result = _conformance(any_broker, THEIRS, "--contract", INGEST_TRADE.name, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["records"], found["duplicates"], found["by_type"]) == (39, 2, {"IngestTrade": 32})
    assert {(p["reason"], p["count"], p["partition"], p["offset"]) for p in found["problems"]} == {
        ("MALFORMED", 2, 0, 0),
        ("INVALID_VALUE", 1, 0, 1),
        ("INSTRUMENT_REFUSED", 1, 0, 2),
        ("FUTURE_TIME", 1, 0, 3),
        ("SCHEMA_UNKNOWN", 1, 0, 4),
        ("TYPE_UNEXPECTED", 1, 0, 6),
    }
    newest = _conformance(any_broker, THEIRS, "--contract", INGEST_TRADE.name, "--limit", "1", "--json")
    assert [problem["reason"] for problem in json.loads(newest.stdout)["problems"]] == ["TYPE_UNEXPECTED"]
    assert json.loads(newest.stdout)["records"] == 2


def _vote(expert: str) -> IngestVote:
    return IngestVote(
        event_id="v",
        instrument="EXT:DEMO",
        event_time_ns=time.time_ns(),
        ballot_id="b",
        expert=expert,
        horizon_ns=10**9,
        p_down=None,
        p_flat=None,
        p_up=None,
        expires_at_ns=time.time_ns(),
        evidence={},
    )


@embedded_only
def test_every_committed_bad_example_is_told_with_its_reason(any_broker: AnyBroker, outsider: Outsider) -> None:
    for topic in (INGEST_TRADE.name, INGEST_VOTE.name):
        values = [bytes.fromhex(example["framed_hex"]) for example in REFUSED if example["topic"] == topic]
        assert values
        before = Counter(_problems(_conformance(any_broker, topic, "--json")))
        outsider.write_all(topic, values)
        told = Counter(_problems(_conformance(any_broker, topic, "--json"))) - before
        assert told == Counter(example["reason"] for example in REFUSED if example["topic"] == topic)


def _problems(result: Result) -> dict[str, int]:
    return {problem["reason"]: problem["count"] for problem in json.loads(result.stdout)["problems"]}


@embedded_only
def test_a_topic_of_ours_is_held_to_its_own_rules(any_broker: AnyBroker, outsider: Outsider) -> None:
    example = json.loads((ROOT / "schemas/examples/accepted" / f"{MARKET_MARK.name}-MarketMark.v1.json").read_text())
    outsider.write(MARKET_MARK.name, bytes.fromhex(example["framed_hex"]))
    result = _conformance(any_broker, MARKET_MARK.name, "--json")
    found = json.loads(result.stdout)
    assert found["by_type"].get("MarketMark", 0) + sum(p["count"] for p in found["problems"]) == found["records"] >= 1


@embedded_only
def test_what_cannot_be_inspected_is_one_sentence(any_broker: AnyBroker, outsider: Outsider, tmp_path: Path) -> None:
    for arguments, words in (
        (("another-team.none", "--contract", INGEST_TRADE.name), "has no topic another-team.none"),
        ((THEIRS,), "is no topic of ours"),
        ((INGEST_TRADE.name, "--registry", "http://127.0.0.1:1"), "does not answer"),
        ((INGEST_TRADE.name, "--registry", "not a url"), "must begin with http"),
    ):
        result = _conformance(any_broker, *arguments)
        assert result.exit_code == 2, result.output
        assert words in result.stderr
        assert "Traceback" not in result.output
