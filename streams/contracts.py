"""Which schemas a process reads and writes with: the committed table, or the ids that a registry has given it."""

from infra.registry_table import RegistryTable, open_registry_table
from infra.settings import Settings
from schemas.schema_table import SchemaTable


def schema_table(settings: Settings, *, blocking: bool = False) -> SchemaTable:
    """Return the table of these settings.

    ``blocking`` is for programs that read a log without the worker's look ahead: a look-up may then ask the registry.
    Raises RegistryFailed when a registry is named that cannot be used.
    """
    if settings.registry.url is None:
        return SchemaTable.committed()
    return open_registry_table(settings.registry, settings.run.directory, blocking=blocking)


def learns(table: SchemaTable) -> RegistryTable | None:
    """Return the table if it grows by what a worker fetches, else None."""
    return table if isinstance(table, RegistryTable) else None
