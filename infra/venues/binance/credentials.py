"""Who we are to Binance: an API key and what signs for it, from files that nobody else can read.

Neither part is ever shown: not by ``repr``, not by a log line, not by an error. There is no way to give them by the
environment or by the settings file.
"""

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Final

from infra.settings_sources import SettingsError

_MODES: Final = frozenset({0o600, 0o400})
_MODES_OF_ROOTS: Final = frozenset({0o640, 0o440})
"""How Kubernetes mounts a secret for a reader who is not root: root's, and its group's to read."""
_SECRET_MAX: Final = 4096


class Credentials:
    """An API key with its HMAC-SHA256 secret."""

    __slots__ = ("_key", "_secret")

    def __init__(self, key: str, secret: str) -> None:
        self._key = key
        self._secret = secret.encode("ascii")

    def __repr__(self) -> str:
        return "Credentials(redacted)"

    def __reduce__(self) -> str:
        raise TypeError("credentials are not written down")

    @property
    def key(self) -> str:
        """Return the API key, for the request that carries it and for nothing else."""
        return self._key

    def sign(self, payload: str) -> str:
        """Return the signature of a payload that is percent-encoded already, as 64 hex digits."""
        return hmac.new(self._secret, payload.encode("ascii"), hashlib.sha256).hexdigest()


def read_credentials(key_file: Path, secret_file: Path, section: str = "venues.binance") -> Credentials:
    """Return what the two files hold. Raises SettingsError in one sentence, which quotes neither.

    ``section`` is where the settings name the files.
    """
    return Credentials(_read(f"{section}.api_key_file", key_file), _read(f"{section}.secret_file", secret_file))


def may_hold_a_key(mode: int, owner: int, reader: int) -> bool:
    """Tell whether a file of this mode and owner may hold a key of a reader; both are user ids."""
    return mode in _MODES or (mode in _MODES_OF_ROOTS and owner == 0 and reader != 0)


def _read(setting: str, path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{setting} names {path}, which is not a file.")
        mode = stat.S_IMODE(status.st_mode)
        if not may_hold_a_key(mode, status.st_uid, os.geteuid()):
            raise SettingsError(f"{setting}: {path} has mode {mode:04o}, but must have 0600 or 0400.")
        text = path.read_text(encoding="utf-8").strip() if status.st_size <= _SECRET_MAX else ""
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        text = ""
    if not (text.isascii() and text.isprintable() and text and " " not in text):
        raise SettingsError(f"{setting}: {path} does not hold one key on one line.")
    return text
