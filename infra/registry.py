"""The embedded schema registry: the committed schema table over HTTP, in the Confluent REST form, read-only.

Outsiders need ids and schemas to write our ingress topics; with a real registry they ask that one instead. Nothing
of ours reads it: workers carry the table. Ingress types are also found under ``<topic>-value``.
"""

import json
import uuid
from typing import Any

from aiohttp import web

from schemas.schema_table import SchemaTable, schema_fingerprint, subject_schemas
from schemas.topics import TOPICS

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_SUBJECT_NOT_FOUND = 40401
_VERSION_NOT_FOUND = 40402
_SCHEMA_NOT_FOUND = 40403
_READ_ONLY = 42205


class EmbeddedRegistry:
    """Answers the read side of the Confluent schema-registry API (v1) from the committed table."""

    def __init__(self, table: SchemaTable) -> None:
        self._schemas = subject_schemas()
        self._ids = table.subjects()
        for topic in TOPICS.values():
            if topic.public:
                subject = topic.subject(topic.records[0])
                self._schemas[f"{topic.name}-value"] = self._schemas[subject]
                self._ids[f"{topic.name}-value"] = self._ids[subject]

    def application(self) -> web.Application:
        """Return the aiohttp application; the caller runs it on a loopback port."""
        app = web.Application(client_max_size=1_048_576)
        app.router.add_get("/subjects", self._subjects)
        app.router.add_get("/config", self._config)
        app.router.add_get("/config/{subject}", self._config)
        app.router.add_get("/subjects/{subject}/versions", self._versions)
        app.router.add_get("/subjects/{subject}/versions/{version}", self._version)
        app.router.add_get("/schemas/ids/{id}", self._by_id)
        app.router.add_get("/schemas/guids/{guid}", self._by_guid)
        app.router.add_post("/subjects/{subject}", self._look_up)
        app.router.add_post("/subjects/{subject}/versions", self._register)
        return app

    async def _subjects(self, request: web.Request) -> web.Response:
        del request
        return _answer(sorted(self._schemas))

    async def _config(self, request: web.Request) -> web.Response:
        if request.match_info.get("subject", "") not in ("", *self._schemas):
            return _refuse(404, _SUBJECT_NOT_FOUND, "Subject not found.")
        return _answer({"compatibilityLevel": "FULL_TRANSITIVE"})

    async def _versions(self, request: web.Request) -> web.Response:
        if request.match_info["subject"] not in self._schemas:
            return _refuse(404, _SUBJECT_NOT_FOUND, "Subject not found.")
        return _answer([1])

    async def _version(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        if subject not in self._schemas:
            return _refuse(404, _SUBJECT_NOT_FOUND, "Subject not found.")
        if request.match_info["version"] not in ("1", "latest"):
            return _refuse(404, _VERSION_NOT_FOUND, "Version not found.")
        return _answer(self._described(subject))

    def _described(self, subject: str) -> dict[str, Any]:
        schema = json.dumps(self._schemas[subject])
        facts = {"subject": subject, "version": 1, "id": self._ids[subject], "guid": self._guid(subject)}
        return facts | {"schemaType": "AVRO", "schema": schema}

    def _guid(self, subject: str) -> str:
        return str(uuid.UUID(hex=schema_fingerprint(self._schemas[subject])[:32]))

    async def _by_id(self, request: web.Request) -> web.Response:
        for subject, schema_id in self._ids.items():
            if str(schema_id) == request.match_info["id"]:
                return _answer({"schemaType": "AVRO", "schema": json.dumps(self._schemas[subject])})
        return _refuse(404, _SCHEMA_NOT_FOUND, "Schema not found.")

    async def _by_guid(self, request: web.Request) -> web.Response:
        for subject in self._schemas:
            if self._guid(subject) == request.match_info["guid"]:
                return _answer(self._described(subject))
        return _refuse(404, _SCHEMA_NOT_FOUND, "Schema not found.")

    async def _look_up(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        if subject not in self._schemas:
            return _refuse(404, _SUBJECT_NOT_FOUND, "Subject not found.")
        if await _fingerprint_of_body(request) != schema_fingerprint(self._schemas[subject]):
            return _refuse(404, _SCHEMA_NOT_FOUND, "Schema not found.")
        return _answer(self._described(subject))

    async def _register(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        if subject in self._schemas:
            if await _fingerprint_of_body(request) == schema_fingerprint(self._schemas[subject]):
                return _answer({"id": self._ids[subject]})
            return _refuse(409, 409, "The schema differs from the committed one.")
        return _refuse(422, _READ_ONLY, "This registry holds the committed schemas only.")


async def _fingerprint_of_body(request: web.Request) -> str | None:
    try:
        schema = json.loads((await request.json())["schema"])
    except (ValueError, KeyError, TypeError):
        return None
    return schema_fingerprint(schema) if isinstance(schema, dict) else None


def _answer(body: Any) -> web.Response:
    return web.Response(text=json.dumps(body), content_type=_CONTENT_TYPE)


def _refuse(status: int, code: int, message: str) -> web.Response:
    body = json.dumps({"error_code": code, "message": message})
    return web.Response(text=body, status=status, content_type=_CONTENT_TYPE)
