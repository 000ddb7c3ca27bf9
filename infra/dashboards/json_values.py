"""What the builders make: JSON, typed as far as that goes."""

from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Object: TypeAlias = dict[str, Json]


def uid_of(variable: str) -> str:
    """Return the reference to the data source that a reader of the board has chosen."""
    return "${" + variable + "}"
