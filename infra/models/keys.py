"""Whose signatures on artefacts count: a mounted list, in the form of the list of people, and a key for development.

The private half of the development key is here for everybody to read, so that a fresh clone can train, sign and run.
Whoever lets it count lets anybody in: never where money is real.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.people import PeopleUnusable, PersonalKey, load_people

SIGNING_ROLE: Final = "model"
"""The role on the list whose holders may sign artefacts; it gives no say over limits."""
DEVELOPMENT_NAME: Final = "development"
_DEVELOPMENT_PRIVATE: Final = b"tradermind-development-no-secret"
AllowedKeys = Mapping[str, bytes]
"""Name of a key -> its public key, 32 bytes."""


def development_key() -> PersonalKey:
    """Return the key that everybody has."""
    return PersonalKey(DEVELOPMENT_NAME, Ed25519PrivateKey.from_private_bytes(_DEVELOPMENT_PRIVATE))


def allowed_keys(listed: Path | None, *, development: bool) -> dict[str, bytes]:
    """Return the keys that count: those of a list with the role ``model``, and the development key where it may.

    Raises PeopleUnusable for a list that cannot be used, or that names a key of its own ``development``.
    """
    people = {} if listed is None else load_people(listed)
    keys = {person.name: person.public_key for person in people.values() if person.role == SIGNING_ROLE}
    if DEVELOPMENT_NAME in people:
        raise PeopleUnusable(
            f"The list {listed} names somebody {DEVELOPMENT_NAME}: that is the key that everybody has."
        )
    if development:
        keys[DEVELOPMENT_NAME] = development_key().public_key
    return keys
