"""Write the committed contracts: ``python -m schemas.generate``. An id, once given, stays.

The files are the contract; ``make check`` fails when they differ from what the event types say. A version that has
been released (``--release``) is never written again: a later change of its type becomes the next version beside it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from schemas.asyncapi import asyncapi_document
from schemas.avro_schema import avro_schema
from schemas.schema_table import schema_fingerprint
from schemas.topics import TOPICS

FOLDER: Final = Path(__file__).parent / "avro"
ASYNCAPI: Final = Path(__file__).parent / "asyncapi.json"
_RELEASED: Final = "released.json"


def generated_files(folder: Path = FOLDER) -> dict[str, str]:
    """Return file name -> content of every schema file, and of the id table, as they should be."""
    released = _read(folder / _RELEASED)
    ids: dict[str, int] = _read(folder / "ids.json")
    contents = {f"{stem}.avsc": (folder / f"{stem}.avsc").read_text() for stem in released}
    for topic in TOPICS.values():
        for record in topic.records:
            schema = avro_schema(record)
            fingerprint = schema_fingerprint(schema)
            ids.setdefault(fingerprint, max(ids.values(), default=0) + 1)
            stem = _stem(topic.subject(record), fingerprint, released)
            contents.setdefault(f"{stem}.avsc", json.dumps(schema, indent=1) + "\n")
    if released:
        contents[_RELEASED] = json.dumps(released, indent=1) + "\n"
    contents["ids.json"] = json.dumps(ids, indent=1) + "\n"
    return contents


def _stem(subject: str, fingerprint: str, released: Mapping[str, str]) -> str:
    """Return the file of a subject's newest version: the last released one if that is it, else the one after it."""
    number = 1
    while (stem := f"{subject}.v{number}") in released:
        if released[stem] == fingerprint and f"{subject}.v{number + 1}" not in released:
            return stem
        number += 1
    return stem


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def write(folder: Path = FOLDER, *, release: bool = False) -> None:
    """Write what is missing or stale, and remove what no type stands behind; ``release`` freezes what there is."""
    folder.mkdir(exist_ok=True)
    contents = generated_files(folder)
    for name, content in contents.items():
        (folder / name).write_text(content)
    for path in folder.glob("*.avsc"):
        if path.name not in contents:
            path.unlink()
    if release:
        stems = sorted(path.stem for path in folder.glob("*.avsc"))
        frozen = {stem: schema_fingerprint(json.loads((folder / f"{stem}.avsc").read_text())) for stem in stems}
        (folder / _RELEASED).write_text(json.dumps(frozen, indent=1) + "\n")


def asyncapi_text() -> str:
    """Return the AsyncAPI document as it should be committed."""
    return json.dumps(asyncapi_document(), indent=1) + "\n"


def main() -> None:
    """Write the schemas, their ids and the AsyncAPI document."""
    write(release="--release" in sys.argv[1:])
    ASYNCAPI.write_text(asyncapi_text())


if __name__ == "__main__":
    main()
