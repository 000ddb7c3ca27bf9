"""The AsyncAPI document, held against AsyncAPI's own parser, which validates by the official schemas, Avro too."""

import json
from pathlib import Path
from typing import Any

import pytest
from asyncapi_parser import validate

from schemas.asyncapi import asyncapi_document
from schemas.generate import ASYNCAPI
from schemas.topics import TOPICS

_ERROR, _WARNING = 0, 1


@pytest.mark.slow
def test_asyncapis_own_parser_finds_nothing_wrong(asyncapi_parser: Path) -> None:
    answer = validate(asyncapi_parser, [ASYNCAPI])[0]
    assert [entry for entry in answer["found"] if entry["severity"] in (_ERROR, _WARNING)] == []
    assert sorted(answer["channels"]) == sorted(TOPICS)


def _without_address(document: Any) -> None:
    del document["asyncapi"]


def _wrong_action(document: Any) -> None:
    next(iter(document["operations"].values()))["action"] = "shout"


def _wrong_reference(document: Any) -> None:
    next(iter(document["operations"].values()))["channel"]["$ref"] = "#/channels/none"


def _wrong_avro(document: Any) -> None:
    message = document["components"]["messages"]["tradermind.ingest.trade.v1-IngestTrade"]
    message["payload"]["schema"]["fields"][0]["type"] = "no type at all"


@pytest.mark.slow
def test_the_parser_would_find_it(asyncapi_parser: Path, tmp_path: Path) -> None:
    spoilt = []
    for spoil in (_without_address, _wrong_action, _wrong_reference, _wrong_avro):
        document = asyncapi_document()
        spoil(document)
        spoilt.append(tmp_path / f"{spoil.__name__}.json")
        spoilt[-1].write_text(json.dumps(document))
    for path, answer in zip(spoilt, validate(asyncapi_parser, spoilt), strict=True):
        assert [entry for entry in answer["found"] if entry["severity"] == _ERROR], path.stem


def test_others_send_what_is_public_and_receive_the_rest() -> None:
    document = asyncapi_document()
    for topic in TOPICS.values():
        action = "receive" if topic.public else "send"
        operation = document["operations"][f"{action}.{topic.name}"]
        assert operation["action"] == action
        assert len(operation["messages"]) == len(topic.records)
