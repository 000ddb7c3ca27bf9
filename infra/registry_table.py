"""The committed schemas under a registry's ids, and what other teams have registered there, learnt as it turns up.

Decoding never waits for a network: a worker hands over what it has fetched (``learn``) before it decodes, and only
an id that was never seen costs a question. What the registry does not have is remembered for a while, so that a
thousand records with a wrong id are one question. While the registry is away, everything known flows, and what
carries a new id waits.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from infra.registry_client import Registered, RegistryClient, RegistryFailed, RegistryRefused, RegistryUnreachable
from infra.settings_registry import RegistrySettings
from schemas.codec import FRAME_BYTES, guid_of
from schemas.dead_letters import DeadLetterReason
from schemas.foreign_schema import ForeignSchemaRefused, foreign_writer
from schemas.schema_table import SchemaTable, WriterSchema, committed_versions, schema_fingerprint
from schemas.topics import TOPICS

LOG: Final = logging.getLogger("tradermind.registry")
_ASK_AT_ONCE: Final = 8
_REFUSED_KEPT_MAX: Final = 10_000
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0
_CACHE_FILE: Final = "registry-ids.json"
_Committed = Mapping[str, Sequence[Mapping[str, Any]]]
SchemaKey = int | bytes
"""What a record names its schema by: an id in its frame, or a GUID (16 bytes) in a header."""


RegisteredVersions = Mapping[str, Sequence[Registered]]
"""Subject -> what a registry has of its committed versions; the newest, which is written with, is the last."""


class Fetched(Protocol):
    """What is looked at in a record before it is decoded."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def value(self) -> bytes | None:
        """Its bytes."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers."""


class _Refusal(NamedTuple):
    """What is said of a schema until ``until_s`` on the table's clock, without asking again."""

    until_s: float
    verdict: tuple[DeadLetterReason, str]


