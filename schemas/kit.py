"""What another team needs to write to us or to read us, out of the installed package: schemas and examples.

``schemas`` can be installed and imported without the rest of TraderMind; it needs msgspec, fastavro and, for
``schemas.compatibility`` alone, avro. Who wants none of our code reads the same files: ``avro/*.avsc``,
``examples/accepted``, ``examples/refused`` and ``asyncapi.json``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from schemas.dead_letters import DeadLetterReason

_EXAMPLES: Final = files("schemas") / "examples"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record that every version must read: its bytes, framed with the committed id, and what is in it."""

    topic: str
    record: str
    framed: bytes
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that must be refused, the reason that the dead letter gives, and what is wrong with them."""

    topic: str
    framed: bytes
    reason: DeadLetterReason
    why: str


def accepted_examples() -> Iterator[Accepted]:
    """Yield one good record of every type on every topic."""
    for content in _read("accepted"):
        framed = bytes.fromhex(content["framed_hex"])
        yield Accepted(content["topic"], content["record"], framed, content["fields"])


def refused_examples() -> Iterator[Refused]:
    """Yield the bad records."""
    for content in _read("refused"):
        framed, reason = bytes.fromhex(content["framed_hex"]), DeadLetterReason(content["reason"])
        yield Refused(content["topic"], framed, reason, content["why"])


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document."""
    document: dict[str, Any] = json.loads((files("schemas") / "asyncapi.json").read_text())
    return document


def _read(folder: str) -> Iterator[dict[str, Any]]:
    for file in sorted((_EXAMPLES / folder).iterdir(), key=lambda file: file.name):
        yield json.loads(file.read_text())
