"""What trading has cost before, in the settings: what a run believes until its own fills have taught it better.

`tradermind tca --write FILE` writes these sections from the record of a run.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from infra.settings_sections import InstrumentName, NotNegative, Number, Rate, Section
from infra.settings_sources import SettingsError, read_toml


class CostSettings(Section):
    """Costs of one instrument, as fractions of the mid, worth the evidence of so many ``fills``.

    ``excess``: beyond the quoted half-spread. ``impact_coefficient``: of the mid's move per root of the notional.
    """

    excess: Rate = Decimal(0)
    fee: Rate
    impact_coefficient: Number = Decimal(0)
    fills: Annotated[NotNegative, Field(le=100_000)]


CostTables = dict[InstrumentName, CostSettings]
_ADAPTER: TypeAdapter[CostTables] = TypeAdapter(CostTables)


def read_costs(path: Path) -> CostTables:
    """Return the ``costs`` of a TOML file. Raises SettingsError."""
    try:
        return _ADAPTER.validate_python(read_toml(path).get("costs"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("costs", *map(str, first["loc"])))
        raise SettingsError(f"{path}: {where}: {first['msg']}.") from error


def costs_as_toml(costs: Mapping[str, CostSettings]) -> str:
    """Return the sections as they stand in a settings file."""
    lines = ["# What trading has cost: written by `tradermind tca --write`, to be put into the settings."]
    for name, item in sorted(costs.items()):
        lines += ["", f'[costs."{name}"]']
        lines += [f"{field} = {value}" for field, value in item.model_dump().items()]
    return "\n".join(lines) + "\n"
