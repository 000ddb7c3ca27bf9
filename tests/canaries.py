"""Secrets that are planted in every place that takes one, and the search for them in everything that others may read.

Each is unlike anything else, so that a find is a leak. It is looked for as it is, and in the forms in which software
likes to write such things down: base64, hex digits, and as part of an address.
"""

import base64
import os
import secrets
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, TopicPartition
from psycopg import sql

from infra.kafka import Security, client_settings, log_ends, topic_partitions


@dataclass(slots=True)
class Canaries:
    """Secrets by name, each in a file of its own below ``folder`` that only its owner may read."""

    folder: Path
    planted: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str, secret: str | None = None, *, content: str = "{}") -> Path:
        """Write a secret, a new one unless it is given, into its file, inside ``content``; return the file."""
        self.planted[name] = secret or f"canary.{name}.{secrets.token_hex(12)}"
        return self._write(name, content.format(self.planted[name]))

    def plant_key(self, name: str, *, content: str = "{}") -> Path:
        """Write a key of 32 bytes in hex digits."""
        return self.plant(name, secrets.token_hex(32), content=content)

    def found_in(self, content: bytes) -> set[str]:
        """Return the names of the secrets that are in some bytes, in whatever form."""
        lowered = content.lower()
        return {
            name
            for name, secret in self.planted.items()
            if any(form in content or form.lower() in lowered for form in _forms(secret))
        }

    def leaks(self, sources: Iterable[tuple[str, bytes]]) -> list[str]:
        """Return one line for each secret and each place it was found in."""
        return [f"{name} is in {place}" for place, content in sources for name in sorted(self.found_in(content))]

    def _write(self, name: str, text: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path


def _forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    # In the middle of other base64 its first and last characters depend on what stands around it.
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw)
        yield coded[4 if shift else 0 : -4]
    if len(raw) == 64:  # A key in hex digits is also 32 bytes.
        yield bytes.fromhex(secret)
        yield base64.b64encode(bytes.fromhex(secret))[:-4]


def files_below(directory: Path, *, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a directory but those whose purpose is to hold a secret."""
    left_out = {path.resolve() for path in but}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.resolve() not in left_out and not any(
            parent in left_out for parent in path.resolve().parents
        ):  # fmt: skip
            yield str(path), path.read_bytes()


def seen_of_processes(pids: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """Yield the command line and the environment of each process."""
    for pid in pids:
        for what in ("cmdline", "environ"):
            yield f"/proc/{pid}/{what}", Path(f"/proc/{pid}/{what}").read_bytes()


def tables_of(dsn: str) -> Iterator[tuple[str, bytes]]:
    """Yield every table of a database as text; bytes are hex digits in it, as they are, and also as themselves."""
    with psycopg.connect(dsn) as connection:
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).fetchall()
        for (name,) in names:
            copy = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(name))
            with connection.cursor() as cursor, cursor.copy(copy) as rows:
                yield f"table {name}", b"".join(bytes(row) for row in rows)


def records_of(bootstrap: str, topics: Iterable[str], security: Security) -> Iterator[tuple[str, bytes]]:
    """Yield the records of each topic: keys, values and headers, as they lie there."""
    there = topic_partitions(bootstrap, security)
    slots = [(name, number) for name in topics for number in range(there.get(name, 0))]
    ends = {slot: end for slot, end in log_ends(bootstrap, slots, security).items() if end}
    reader = Consumer({**client_settings(bootstrap, security), "group.id": "canaries", "enable.partition.eof": False})
    reader.assign([TopicPartition(name, number, 0) for name, number in ends])
    found: dict[str, list[bytes]] = {}
    while ends:
        for message in reader.consume(1000, 1.0):
            assert message.error() is None, message.error()
            slot = (str(message.topic()), int(message.partition() or 0))
            headers = b"".join(str(name).encode() + (value or b"") for name, value in message.headers() or [])
            found.setdefault(slot[0], []).append((message.key() or b"") + (message.value() or b"") + headers)
            if slot in ends and int(message.offset() or 0) + 1 >= ends[slot]:
                del ends[slot]
    reader.close()
    yield from ((f"topic {name}", b"\n".join(records)) for name, records in found.items())


def without_secrets() -> dict[str, str]:
    """Return this process's environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRADERMIND__")}