class RegistryTable(SchemaTable):
    """A schema table that grows. ``blocking`` lets a look-up itself ask, for programs that replay or inspect a log."""

    def __init__(
        self,
        client: RegistryClient,
        ours: RegisteredVersions,
        negative_s: float,
        *,
        blocking: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = {writer.fingerprint: writer for writer in SchemaTable.committed().all_writers()}
        everything = [registered for versions in ours.values() for registered in versions]
        writers = {registered.schema_id: self._own[schema_fingerprint(registered.schema)] for registered in everything}
        super().__init__(writers, {subject: versions[-1].schema_id for subject, versions in ours.items()})
        for registered in everything:
            if registered.guid is not None:
                self._by_guid[registered.guid] = writers[registered.schema_id]
        self._client = client
        self._negative_s = negative_s
        self._blocking = blocking
        self._clock = clock
        self._refused: dict[SchemaKey, _Refusal] = {}
        self.questions = 0

    def writer(self, schema_id: int) -> WriterSchema | None:
        """Return the schema of an id, or None."""
        found = self._writers.get(schema_id)
        if found is None and self._blocking and self._is_open(schema_id):
            self._ask(schema_id)
            found = self._writers.get(schema_id)
        return found

    def writer_by_guid(self, guid: bytes) -> WriterSchema | None:
        """Return the schema of a GUID, or None."""
        found = self._by_guid.get(guid)
        if found is None and self._blocking and self._is_open(guid):
            self._ask(guid)
            found = self._by_guid.get(guid)
        return found

    def why_not(self, key: SchemaKey) -> tuple[DeadLetterReason, str]:
        """Return why a schema cannot be read with; the words are the end of a sentence."""
        return self._refused[key].verdict if key in self._refused else super().why_not(key)

    async def learn(self, records: Iterable[Fetched]) -> None:
        """Ask for every schema that these records name and nobody has seen; wait while the registry is away."""
        wait_s = _FIRST_WAIT_S
        for key in self._unseen(records):
            while True:
                try:
                    await asyncio.to_thread(self._ask, key)
                except RegistryUnreachable as error:
                    LOG.warning("a record waits for its schema %s: %s", _name(key), error)
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
                else:
                    break

    def _unseen(self, records: Iterable[Fetched]) -> list[SchemaKey]:
        keys: dict[SchemaKey, None] = {}
        for record in records:
            if record.topic not in TOPICS or not record.value:
                continue
            key: SchemaKey | None = guid_of(record.headers)
            if key is None:
                frame = record.value[:FRAME_BYTES]
                key = int.from_bytes(frame[1:], "big") if len(frame) == FRAME_BYTES and frame[0] == 0 else None
            if key is not None and key not in self._writers and key not in self._by_guid:
                keys[key] = None
        return [key for key in keys if self._is_open(key)]

    def _is_open(self, key: SchemaKey) -> bool:
        """Tell whether it is worth asking: the answer of a moment ago still holds."""
        refused = self._refused.get(key)
        return refused is None or refused.until_s <= self._clock()

    def _ask(self, key: SchemaKey) -> None:
        self.questions += 1
        try:
            registered = self._client.schema_of_id(key) if isinstance(key, int) else self._client.schema_of_guid(key)
            if registered is None:
                self._refuse(key, *super().why_not(key))
                return
            fingerprint = schema_fingerprint(registered.schema)
            writer = self._own.get(fingerprint) or foreign_writer(registered.schema)
        except (RegistryRefused, ForeignSchemaRefused) as refusal:
            self._refuse(key, DeadLetterReason.SCHEMA_REFUSED, f"is not read with: {refusal}")
            return
        self._refused.pop(key, None)
        if isinstance(key, int):
            self._writers[key] = writer
        else:
            self._by_guid[key] = writer

    def _refuse(self, key: SchemaKey, reason: DeadLetterReason, words: str) -> None:
        if len(self._refused) >= _REFUSED_KEPT_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = _Refusal(self._clock() + self._negative_s, (reason, words))


def open_registry_table(settings: RegistrySettings, directory: Path, *, blocking: bool = False) -> RegistryTable:
    """Return the committed schemas under the ids that the registry has given them.

    Ids never change, so they are kept in ``directory``: a worker that starts while the registry is away begins with
    those of the last start, and says so. Raises RegistryFailed when that is not possible, or when the registry lacks
    a schema of ours.
    """
    client = RegistryClient(settings)
    committed = {subject: list(versions.values()) for subject, versions in committed_versions().items()}
    cache = directory / _CACHE_FILE
    try:
        ours = registered_versions(client, committed)
    except RegistryUnreachable as error:
        kept = _read_cache(cache, client.url, committed)
        if kept is None:
            raise
        LOG.warning("%s The ids of %s are used.", error, cache)
        ours = kept
    else:
        _write_cache(cache, client.url, ours)
    return RegistryTable(client, ours, settings.negative_cache_s, blocking=blocking)


def registered_versions(client: RegistryClient, committed: _Committed) -> RegisteredVersions:
    """Return what the registry has of the committed versions. Raises RegistryFailed when it lacks a newest one."""
    pairs = [(subject, schema) for subject, versions in committed.items() for schema in versions]
    with ThreadPoolExecutor(_ASK_AT_ONCE) as pool:
        found = list(pool.map(lambda pair: client.look_up(*pair), pairs))
    ours: dict[str, list[Registered]] = {subject: [] for subject in committed}
    missing: list[str] = []
    for (subject, schema), registered in zip(pairs, found, strict=True):
        if registered is not None:
            ours[subject].append(registered)
        elif schema is committed[subject][-1]:
            missing.append(subject)  # Of a version that was never registered there can be no record.
    if missing:
        raise RegistryFailed(
            f"The schema registry {client.url} lacks {len(missing)} of our {len(committed)} schemas, the first under"
            f" {min(missing)}: run `tradermind schemas register`."
        )
    return ours


def _write_cache(cache: Path, url: str, ours: RegisteredVersions) -> None:
    rows = {
        subject: [[one.schema_id, schema_fingerprint(one.schema), (one.guid or b"").hex()] for one in versions]
        for subject, versions in ours.items()
    }
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f"{cache.name}.{os.getpid()}")
    partial.write_text(json.dumps({"url": url, "ids": rows}, indent=1) + "\n")
    partial.replace(cache)


def _read_cache(cache: Path, url: str, committed: _Committed) -> RegisteredVersions | None:
    """Return the kept ids, unless they are another registry's or lack what is written with now."""
    if not cache.is_file():
        return None
    kept: dict[str, Any] = json.loads(cache.read_text())
    if kept["url"] != url:
        return None
    ours: dict[str, list[Registered]] = {}
    for subject, versions in committed.items():
        schemas = {schema_fingerprint(schema): schema for schema in versions}
        rows = [row for row in kept["ids"].get(subject, ()) if row[1] in schemas]
        if not rows or rows[-1][1] != schema_fingerprint(versions[-1]):
            return None
        ours[subject] = [
            Registered(number, schemas[key], guid=bytes.fromhex(guid) or None) for number, key, guid in rows
        ]
    return ours


def _name(key: SchemaKey) -> str:
    return str(key) if isinstance(key, int) else key.hex()
