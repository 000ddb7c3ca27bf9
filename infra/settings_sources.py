"""Where settings come from: a TOML file, then the environment, then the caller; each key keeps its origin.

``TRADERMIND__SECTION__KEY`` overrides a key. Case does not matter and every character of a name that a shell
does not allow is written ``_``: ``TRADERMIND__INSTRUMENTS__BINANCE_BTCUSDT__TICK_SIZE``.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

PREFIX: Final = "TRADERMIND__"
KeyPath = tuple[str, ...]
_STRUCTURED = ("[", "{", '"', "'")


class SettingsError(Exception):
    """Settings that cannot be used: one clear sentence that names the key."""


@dataclass(slots=True)
class Layers:
    """The merged values of all sources, and for each leaf where it came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def merge(self, values: Mapping[str, Any], origin: str) -> None:
        """Lay a source over what is there; tables merge, anything else replaces."""
        for path, value in _leaves(values, ()):
            if value == {} and self.existing(path) == path:
                continue
            self.put(path, value, origin)

    def put(self, path: KeyPath, value: Any, origin: str) -> None:
        """Set one leaf."""
        table = self.values
        for name in path[:-1]:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"{'.'.join(path)}: {name} is a value, not a table ({origin}).")
            table = inner
        table[path[-1]] = value
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]
        if value != {}:
            self.origins[path] = origin

    def existing(self, path: KeyPath) -> KeyPath:
        """Return the longest part of ``path`` that some source gave."""
        table: Any = self.values
        for length, name in enumerate(path):
            if not isinstance(table, Mapping) or name not in table:
                return path[:length]
            table = table[name]
        return path

    def whence(self, path: KeyPath) -> str:
        """Return `` (from <origin>)`` for the origin of ``path``, or nothing when no single source gave it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return f" (from {self.origins[path[:length]]})"
        return ""


def _leaves(values: Mapping[str, Any], above: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for name, value in values.items():
        path = (*above, str(name))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, dict(value) if isinstance(value, Mapping) else value


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file, its fractions as exact Decimals. Raises SettingsError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not valid TOML: {error}.") from error


def environment_values(environment: Mapping[str, str]) -> Iterator[tuple[str, KeyPath, Any]]:
    """Yield (variable, key path as written, value) of every setting in the environment, in the order of names."""
    for variable in sorted(environment):
        if not variable.upper().startswith(PREFIX):
            continue
        path = tuple(part.lower() for part in variable[len(PREFIX) :].split("__"))
        if len(path) < 2 or not all(path):
            raise SettingsError(f"{variable} does not name a section and a key, as in TRADERMIND__RUN__SEED.")
        yield variable, path, _parsed(variable, environment[variable])


def _parsed(variable: str, text: str) -> Any:
    if not text.startswith(_STRUCTURED):
        return text
    try:
        return tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{variable} is not a valid TOML value: {error}.") from error


def spelled_as_known(path: KeyPath, known: Mapping[str, Any]) -> KeyPath:
    """Return ``path`` with each part spelled as the tables of ``known`` spell it, where they have it."""
    spelled: list[str] = []
    table: Any = known
    for part in path:
        names = [name for name in table if _folded(name) == _folded(part)] if isinstance(table, Mapping) else []
        if len(names) > 1:
            raise SettingsError(f"{'.'.join(path)}: {part} could mean {' or '.join(sorted(names))}.")
        name = names[0] if names else part
        spelled.append(name)
        table = table.get(name) if isinstance(table, Mapping) else None
    return tuple(spelled)


def _folded(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "_", name.lower())


def override_path(key: str) -> KeyPath:
    """Return the key path of a dotted override such as ``kafka.bootstrap``."""
    return tuple(key.split("."))


def refuse_secrets(layers: Layers, environment: Mapping[str, str]) -> None:
    """Raise SettingsError for a secret that is given in any other way than by naming its file; it is not repeated."""
    if environment.get("PGPASSWORD"):
        raise SettingsError("PGPASSWORD is set: the database's password comes from the file in postgres.password_file.")
    for path, value in _leaves(layers.values, ()):
        # Of a database's address the section itself says what is wrong.
        if isinstance(value, str) and "://" in value and path != ("postgres", "dsn") and _holds_password(value):
            raise SettingsError(
                f"{'.'.join(path)} must not hold credentials{layers.whence(path)}: they come from files."
            )


def _holds_password(address: str) -> bool:
    try:
        return urlsplit(address).password is not None
    except ValueError:
        return "@" in address
