"""The embedded registry speaks the Confluent REST API, as an outsider's HTTP client sees it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from infra.registry import EmbeddedRegistry
from schemas.schema_table import SchemaTable
from schemas.topics import INGEST_VOTE, TOPICS

TABLE = SchemaTable.committed()
SUBJECT = INGEST_VOTE.subject(INGEST_VOTE.records[0])


def _with_client(check: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TestClient(TestServer(EmbeddedRegistry(TABLE).application())) as client:
            await check(client)

    asyncio.run(run())


def test_subjects_ids_and_schemas_agree_with_the_table() -> None:
    async def check(client: Any) -> None:
        subjects = await (await client.get("/subjects")).json(content_type=None)
        assert f"{INGEST_VOTE.name}-value" in subjects
        assert set(TABLE.subjects()) <= set(subjects)
        latest = await (await client.get(f"/subjects/{SUBJECT}/versions/latest")).json(content_type=None)
        assert latest["id"] == TABLE.id_of(SUBJECT)
        by_id = await (await client.get(f"/schemas/ids/{latest['id']}")).json(content_type=None)
        assert json.loads(by_id["schema"])["name"] == "IngestVote"
        body = {"schema": latest["schema"]}
        assert (await (await client.post(f"/subjects/{SUBJECT}", json=body)).json(content_type=None))["version"] == 1
        registered = await client.post(f"/subjects/{SUBJECT}/versions", json=body)
        assert (await registered.json(content_type=None)) == {"id": latest["id"]}

    _with_client(check)


def test_what_is_not_there_or_not_allowed_is_refused_with_the_registrys_codes() -> None:
    async def check(client: Any) -> None:
        for path, code in (
            ("/subjects/none/versions", 40401),
            ("/subjects/none/versions/1", 40401),
            (f"/subjects/{SUBJECT}/versions/9", 40402),
            ("/schemas/ids/999999", 40403),
        ):
            answer = await client.get(path)
            assert answer.status == 404
            assert (await answer.json(content_type=None))["error_code"] == code
        other = {"schema": json.dumps({"type": "record", "name": "Other", "fields": []})}
        assert (await client.post(f"/subjects/{SUBJECT}/versions", json=other)).status == 409
        assert (await client.post("/subjects/new/versions", json=other)).status == 422
        assert (await client.post(f"/subjects/{SUBJECT}", data=b"not json")).status == 404
        config = await (await client.get("/config")).json(content_type=None)
        assert config == {"compatibilityLevel": "FULL_TRANSITIVE"}

    _with_client(check)


def test_a_schema_is_found_by_the_guid_that_its_versions_name() -> None:
    async def check(client: Any) -> None:
        latest = await (await client.get(f"/subjects/{SUBJECT}/versions/latest")).json(content_type=None)
        found = await (await client.get(f"/schemas/guids/{latest['guid']}")).json(content_type=None)
        assert found["schema"] == latest["schema"]
        writer = TABLE.writer_by_guid(bytes.fromhex(latest["guid"].replace("-", "")))
        assert writer is TABLE.writer(latest["id"])
        assert (await client.get("/schemas/guids/00000000-0000-0000-0000-000000000000")).status == 404

    _with_client(check)


def test_every_public_topic_is_also_found_by_topic_name() -> None:
    async def check(client: Any) -> None:
        for topic in TOPICS.values():
            answer = await client.get(f"/subjects/{topic.name}-value/versions")
            assert (answer.status == 200) is topic.public

    _with_client(check)
