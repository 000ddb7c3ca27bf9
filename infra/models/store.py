"""The store of artefacts, and the champion that comes with this package: one place that finds a model by its address.

What is found is checked anew each time it is read; a refusal is told aloud before it is raised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.artefacts import Artefact, ArtefactRefused, address_of, is_address, read_artefact, read_directory
from infra.models.alarm import sound
from infra.models.keys import AllowedKeys, allowed_keys
from infra.models.refusals import Refusal
from infra.settings import Settings
from infra.settings_sources import SettingsError

SHIPPED: Final = Path(__file__).parent / "champion"
SHIPPED_NAME: Final = "shipped"
Alarm = Callable[[str, ArtefactRefused], None]
"""Is told the address that was asked for, and why it was refused."""


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Artefacts below ``directory``, by address, and the shipped one; ``keys`` are those whose signatures count."""

    directory: Path
    keys: AllowedKeys
    alarm: Alarm = sound
    shipped: Path = SHIPPED

    def read(self, sha256: str) -> Artefact:
        """Return the artefact of an address. Raises ArtefactRefused, after the alarm."""
        try:
            return self._read(sha256)
        except ArtefactRefused as refused:
            self.alarm(sha256, refused)
            raise

    def _read(self, sha256: str) -> Artefact:
        if is_address(sha256) and not (self.directory / sha256).exists() and address_of(self.shipped) == sha256:
            return read_directory(self.shipped, self.keys)
        return read_artefact(self.directory, sha256, self.keys)

    def addresses(self) -> tuple[str, ...]:
        """Return what is there to be read, sorted; whether it can be is another question."""
        found = {entry.name for entry in self.directory.glob("*") if is_address(entry.name)}
        shipped = address_of(self.shipped)
        return tuple(sorted(found | ({shipped} if shipped is not None else set())))

    def champion(self, named: str) -> str:
        """Return the address of ``models.champion``. Raises ArtefactRefused when none is shipped."""
        if named != SHIPPED_NAME:
            return named
        found = address_of(self.shipped)
        if found is None:
            raise ArtefactRefused(Refusal.NO_SUCH_ARTEFACT, "no champion is shipped with this package")
        return found


def store_of(settings: Settings, alarm: Alarm = sound) -> ModelStore:
    """Return the store that the settings name. Raises SettingsError, also where everybody's key would trade money."""
    models, binance = settings.models, settings.venues.binance
    if models.allow_development_key and binance is not None and binance.profile == "production":
        raise SettingsError(
            "models.allow_development_key must be false where venues.binance.profile is 'production': everybody has"
            " that key."
        )
    keys = allowed_keys(models.allowed_keys_file, development=models.allow_development_key)
    return ModelStore(models.directory, keys, alarm)
