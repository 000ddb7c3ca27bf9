"""The committed Avro schemas, their ids, and the reader side of each record type.

In the embedded column ids come from ``schemas/avro/ids.json``; with a registry the same table is filled with the
registry's ids by whoever composes the process (``with_ids``).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, Self

import fastavro

from schemas.dead_letters import DeadLetterReason
from schemas.topics import TOPICS

_FOLDER: Final = files("schemas") / "avro"
_IDS_FILE: Final = "ids.json"
_SUFFIX: Final = ".avsc"


def schema_fingerprint(schema: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a schema's canonical JSON, docs left out: what makes two schemas the same."""
    return hashlib.sha256(_canonical(schema).encode()).hexdigest()


def _canonical(schema: Any) -> str:
    return json.dumps(_without_docs(schema), sort_keys=True, separators=(",", ":"))


def _without_docs(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _without_docs(value) for key, value in schema.items() if key != "doc"}
    if isinstance(schema, list):
        return [_without_docs(item) for item in schema]
    return schema


def parsed_schema(schema: Any) -> Any:
    """Return fastavro's form of a schema, descriptions left out. Raises what fastavro raises for one that is none."""
    return fastavro.parse_schema(_without_docs(schema))


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """One schema that records may have been written with: its record name and fastavro's parsed form."""

    record_name: str
    parsed: Any
    fingerprint: str


def committed_versions(folder: Traversable = _FOLDER) -> dict[str, dict[int, dict[str, Any]]]:
    """Return subject -> version -> schema of every committed file of the topic table, oldest version first.

    Raises FileNotFoundError when a subject has none.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {
        topic.subject(record): {} for topic in TOPICS.values() for record in topic.records
    }
    for file in folder.iterdir():
        subject, _, number = file.name.removesuffix(_SUFFIX).rpartition(".v")
        if file.name.endswith(_SUFFIX) and subject in found:
            found[subject][int(number)] = json.loads(file.read_text())
    for subject, versions in found.items():
        if not versions:
            raise FileNotFoundError(f"{subject} has no committed schema: run python -m schemas.generate")
    return {subject: dict(sorted(versions.items())) for subject, versions in found.items()}


def subject_schemas() -> dict[str, dict[str, Any]]:
    """Return subject -> the newest committed schema as JSON. Raises FileNotFoundError when one was not generated."""
    return {subject: versions[max(versions)] for subject, versions in committed_versions().items()}


class SchemaTable:
    """Ids and parsed schemas. Lookups never do I/O; an id that is not here is refused."""

    def __init__(self, writers: Mapping[int, WriterSchema], ids: Mapping[str, int]) -> None:
        self._writers = dict(writers)
        self._ids = dict(ids)
        self._by_guid = {bytes.fromhex(writer.fingerprint[:32]): writer for writer in self._writers.values()}

    @classmethod
    def committed(cls) -> Self:
        """Return the table of all committed versions; a subject's id is its newest one's.

        Raises FileNotFoundError when one was not generated.
        """
        ids: dict[str, int] = json.loads((_FOLDER / _IDS_FILE).read_text())
        writers: dict[int, WriterSchema] = {}
        subject_ids: dict[str, int] = {}
        for subject, versions in committed_versions().items():
            for schema in versions.values():
                fingerprint = schema_fingerprint(schema)
                subject_ids[subject] = schema_id = ids[fingerprint]
                if schema_id not in writers:
                    writers[schema_id] = WriterSchema(schema["name"], parsed_schema(schema), fingerprint)
        return cls(writers, subject_ids)

    def with_ids(self, subject_ids: Mapping[str, int]) -> "SchemaTable":
        """Return the same schemas under a registry's ids (subject -> id)."""
        by_subject = {subject: self._writers[schema_id] for subject, schema_id in self._ids.items()}
        writers = {subject_ids[subject]: writer for subject, writer in by_subject.items()}
        return SchemaTable(writers, subject_ids)

    def id_of(self, subject: str) -> int:
        """Return the id to write with. Raises KeyError for a subject that is not in the topic table."""
        return self._ids[subject]

    def writer(self, schema_id: int) -> WriterSchema | None:
        """Return the schema of an id, or None when it is not on the list."""
        return self._writers.get(schema_id)

    def all_writers(self) -> list[WriterSchema]:
        """Return every schema that records may have been written with."""
        return list(self._writers.values())

    def writer_by_guid(self, guid: bytes) -> WriterSchema | None:
        """Return the schema of a 16-byte GUID: the first half of its fingerprint, or what a registry says."""
        return self._by_guid.get(guid)

    def why_not(self, key: int | bytes) -> tuple[DeadLetterReason, str]:
        """Return why an id or a GUID names no schema here; the words are the end of a sentence."""
        del key
        return DeadLetterReason.SCHEMA_UNKNOWN, "is not registered"

    def subjects(self) -> dict[str, int]:
        """Return subject -> id."""
        return dict(self._ids)
