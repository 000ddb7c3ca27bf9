"""Who may sign what two people must want: a mounted list of people and their Ed25519 keys, and each person's own key.

The list is no secret, but whoever can write it can let anybody in; so it must not be open to others' writing. A line is
``<name> <role> <64 hex digits of the public key>``. A private key is its owner's alone and never leaves their file.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from infra.audit_keys import is_private
from infra.settings_sources import SettingsError
from schemas.changes import signed_bytes

SIGNING_ROLE: Final = "risk"
"""The role that may sign. Who only trades or looks has another one, and is refused."""
KEY_BYTES: Final = 32
ALLOW_LIST_NAME: Final = "people.allow"
_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_ROLE: Final = re.compile(r"[a-z_]{1,32}")
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_KIND: Final = "ed25519"


class PeopleUnusable(SettingsError):
    """The list of people or a person's key cannot be used: one sentence."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person: a name, a role and a public key."""

    name: str
    role: str
    public_key: bytes

    @property
    def may_sign(self) -> bool:
        """Whether this person's word counts."""
        return self.role == SIGNING_ROLE

    def signed(self, text: str, signature: str) -> bool:
        """Return whether a signature (hex) is this person's over the change with this canonical text."""
        return is_signed_by(self.public_key, signed_bytes(text), signature)


ReadPeople = Callable[[], Mapping[str, Person]]
"""Gives who is on the list now. Raises PeopleUnusable."""


@dataclass(frozen=True, slots=True)
class PersonalKey:
    """A person's private key. It shows nothing of itself when it is printed."""

    name: str
    key: Ed25519PrivateKey

    def __repr__(self) -> str:
        """Return the name alone."""
        return f"PersonalKey({self.name})"

    @property
    def public_key(self) -> bytes:
        """The public key that belongs to it."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, text: str) -> str:
        """Return the signature (hex) over the change with this canonical text."""
        return self.sign_bytes(signed_bytes(text))

    def sign_bytes(self, message: bytes) -> str:
        """Return the signature (hex) over a message, which must say for what it is: a key may sign several things."""
        return self.key.sign(message).hex()

    def line(self, role: str = SIGNING_ROLE) -> str:
        """Return the line that lets this person in."""
        return f"{self.name} {role} {self.public_key.hex()}"


def is_signed_by(public_key: bytes, message: bytes, signature: str) -> bool:
    """Return whether a signature (hex) over a message is by the owner of a public key (32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_people(path: Path) -> dict[str, Person]:
    """Return name -> person of a list. Raises PeopleUnusable, also for a list that others may write."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PeopleUnusable(f"The list of people {path} cannot be read: {_reason(error)}.") from error
    if mode & _WRITABLE_BY_OTHERS:
        raise PeopleUnusable(
            f"The list of people {path} may be written by others (mode {stat.S_IMODE(mode):04o}): chmod go-w {path}."
        )
    people: dict[str, Person] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            person = _parsed(path, number, line)
            if person.name in people or any(person.public_key == other.public_key for other in people.values()):
                raise PeopleUnusable(f"The list of people {path}, line {number}: this name or this key is there twice.")
            people[person.name] = person
    return people


def _parsed(path: Path, number: int, line: str) -> Person:
    parts = line.split()
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]) or not _ROLE.fullmatch(parts[1]):
        raise PeopleUnusable(f"The list of people {path}, line {number}: it is not `<name> <role> <hex digits>`.")
    try:
        key = bytes.fromhex(parts[2])
    except ValueError:
        raise PeopleUnusable(f"The list of people {path}, line {number}: the key is not in hex digits.") from None
    if len(key) != KEY_BYTES:
        raise PeopleUnusable(f"The list of people {path}, line {number}: a public key has {KEY_BYTES} bytes.")
    return Person(parts[0], parts[1], key)


def reader_of(path: Path | None) -> ReadPeople | None:
    """Return what reads the list anew each time, or None without one."""
    return None if path is None else partial(load_people, path)


def new_personal_key(path: Path, name: str) -> PersonalKey:
    """Make a key for a person in a new file that only its owner may read. Raises PeopleUnusable."""
    if not _NAME.fullmatch(name):
        raise PeopleUnusable(f"{name!r} is no name for a person: letters, digits, _ . @ and -, at most 64.")
    key = PersonalKey(name, Ed25519PrivateKey.generate())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{_KIND} {name} {key.key.private_bytes_raw().hex()}\n")
    except OSError as error:
        raise PeopleUnusable(f"The key {path} cannot be made: {_reason(error)}.") from error
    return key


def load_personal_key(path: Path) -> PersonalKey:
    """Return the key of a file. Raises PeopleUnusable, also for a file that is open to others."""
    try:
        with path.open(encoding="ascii") as file:
            status = os.fstat(file.fileno())
            parts = file.read().split()
    except (OSError, UnicodeDecodeError) as error:
        raise PeopleUnusable(f"The key {path} cannot be read: {_reason(error)}.") from error
    if not is_private(status.st_mode, status.st_uid, os.geteuid()):
        mode = stat.S_IMODE(status.st_mode)
        raise PeopleUnusable(f"The key {path} is open to others (mode {mode:04o}): chmod 600 {path}.")
    try:
        kind, name, digits = parts
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(digits))
    except ValueError:
        kind, name, key = "", "", None
    if key is None or kind != _KIND or not _NAME.fullmatch(name):
        raise PeopleUnusable(f"The key {path} is not what `tradermind person new-key` makes.")
    return PersonalKey(name, key)


def development_people(directory: Path) -> dict[str, str]:
    """Return the settings of two people whose keys lie beside what they protect, made here when they are not there.

    They are for a run on one machine that starts everything itself, so that the procedure can be tried: whoever can
    read the run's directory is both of them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    listed = directory / ALLOW_LIST_NAME
    if not listed.exists():
        lines = [new_personal_key(directory / f"{name}.key", name).line() for name in ("ann", "bob")]
        listed.write_text("\n".join(lines) + "\n", encoding="ascii")
        listed.chmod(0o644)
    return {"people.allow_list_file": str(listed)}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
