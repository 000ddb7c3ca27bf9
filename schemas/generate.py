"""Write the committed schemas and their ids: ``python -m schemas.generate``. An id, once given, stays.

The files are the contract; ``make check`` fails when they differ from what the event types say.
"""

import json
from pathlib import Path

from schemas.avro_schema import avro_schema
from schemas.schema_table import schema_fingerprint, subject_files

FOLDER = Path(__file__).parent / "avro"


def generated_files() -> dict[str, str]:
    """Return file name -> content of every schema file, and of the id table, as they should be."""
    ids_path = FOLDER / "ids.json"
    ids: dict[str, int] = json.loads(ids_path.read_text()) if ids_path.exists() else {}
    contents: dict[str, str] = {}
    for stem, (_, record) in subject_files().items():
        schema = avro_schema(record)
        fingerprint = schema_fingerprint(schema)
        ids.setdefault(fingerprint, max(ids.values(), default=0) + 1)
        contents[f"{stem}.avsc"] = json.dumps(schema, indent=1) + "\n"
    contents["ids.json"] = json.dumps(ids, indent=1) + "\n"
    return contents


def main() -> None:
    """Write what is missing or stale, and remove what no type stands behind."""
    FOLDER.mkdir(exist_ok=True)
    contents = generated_files()
    for name, content in contents.items():
        (FOLDER / name).write_text(content)
    for path in FOLDER.glob("*.avsc"):
        if path.name not in contents:
            path.unlink()


if __name__ == "__main__":
    main()
