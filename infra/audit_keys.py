"""The keys of the audit: a file outside the database, which only its owner may read.

Whoever can write the database but not read this file can change rows of the audit, and cannot make the chain fit
again. Each line is ``<key id> <64 hex digits or more>``; the last line's key signs, all of them verify, so that a key
is replaced by adding a line. A line is only taken away when nothing that it signed is kept any more.
"""

import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.settings_sources import SettingsError

KEY_BYTES_MIN: Final = 32
MAC_BYTES: Final = 32
KEYS_NAME: Final = "audit.keys"
ANCHORS_NAME: Final = "audit.anchors"
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
_GROUP: Final = stat.S_IRWXG


class AuditKeysUnusable(SettingsError):
    """The file of keys is missing, open to others, or not what it has to be: one sentence."""


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """Keys by their id, and the id of the one that signs. It shows no key when it is printed."""

    by_id: dict[str, bytes]
    signing: str

    def __repr__(self) -> str:
        """Return the ids alone."""
        return f"AuditKeys({', '.join(self.by_id)}; signing with {self.signing})"

    def sign(self, message: bytes) -> bytes:
        """Return HMAC-SHA256 of a message under the signing key."""
        return hmac.digest(self.by_id[self.signing], message, "sha256")

    def verifies(self, key_id: str, message: bytes, mac: bytes) -> bool:
        """Tell whether ``mac`` is this key's of the message; an unknown key verifies nothing."""
        key = self.by_id.get(key_id)
        return key is not None and hmac.compare_digest(hmac.digest(key, message, "sha256"), mac)


def load_keys(path: Path) -> AuditKeys:
    """Return the keys of a file. Raises AuditKeysUnusable, also for a file that is not private."""
    try:
        with path.open(encoding="ascii") as file:
            status = os.fstat(file.fileno())
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise AuditKeysUnusable(
            f"The audit's keys {path} do not exist: `tradermind audit new-key {path}` makes one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AuditKeysUnusable(f"The audit's keys {path} cannot be read: {_reason(error)}.") from error
    if not is_private(status.st_mode, status.st_uid, os.geteuid()):
        mode = stat.S_IMODE(status.st_mode)
        raise AuditKeysUnusable(f"The audit's keys {path} are open to others (mode {mode:04o}): chmod 600 {path}.")
    by_id: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            key_id, key = _parsed(path, number, line)
            if key_id in by_id:
                raise AuditKeysUnusable(f"The audit's keys {path}, line {number}: the id {key_id} is there twice.")
            by_id[key_id] = key
    if not by_id:
        raise AuditKeysUnusable(f"The audit's keys {path} hold no key: `tradermind audit new-key {path}` makes one.")
    return AuditKeys(by_id, next(reversed(by_id)))


def is_private(mode: int, owner: int, reader: int) -> bool:
    """Tell whether a file of this mode and owner may hold a secret of a reader; both are user ids.

    It must be its owner's alone; as with libpq's client keys, one of root's may also be read by the group of a reader
    who is not root, which is how Kubernetes mounts a secret.
    """
    return not mode & (_OTHERS if owner == 0 and reader != 0 else _OTHERS | _GROUP)


def add_key(path: Path, key_id: str) -> AuditKeys:
    """Add a new random key, which signs from the next start on; make the file when there is none.

    Return the keys that the file then holds. Raises AuditKeysUnusable.
    """
    if not _ID.fullmatch(key_id):
        raise AuditKeysUnusable(f"{key_id!r} is no id of a key: letters, digits, _ . and -, at most 64.")
    if path.exists() and key_id in load_keys(path).by_id:
        raise AuditKeysUnusable(f"The audit's keys {path} have a key {key_id} already; an id is never used again.")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(f"{key_id} {secrets.token_hex(KEY_BYTES_MIN)}\n")
    except OSError as error:
        raise AuditKeysUnusable(f"The audit's keys {path} cannot be written: {_reason(error)}.") from error
    return load_keys(path)


def development_overrides(directory: Path) -> dict[str, str]:
    """Return the settings of an audit whose key lies beside what it protects, made here when it is not there.

    It is for a run on one machine that starts everything itself: whoever can write that database can read this key.
    """
    directory.mkdir(parents=True, exist_ok=True)
    keys = directory / KEYS_NAME
    if not keys.exists():
        add_key(keys, "development-1")
    return {"audit.key_file": str(keys), "audit.anchor_file": str(directory / ANCHORS_NAME)}


def _parsed(path: Path, number: int, line: str) -> tuple[str, bytes]:
    parts = line.split()
    if len(parts) != 2 or not _ID.fullmatch(parts[0]):
        raise AuditKeysUnusable(f"The audit's keys {path}, line {number}: it is not `<id> <hex digits>`.")
    try:
        key = bytes.fromhex(parts[1])
    except ValueError:
        raise AuditKeysUnusable(f"The audit's keys {path}, line {number}: the key is not in hex digits.") from None
    if len(key) < KEY_BYTES_MIN:
        raise AuditKeysUnusable(f"The audit's keys {path}, line {number}: a key has at least {KEY_BYTES_MIN} bytes.")
    return parts[0], key


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
